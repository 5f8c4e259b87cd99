"""What goes into a sandbox and what comes out."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True)
class Limits:
    """
    What one program may use.

    Args:
        wall_seconds (`float`, *optional*, defaults to `6.0`): Time from start to end.
        cpu_seconds (`int`, *optional*, defaults to `6`): CPU time over all of its threads.
        memory_mib (`int`, *optional*, defaults to `1024`): Address space, in MiB.
        file_mib (`int`, *optional*, defaults to `8`): Each file that it writes, standard output among them, in MiB.
        scratch_mib (`int`, *optional*, defaults to `64`): All files in its scratch folder together, in MiB.
        open_files (`int`, *optional*, defaults to `64`): Open descriptors.
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
                raise ValueError(f"{name} is {value}; a limit is above 0.")
            if name != "wall_seconds" and not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; it is a whole number.")


class Program(NamedTuple):
    """
    A Python program to run.

    Args:
        source (`str`): Its text.
        stdin (`str`, *optional*, defaults to `""`): Its standard input.
        function (`str`, *optional*): Name of a function to call once the program has run: a name of the module, or the
            name of a method of its class `Solution`, which is built without arguments.
        arguments (`str`, *optional*, defaults to `"[]"`): JSON list of the positional arguments of that call.
    """

    source: str
    stdin: str = ""
    function: str | None = None
    arguments: str = "[]"

    def files(self) -> dict[str, str]:
        """What the bootstrap finds in its working directory: file name -> text."""
        files = {"program.py": self.source}
        if self.function is not None:
            files["call"] = f"{self.function}\n{self.arguments}"
        return files


class Run(NamedTuple):
    """
    How a program ended. Nothing in it can be trusted to be honest: all of it is what the program chose to write.

    Args:
        status (`str`): `"ended"` (exit status 0), `"failed"` (another exit status or a signal), `"timeout"` (wall or
            CPU time), `"output"` (wrote more than a limit allows).
        stdout (`str`): Standard output, decoded as UTF-8 with replacement characters.
        stderr (`str`): The last 2,000 characters of standard error.
        value (`str`, *optional*): What the called function returned, as JSON text; `None` when there was no call, or it
            raised, or returned what JSON cannot hold.
        seconds (`float`): Wall time.
    """

    status: Literal["ended", "failed", "timeout", "output"]
    stdout: str
    stderr: str
    value: str | None
    seconds: float


class SandboxError(RuntimeError):
    """The sandbox itself failed, so that nothing is known about the program."""


class Executor(Protocol):
    """Runs programs: [`~trl_archer.sandbox.fusion.SandboxFusion`], or any other object with this method."""

    def run(self, program: Program) -> Run:
        """
        Runs a program in a fresh interpreter and waits for its end.

        Raises:
            SandboxError: If nothing is known about the program, because the sandbox failed.
        """
        ...


def bootstrap(started: str, result: str) -> str:
    """
    The Python code that runs a program from its [`Program.files`].

    Args:
        started (`str`): Expression of the descriptor that takes a word before the program starts, and is then closed.
        result (`str`): Expression of the descriptor that takes what the called function returned, as JSON.
    """
    source = files("trl_archer.sandbox").joinpath("bootstrap.py").read_text(encoding="utf-8")
    return f"{source}\n_main(started={started}, result={result})\n"
