"""A pool of worker processes. Any of them can be killed at any time without harming the others."""

import contextlib
import json
import math
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import IO, Any, Literal, NamedTuple

if sys.platform != "linux":
    raise ImportError(
        f"The rewards `math` and `code` and the sandbox need Linux, but this is {sys.platform}. Other rewards do not: "
        "a function of your own, `countdown`, or TRL's `trl.rewards.accuracy_reward`. For these two, use WSL 2 on "
        "Windows, or a Linux container on macOS."
    )

import resource  # on Unix only

# multiprocessing, and libraries built on it, run the user's script again in every worker unless it is guarded by
# `if __name__ == "__main__"`, and training scripts often are not. These workers import a single function.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trl_archer.workers import serve; serve()"
_START_SECONDS = 120.0  # importing sympy from a cold network disk is slow
_END_SECONDS = 5.0  # a killed process may be stuck in the kernel, for example on a network disk
_GRACE_SECONDS = 0.5  # to react to an interrupt, which keeps the worker and its imports alive
_MAX_REPLY = 64 * 2**20
_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TZ")  # no tokens, no keys


class Outcome(NamedTuple):
    """
    Result of one call. Failures: stopped at the time limit, stopped at the memory limit, two workers died over it, the
    function raised.
    """

    value: Any  # what the function returned, `None` if the call failed
    failure: Literal["time", "memory", "died", "error"] | None = None
    detail: str = ""  # text of the exception, or how the worker died


def workers_per_rank() -> int:
    """The cores available to this process, divided by the ranks on its machine. At least 1 and at most 64."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return min(64, max(1, len(os.sched_getaffinity(0)) // max(1, ranks)))


class WorkerPool:
    """
    Calls one function on many items in processes that are killed at a time limit and replaced.

    Items and results are sent as JSON, so nothing that a worker sends is executed here. Workers share no memory and no
    descriptors with this process, see no secrets in their environment, and end with this process. The function is given
    by its import path `"module:name"`. `memory_mib` limits a worker's address space. A worker that sends more than
    `max_reply` bytes is killed.

    Example:

    ```python
    >>> with WorkerPool("math:factorial", workers=1) as pool:
    ...     [outcome.value or outcome.detail for outcome in pool.map([3, -1], seconds=5)]
    [6, 'ValueError: factorial() not defined for negative values']

    ```
    """

    def __init__(
        self,
        function: str,
        workers: int | None = None,
        memory_mib: int | None = None,
        max_reply: int = _MAX_REPLY,
    ):
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; it must be at least 1.")
        self.workers = workers or workers_per_rank()
        self._owner = os.getpid()
        folder = tempfile.mkdtemp(prefix="trl-archer-")  # removed by workers if this process is killed
        self._workers = [_Worker(function, memory_mib, folder, max_reply) for _ in range(self.workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._finalizer = weakref.finalize(self, _shut_down, self._owner, self._workers, self._idle, folder)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the workers and removes their temporary files. Also runs when the interpreter exits."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed, or belongs to the process that this one was forked from."""
        return not self._finalizer.alive or os.getpid() != self._owner

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        processes = [worker.process for worker in self._workers]
        return [process.pid for process in processes if process is not None]

    def map(self, items: Sequence[Any], seconds: float) -> list[Outcome]:
        """
        Calls the function on every item that JSON can represent, and returns the outcomes in their order.

        After `seconds` of wall time an exception interrupts the function. A worker that does not react within half a
        second is killed and replaced. `RuntimeError` if the pool is closed, or a worker cannot be started.
        """
        if self.closed:
            raise RuntimeError("The worker pool is closed. Create a new one.")
        outcomes: list[Outcome | None] = [None] * len(items)
        todo = iter(range(len(items)))
        take, failures = threading.Lock(), list[BaseException]()

        def work() -> None:
            worker = self._idle.get()
            try:
                while not failures:
                    with take:
                        index = next(todo, None)
                    if index is None:
                        break
                    outcomes[index] = worker.call(items[index], seconds)
            except BaseException as error:
                failures.append(error)
            finally:
                self._idle.put(worker)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.workers, len(items)))]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as interrupt:  # nobody is waiting for these items anymore
            failures.append(interrupt)
            self.close()
            raise
        if failures:
            raise failures[0]
        return [outcome for outcome in outcomes if outcome is not None]


