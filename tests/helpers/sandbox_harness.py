"""A single-threaded process with sandbox runners, driven by tests. It can have another user and interpreter.

Tests use [`Harness`]. The code that the process executes is below it. Standard library and sandbox only.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

if __name__ != "__main__":
    from trl_archer.sandbox import Limits, Program, Run


_SEEN = ("mode", "uid", "gid", "nlink", "size", "mtime_ns", "ctime_ns")


class Report(NamedTuple):
    """A run, the time the runner needed, and what the run left behind."""

    run: "Run"
    seconds: float
    children: list[int]
    descriptors: int
    scratch: list[str]


class Harness:
    """
    A process with runners, its folder for temporary files, and another folder that no program may touch.

    Args:
        python (`str`): Its interpreter.
        path (`str`): Its `PYTHONPATH`.
        script (`str`, *optional*): Path of this file.
        user (`int`, *optional*): Its user and group. Those of this process if `None`.
    """

    def __init__(self, python: str, path: str, script: str = __file__, user: int | None = None):
        self.user = user
        self.folder = Path(tempfile.mkdtemp(prefix="sandbox-test-"))  # for all files of the process
        outside = self.folder / "outside"
        outside.mkdir()
        (outside / "canary").write_text("untouched")
        (outside / "tool").write_text(f"#!/bin/sh\necho touched > {outside}/canary\n")
        for entry, mode in ((outside, 0o777), (outside / "canary", 0o666), (outside / "tool", 0o755)):
            entry.chmod(mode)
            os.chown(entry, *((user, user) if user is not None else (-1, -1)))
        self.folder.chmod(0o777)
        self.outside = outside
        self._process = subprocess.Popen(
            [python, "-B", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(self.folder),
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": "1",
                "HF_TOKEN": "secret",
            },
            **({} if user is None else {"user": user, "group": user, "extra_groups": []}),  # type: ignore[arg-type]
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, *request: object) -> None:
        self._process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]

    def receive(self) -> Any:
        reply = json.loads(self._process.stdout.readline() or '["died", "the harness died"]')  # type: ignore[union-attr]
        if reply[0] != "fine":
            raise RuntimeError(": ".join(reply))
        return reply[1]

    def open(self, isolation: str, limits: "Limits", delay: float = 0.0) -> int:
        """Number of a new runner. `delay` makes its interpreters start slowly."""
        self.send("open", isolation, vars(limits), delay)
        return self.receive()

    def run(self, runner: int, program: "Program") -> Report:
        self.send("run", runner, program)
        return _report(self.receive())

    def state(self) -> tuple[int, int]:
        """The number of open descriptors of the process, and its resident memory in KiB."""
        self.send("state")
        return tuple(self.receive())

    def canary(self) -> tuple:
        """The full state of the files that no program may touch."""
        return tuple(
            (path.name, *(getattr(path.stat(), f"st_{name}") for name in _SEEN), tuple(os.listxattr(path)))
            for path in (self.outside, *sorted(self.outside.iterdir()))
        )

    def descendants(self) -> list[int]:
        """The runner's child, that child's child, and so on down to the running program."""
        found = [self.pid]
        while children := _children(found[-1]):
            found.append(children[0])
        return found[1:]

    def strays(self) -> list[str]:
        """All processes that come from this harness, except its own."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (self.pid, os.getpid()):
                with contextlib.suppress(OSError):
                    traces = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                    if str(self.folder) in f"{traces!r} {os.readlink(entry / 'cwd')}":
                        found.append(entry.name)
        return found

    def close(self) -> None:
        """Makes the process close its runners and end."""
        self._process.stdin.close()  # type: ignore[union-attr]
        assert self._process.wait(timeout=30) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        """Kills the process if it still runs, and removes its folder."""
        with self._process:
            self._process.kill()
        shutil.rmtree(self.folder)


def _report(reply: list) -> Report:
    return Report(Run(*reply[0]), *reply[1:])


# Runs in the process


def _serve() -> None:
    from trl_archer.sandbox.program import Limits, Program
    from trl_archer.sandbox.runner import Runner

    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for descriptor in (40, 400):  # some libraries open such descriptors; no program may inherit them
        os.dup2(2, descriptor)
    runners: list[Runner] = []

    def answer(kind: str, *arguments: Any) -> Any:
        if kind == "open":
            isolation, limits, delay = arguments
            runners.append(Runner(isolation, Limits(**limits)))
            if delay:
                runners[-1]._command[-1] = f"import time\ntime.sleep({delay})\n" + runners[-1]._command[-1]
            return len(runners) - 1
        if kind == "state":
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
            return _descriptors(), resident
        runner = runners[arguments[0]]
        begin = time.monotonic()
        run = runner.run(Program(*arguments[1]))
        seconds = time.monotonic() - begin
        return run, seconds, _children(os.getpid()), _descriptors(), sorted(os.listdir(runner._scratch))

    for line in requests:
        try:
            reply = "fine", answer(*json.loads(line))
        except BaseException as error:
            reply = type(error).__name__, str(error)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    for runner in runners:
        runner.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    _serve()
