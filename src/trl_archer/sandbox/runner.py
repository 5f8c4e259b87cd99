"""Runs programs one after the other, each in a fresh interpreter behind the kernel's walls.

A runner forks, so it lives in a process with a single thread, a worker of [`~trl_archer.workers.WorkerPool`], and never
in the trainer.
"""

import contextlib
import errno
import fcntl
import math
import os
import resource
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from . import system
from .filter import NOT_EXECUTABLE
from .isolation import MAX_FILES, Isolation, interpreter, package_paths, prepare
from .program import Limits, Program, Run, SandboxError, bootstrap

_STARTED = "started"  # written by the bootstrap
_START_SECONDS = 60.0
_WATCH_SECONDS = 0.02  # how often threads and files are counted
_MAX_THREADS = 64
_MOST_MAPS = 2**20  # bytes of their description; 10,000 or more
_PATIENCE_SECONDS = 10.0
_CHECKS = 3  # on a busy machine a check may time out
_STDERR_CHARACTERS = 2000
_STACK_MIB = 64  # of the main thread; the bootstrap sets a smaller one for others

# Each line attempts something that must fail, and prints it if it succeeds
_CHECK = """
import os, sys
canary, worker = sys.stdin.read().split()
def attempt(what, action):
    try:
        action()
    except (OSError, PermissionError):
        return
    print(what)
attempt("read a file", lambda: open(canary).read())
attempt("write a file", lambda: open(canary, "a"))
attempt("start a process", lambda: os.fork() or os._exit(0))
attempt("signal another process", lambda: os.kill(int(worker), 0))
attempt("change a file's mode", lambda: os.chmod("program.py", 0o777))
attempt("open a file without a mode", lambda: os.open(canary, 3))
attempt("open a socket", lambda: __import__("socket").socket())
"""