def shared_pool(
    function: str, workers: int | None = None, memory_mib: int | None = None, max_reply: int = _MAX_REPLY
) -> WorkerPool:
    """This process's pool for a function and its settings. A closed pool, or one of a parent process, is replaced."""
    key = (function, workers, memory_mib, max_reply)
    with _shared_lock:
        if key not in _shared or _shared[key].closed:
            _shared[key] = WorkerPool(*key)
        return _shared[key]


_shared: dict[tuple[str, int | None, int | None, int], WorkerPool] = {}
_shared_lock = threading.Lock()


def _shut_down(owner: int, workers: "list[_Worker]", idle: "queue.SimpleQueue[_Worker]", folder: str) -> None:
    if os.getpid() == owner:
        for worker in workers:
            worker.stop()
        for _ in range(idle.qsize()):  # busy workers are closed by the thread that waits for their answer
            with contextlib.suppress(queue.Empty):
                worker = idle.get_nowait()
                worker.kill()
                idle.put(worker)
        shutil.rmtree(folder, ignore_errors=True)


class _Worker:
    """One process, started on demand and restarted after it was killed."""

    def __init__(self, function: str, memory_mib: int | None, pool_folder: str, max_reply: int):
        self._function, self._memory_mib, self._max_reply = function, memory_mib, max_reply
        self._pool_folder, self._folder = pool_folder, ""
        self.process: subprocess.Popen | None = None
        self._errors: IO[bytes] | None = None  # standard error of the process
        self._stopped = False

    def call(self, item: Any, seconds: float) -> Outcome:
        request = json.dumps([item, seconds]).encode() + b"\n"
        for attempt in (1, 2):  # the item may not be what killed the worker
            try:
                process = self._started()
                deadline = _until(seconds + _GRACE_SECONDS)
                _write(process.stdin.fileno(), request, deadline)  # type: ignore[union-attr]
                value, failure, detail = self._receive(process, deadline)
            except TimeoutError:
                self.kill()
                return _too_long(seconds)
            except (EOFError, BrokenPipeError):
                detail = self.kill()
                if attempt == 2 or self._stopped:
                    return Outcome(None, "died", detail)
            else:
                if failure == "memory":  # its heap may be in any state
                    self.kill()
                return Outcome(value, failure, detail)
        raise AssertionError

    def stop(self) -> None:
        """Ends the process from any thread. The thread that waits for its reply sees it die."""
        self._stopped = True
        process = self.process
        if process is not None:
            _end(process)

    def _started(self) -> subprocess.Popen:
        try:
            return self._running()
        except (OSError, RuntimeError):  # short of memory or processes, perhaps for a moment
            if self._stopped:
                raise
            time.sleep(1.0)
            return self._running()

    def _running(self) -> subprocess.Popen:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.kill()
        self._folder = tempfile.mkdtemp(dir=self._pool_folder)
        self._errors = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (open as long as the process runs)
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, path, self._function, str(self._memory_mib or 0), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            cwd=self._folder,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
            | {"TMPDIR": self._folder, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the trainer, which stops its workers
        )
        os.set_blocking(self.process.stdin.fileno(), False)  # type: ignore[union-attr]
        if self._stopped:
            self.kill()
            raise RuntimeError("The worker pool was closed while it was working.")
        try:
            self._receive(self.process, _until(_START_SECONDS))
        except (EOFError, TimeoutError):
            raise RuntimeError(f"A worker for {self._function} did not start: {self.kill()}") from None
        return self.process

    def _receive(self, process: subprocess.Popen, deadline: Callable[[], float]) -> Any:
        """The next line that a worker writes. `EOFError` if it dies, or writes too much."""
        return json.loads(_read_line(process.stdout.fileno(), deadline, self._max_reply))  # type: ignore[union-attr]

    def kill(self) -> str:
        """Ends the process and returns how it ended."""
        process, self.process = self.process, None
        errors, self._errors = self._errors, None
        if process is None or errors is None:
            return ""
        status = _end(process)
        process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        shutil.rmtree(self._folder, ignore_errors=True)
        with errors:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
            return f"exit status {status} {errors.read().decode(errors='replace')}".strip()


