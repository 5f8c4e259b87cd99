"""Inputs and outputs of a sandbox."""

import builtins
import functools
import importlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True)
class Limits:
    """
    What one program may use.

    Args:
        wall_seconds (`float`, *optional*, defaults to `6.0`): Time from start to end.
        cpu_seconds (`int`, *optional*, defaults to `6`): CPU time of all threads together.
        memory_mib (`int`, *optional*, defaults to `1024`): Address space in MiB.
        file_mib (`int`, *optional*, defaults to `8`): Size in MiB of each file it writes, including standard output.
        scratch_mib (`int`, *optional*, defaults to `64`): Total size in MiB of the files in its scratch folder.
        open_files (`int`, *optional*, defaults to `64`): Number of open descriptors.
    """

    wall_seconds: float = 6.0
    cpu_seconds: int = 6
    memory_mib: int = 1024
    file_mib: int = 8
    scratch_mib: int = 64
    open_files: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0.")
            if name != "wall_seconds" and not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; it must be an integer.")


class Program(NamedTuple):
    """
    A Python program to run.

    Args:
        source (`str`): Its text.
        stdin (`str`, *optional*, defaults to `""`): Its standard input.
        function (`str`, *optional*): Function to call after the program has run: a name in the module, or a method of
            its class `Solution`, which is created without arguments. `"*"` makes several calls.
        arguments (`str`, *optional*, defaults to `"[]"`): JSON list of the positional arguments of that call, or for
            `"*"` of calls as the bootstrap's `_perform` reads them, which keep Python's types.
    """

    source: str
    stdin: str = ""
    function: str | None = None
    arguments: str = "[]"

    def request(self) -> str:
        """The program as the bootstrap reads it."""
        if self.function is None:
            return f"0 0\n{self.source}"
        name = len(self.function)
        return f"{name} {name + len(self.arguments)}\n{self.function}{self.arguments}{self.source}"


class Run(NamedTuple):
    """
    Result of a run. None of it can be trusted: the program chose what to write.

    Args:
        status (`str`): `"ended"` (exit status 0), `"failed"` (another exit status or a signal), `"timeout"` (wall or
            CPU time), `"output"` (wrote more than a limit allows).
        stdout (`str`): Standard output, decoded as UTF-8 with replacement characters.
        stderr (`str`): The last 2,000 characters of standard error.
        value (`str`, *optional*): What the called function returned, as JSON text. `None` if no function was called, it
            raised, or JSON cannot represent its result.
        seconds (`float`): Wall time.
    """

    status: Literal["ended", "failed", "timeout", "output"]
    stdout: str
    stderr: str
    value: str | None
    seconds: float


class SandboxError(RuntimeError):
    """The sandbox itself failed, so nothing is known about the program."""


class Executor(Protocol):
    """Runs programs: [`~trl_archer.sandbox.fusion.SandboxFusion`] or any other object with this method."""

    def run(self, program: Program) -> Run:
        """
        Runs a program in a fresh interpreter and waits until it ends.

        Raises:
            SandboxError: If the sandbox failed, so nothing is known about the program.
        """
        ...


# Modules whose names graders provide, in LiveCodeBench's order: later names replace earlier ones
_PROVIDED = """
    string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json
    typing
""".split()


def bootstrap(started: str, request: str, result: str) -> str:
    """
    Python code that runs a program. All arguments are expressions for descriptors: the code reads [`Program.request`]
    from `request`, writes a word to `started` and closes it before the program starts, and writes the called function's
    result to `result`.
    """
    source = files("trl_archer.sandbox").joinpath("bootstrap.py").read_text(encoding="utf-8")
    return f"{source}\nPROVIDED |= {_provided()!r}\n_main(started={started}, request={request}, result={result})\n"


@functools.cache
def _provided() -> dict[str, str]:
    """The public names of each module, except those of built-in functions, separated by spaces."""
    names = {}
    for name in _PROVIDED:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        names[name] = " ".join(key for key in public if not hasattr(builtins, key))
    return names