class Runner:
    """
    Runs programs under fixed conditions. Creating one raises `SandboxError` if this machine lacks something that the
    isolation needs, or a check program breaks out.
    """

    def __init__(self, isolation: Isolation, limits: Limits, packages: Sequence[str] = ()):
        self.isolation = isolation
        self.limits = limits
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-"))
        self._scratch = self._folder / "runs" / "scratch"
        self._new_scratch()
        system.adopt_orphans()
        try:
            self._prepare(packages)
        except BaseException:
            self.close()
            raise

    def _prepare(self, packages: Sequence[str]) -> None:
        paths = package_paths(packages)
        self._walls = prepare(self.isolation, str(self._scratch), paths, self.limits.scratch_mib)
        code = bootstrap(started="4", request="3", result="3")
        self._command = [*self._walls.command([interpreter(), *"-s -S -P -B -X utf8 -c".split(), code])]
        self._environment = {
            "HOME": str(self._scratch),
            "TMPDIR": str(self._scratch),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(os.path.dirname(path) for path in paths)),
            "PYTHONHASHSEED": "0",  # makes the order of printed sets deterministic
            "MALLOC_ARENA_MAX": "1",  # an arena per thread would take 64 MiB of address space each
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        if self.isolation != "unsafe":
            self._check()

    def close(self) -> None:
        """Removes the scratch folder."""
        self._scratch.parent.chmod(0o700)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, program: Program) -> Run:
        """Runs a program to its end or a limit. `SandboxError` if the interpreter could not be started, never later."""
        if not self._walls.has_own_scratch:
            _patiently(self._new_scratch)
        with contextlib.ExitStack() as stack:
            stdin, stdout, stderr, result = (stack.enter_context(_memory_file()) for _ in range(4))
            stdin.write(program.stdin.encode(errors="replace"))
            stdin.seek(0)
            result.write(program.request().encode(errors="surrogatepass"))
            result.seek(0)
            started, start_writer = os.pipe()
            stack.callback(os.close, started)
            try:
                pid = self._spawn([stdin.fileno(), stdout.fileno(), stderr.fileno(), result.fileno(), start_writer])
            finally:
                os.close(start_writer)
            try:
                message = _until_started(started)
                if message != _STARTED:
                    raise SandboxError(f"The sandboxed interpreter did not start: {message} {_text(stderr)}")
                begin = time.monotonic()
                scratch = self._open_scratch(pid)
                if scratch is not None:
                    stack.callback(os.close, scratch)
                limit = self._await_end(pid, scratch, begin + self.limits.wall_seconds)
                seconds = time.monotonic() - begin
            finally:
                os.kill(pid, signal.SIGKILL)
                status, used_cpu = _reap(pid)
            written = stdout.seek(0, os.SEEK_END) + result.seek(0, os.SEEK_END)
            if limit is None and (written >= self.limits.file_mib * 2**20 or self._is_full(scratch)):
                limit = "output"
            # Killed, directly or under bubblewrap: its CPU time may be missing if several processes end at once
            if os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 128 + signal.SIGKILL):
                used_cpu = max(used_cpu, seconds)
            if limit is None and status and used_cpu >= 0.9 * self.limits.cpu_seconds:
                limit = "timeout"
            if limit == "output":
                stdout.truncate(min(2**16, stdout.seek(0, os.SEEK_END)))
                result.truncate(0)
            return Run(
                status=limit or ("failed" if status else "ended"),
                stdout=_text(stdout),
                stderr=_text(stderr)[-_STDERR_CHARACTERS:],
                value=_text(result) or None,
                seconds=seconds,
            )

    def _spawn(self, descriptors: Sequence[int]) -> int:
        parent = os.getpid()
        pid = _patiently(os.fork)
        if pid:
            return pid
        start_writer = descriptors[-1]
        try:
            system.end_with(parent)
            os.setsid()
            Path("/proc/self/oom_score_adj").write_text("1000")  # first to be killed when memory is short
            copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 32) for descriptor in descriptors]
            start_writer = copies[-1]
            self._limit()
            os.umask(NOT_EXECUTABLE)
            self._walls.enter()  # before the descriptors that it needs are overwritten
            os.chdir(self._scratch)
            for target, copy in enumerate(copies):
                os.dup2(copy, target)
            os.closerange(self._walls.first_closed_descriptor, 2**16)
            start_writer = len(copies) - 1
            os.execve(self._command[0], self._command, self._environment)
        except BaseException as error:
            os.write(start_writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(1)

    def _limit(self) -> None:
        limits = self.limits
        for kind, value in (
            (resource.RLIMIT_CPU, limits.cpu_seconds),
            (resource.RLIMIT_AS, limits.memory_mib * 2**20),
            (resource.RLIMIT_FSIZE, limits.file_mib * 2**20),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_STACK, _STACK_MIB * 2**20),
            (resource.RLIMIT_CORE, 1),  # too small for a core file; 0 would still start a core handler
        ):
            ceiling = resource.getrlimit(kind)[1]
            if ceiling != resource.RLIM_INFINITY:
                value = min(value, ceiling)
            # Contest programs raise the limit of their stack, which is part of their address space
            resource.setrlimit(kind, (value, ceiling if kind == resource.RLIMIT_STACK else value))

    def _await_end(
        self, pid: int, scratch: int | None, deadline: float
    ) -> Literal["timeout", "output", "failed"] | None:
        """Waits for a program and returns the limit that it hit, if any."""
        pool = os.getppid()
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            while not poll.poll(1000 * max(0.0, min(_WATCH_SECONDS, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    return "timeout"
                if _threads(pid) > _MAX_THREADS:
                    return "failed"
                if self._is_full(scratch) or (not self._walls.has_own_scratch and self._holds_too_much(pid)):
                    return "output"
                if os.getppid() != pool:
                    raise SystemExit("Nobody is waiting for the result.")
        finally:
            os.close(descriptor)
        return None

    def _open_scratch(self, pid: int) -> int | None:
        """A descriptor for a program's own scratch file system. `None` if it has none, or has ended."""
        if self._walls.has_own_scratch:
            with contextlib.suppress(OSError):
                return os.open(f"/proc/{_innermost(pid)}/root{self._scratch}", os.O_PATH)
        return None

    def _is_full(self, scratch: int | None) -> bool:
        if scratch is None:
            return False
        now = os.statvfs(scratch)
        return now.f_bfree == 0 or now.f_ffree == 0 or now.f_files - now.f_ffree > MAX_FILES

    def _holds_too_much(self, pid: int) -> bool:
        """
        Whether the files in the scratch folder, and the deleted ones that a program still uses, are more than it may
        have. Files without a name count in full, as a map of one page keeps all of a file.
        """
        held = _nameless_files(pid, os.fspath(self._scratch)) * self.limits.file_mib * 2**20
        for count, entry in enumerate(os.scandir(self._scratch)):
            with contextlib.suppress(FileNotFoundError):
                held += 512 * entry.stat(follow_symlinks=False).st_blocks
            if count > MAX_FILES:
                return True
        return held > self.limits.scratch_mib * 2**20

    def _new_scratch(self) -> None:
        """Makes an empty scratch folder, in a folder in which no program can write."""
        around = self._scratch.parent
        around.mkdir(exist_ok=True)
        around.chmod(0o700)
        if self._scratch.exists():
            shutil.rmtree(self._scratch)
        self._scratch.mkdir(mode=0o700)
        around.chmod(0o500)

    def _check(self) -> None:
        canary = self._folder / "canary"
        canary.write_text("a file outside the scratch folder")
        for _ in range(_CHECKS):
            run = self.run(Program(_CHECK, stdin=f"{canary}\n{os.getpid()}"))
            if run.status != "timeout":
                break
        if run.status != "ended" or run.stdout:
            raise SandboxError(
                f"The isolation {self.isolation!r} does not work on this machine: a check program could "
                f"{', '.join(run.stdout.splitlines()) or f'not be run ({run.status}: {run.stderr})'}."
            )


def _patiently(action: Callable[[], Any]) -> Any:
    """Repeats what fails while another program uses all processes or all of the disk, which its limits soon end."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOSPC, errno.EDQUOT) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _reap(pid: int) -> tuple[int, float]:
    """Waits for a process and all its orphans. Returns its status and the CPU time of all."""
    status, used = 0, 0.0
    while True:
        for child in _children(os.getpid()):  # children of unsafe programs outlive them
            os.kill(child, signal.SIGKILL)
        try:
            ended, code, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return status, used
        if ended == pid:
            status = code
        used += usage.ru_utime + usage.ru_stime


def _threads(pid: int) -> int:
    """Threads of a process and its descendants."""
    try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # the process has just ended
        return 0
    return threads + sum(map(_threads, _children(pid)))


def _innermost(pid: int) -> int:
    """The program itself, behind the processes of bubblewrap."""
    while children := _children(pid):
        pid = children[0]
    return pid


def _nameless_files(pid: int, folder: str) -> float:
    """How many deleted files of a folder a process has open or mapped. Infinite if it has more maps than is usual."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            text = maps.read(_MOST_MAPS + 1)
        links = [os.fsencode(os.readlink(link)) for link in os.scandir(f"/proc/{pid}/fd")]
    except OSError:  # the process has just ended
        return 0
    if len(text) > _MOST_MAPS:
        return math.inf
    beginning = os.fsencode(f"{folder}/")
    return sum(name.endswith(b" (deleted)") and beginning in name for name in text.split(b"\n") + links)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _memory_file() -> BinaryIO:
    descriptor = os.memfd_create("stream")
    os.fchmod(descriptor, 0o600)  # nobody can execute it
    return open(descriptor, "r+b", buffering=0)


def _text(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _until_started(started: int) -> str:
    """What the new process writes before it starts the program. The pipe is closed after that."""
    message = b""
    poll = select.poll()
    poll.register(started, select.POLLIN)
    while message != _STARTED.encode() and poll.poll(1000 * _START_SECONDS):
        chunk = os.read(started, 4096)
        if not chunk:
            break
        message += chunk
    return message.decode(errors="replace")