def _end(process: subprocess.Popen) -> int | None:
    """Kills a process. `None` instead of its exit status if the kernel does not let go of it."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_END_SECONDS)
    return None


# Both ends of the pipes. `patience` returns how long to wait for the other side, or raises


def _until(seconds: float) -> Callable[[], float]:
    """Patience that ends in `seconds` with `TimeoutError`."""
    end = time.monotonic() + seconds

    def remaining() -> float:
        if end <= time.monotonic():
            raise TimeoutError
        return end - time.monotonic()

    return remaining


def _while_child_of(pid: int) -> Callable[[], float]:
    """Patience that ends with `EOFError` when the parent does. A process that it forked may keep the pipes open."""

    def a_second() -> float:
        if os.getppid() != pid:
            raise EOFError
        return 1.0

    return a_second


def _await(descriptor: int, event: int, patience: Callable[[], float]) -> None:
    """Waits until a pipe can be read or written."""
    poll = select.poll()  # `select` cannot handle descriptors above 1023
    poll.register(descriptor, event)
    while not poll.poll(1000 * patience()):
        pass


def _write(descriptor: int, data: bytes, patience: Callable[[], float]) -> None:
    """Writes to a pipe that does not block."""
    rest = memoryview(data)
    while rest:
        _await(descriptor, select.POLLOUT, patience)
        with contextlib.suppress(BlockingIOError):
            rest = rest[os.write(descriptor, rest) :]


def _read_line(descriptor: int, patience: Callable[[], float], most: float = math.inf) -> bytes:
    """Reads a line, of which the other side writes one at a time. `EOFError` if there is none, or it is too long."""
    line = bytearray()
    while not line.endswith(b"\n"):
        _await(descriptor, select.POLLIN, patience)
        chunk = os.read(descriptor, 2**20)
        line += chunk
        if not chunk or len(line) > most:
            raise EOFError
    return bytes(line)


# Runs in workers


def serve() -> None:
    """Main function of a worker process. Answers requests until the pool goes away."""
    requests, replies, files = os.dup(0), os.dup(1), os.path.dirname(os.environ["TMPDIR"])
    os.set_blocking(replies, False)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)  # output of the function must not mix with replies
    (module, _, name), memory_mib, owner = sys.argv[2].partition(":"), int(sys.argv[3]), int(sys.argv[4])
    function = getattr(import_module(module), name)
    if memory_mib:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")  # when memory is short, workers go before the trainer
    patience = _while_child_of(owner)
    try:
        _write(replies, b"null\n", patience)
        while True:
            item, seconds = json.loads(_read_line(requests, patience))
            # Ends an endless computation if the pool is gone: the kernel's default action kills the process
            signal.setitimer(signal.ITIMER_PROF, seconds + 2 * _GRACE_SECONDS)
            reply = _call(function, item, seconds)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _write(replies, f"{reply}\n".encode(), patience)
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if os.getppid() != owner:  # it was killed and has left its files
            shutil.rmtree(files, ignore_errors=True)


class _InterruptedError(BaseException):
    """Not an `Exception`, because libraries catch those."""


def _call(function: Callable[[Any], Any], item: Any, seconds: float) -> str:
    is_running = True

    def interrupt(*_: object) -> None:
        if is_running:
            raise _InterruptedError

    signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            value = function(item)
        finally:
            is_running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return json.dumps(Outcome(value))
    except _InterruptedError:
        return json.dumps(_too_long(seconds))
    except MemoryError:
        return json.dumps(Outcome(None, "memory", "stopped at the memory limit"))
    except Exception as error:
        return json.dumps(Outcome(None, "error", f"{type(error).__name__}: {error}"[:2000]))


def _too_long(seconds: float) -> Outcome:
    return Outcome(None, "time", f"stopped after {seconds:g} s")
