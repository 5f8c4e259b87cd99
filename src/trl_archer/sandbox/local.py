"""The local sandbox, on the trainer's side: a pool of workers, each with a runner."""

import dataclasses
import functools
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Literal, get_args

from ..workers import WorkerPool
from .isolation import SAFE_ISOLATIONS, Isolation, package_paths
from .program import Limits, Program, Run, SandboxError
from .runner import Runner

_START_SECONDS = 60.0  # of a runner and its check program on a busy machine


def check_installed() -> None:
    """Raises `ImportError` if a package of the extra `code` is missing."""
    missing = [name for name in ("landlockpy", "pyseccomp") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"The local sandbox needs {' and '.join(missing)}. Run `pip install 'trl-archer[code]'`, or use a sandbox "
            "service (docs/security.md)."
        )


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """
    A local sandbox for untrusted Python programs. It needs no daemon, no root and no keys. Linux only.

    Args:
        isolation (`str`, *optional*, defaults to `"auto"`):
            What keeps programs away from files and the network. For `"landlock+namespaces"`, `"landlock"` and
            `"bubblewrap"` see [`~trl_archer.sandbox.isolation.Isolation`]. `"auto"` uses the first one that works on
            this machine and raises if none does. `"unsafe"` runs programs with the rights of this process, under
            resource limits only. Use it only for programs that you trust, or in a disposable container.
        limits ([`Limits`], *optional*): What each program may use.
        packages (`tuple[str, ...]`, *optional*, defaults to `()`):
            Installed distributions that programs may import besides the standard library, such as `("numpy",)`.

    Raises:
        ImportError: If the packages of the extra `code` are not installed, unless `isolation="unsafe"`.
        ValueError: If the isolation is unknown or a package is not installed.

    Example:

    ```python
    >>> from trl_archer.sandbox import Program, Sandbox
    >>> Sandbox().run_many([Program("print(int(input()) + 1)", stdin="41")])[0].stdout  # doctest: +SKIP
    '42\\n'

    ```
    """

    isolation: Isolation | Literal["auto"] = "auto"
    limits: Limits = dataclasses.field(default_factory=Limits)
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = ("auto", *get_args(Isolation))
        if self.isolation not in known:
            raise ValueError(f"isolation is {self.isolation!r}; it must be one of {', '.join(known)}.")
        if self.isolation != "unsafe":
            check_installed()
        package_paths(self.packages)

    def run_many(self, programs: Iterable[Program], workers: int | None = None) -> list[Run]:
        """
        Runs programs in parallel, each in a fresh interpreter.

        Args:
            programs (`Iterable` of [`Program`]): The programs.
            workers (`int`, *optional*): How many run in parallel. If `None`, the number of cores per local rank.

        Returns:
            `list[Run]`: Results in the order of the programs.

        Raises:
            SandboxError: If the sandbox does not work on this machine or failed on one of the programs.
        """
        items = [(self.as_dict(), program) for program in programs]
        seconds = self.limits.wall_seconds + 2 * _START_SECONDS
        most = (6 * self.limits.file_mib + 1) * 2**20  # JSON writes a null character as six letters
        with WorkerPool("trl_archer.sandbox.local:_run", workers, max_reply=most) as pool:
            outcomes = pool.map(items, seconds)
        for outcome in outcomes:
            if outcome.failure:
                raise SandboxError(outcome.detail)
        return [Run(*outcome.value) for outcome in outcomes]

    def as_dict(self) -> dict[str, Any]:
        """These settings as JSON. [`open_runner`] reads them in a worker."""
        return dataclasses.asdict(self)


def probe() -> dict[Isolation, str]:
    """
    Tests every isolation on this machine with a check program that attempts forbidden things.

    Returns:
        `dict[str, str]`: For each isolation except `"unsafe"`, the best first: `""` if it works, else why it does not.
    """
    with WorkerPool("trl_archer.sandbox.local:_problem_with", workers=1) as pool:
        outcomes = pool.map(SAFE_ISOLATIONS, _START_SECONDS)
    return {
        name: outcome.detail if outcome.failure else outcome.value
        for name, outcome in zip(SAFE_ISOLATIONS, outcomes, strict=True)
    }


# Runs in workers


def open_runner(settings: dict[str, Any]) -> Runner:
    """
    This worker's runner for the settings of [`Sandbox.as_dict`], created at the first call. `SandboxError` if the
    isolation does not work on this machine or, for `"auto"`, none does.
    """
    limits = Limits(**settings["limits"])
    return _open_runner(settings["isolation"], limits, tuple(settings["packages"]))


@functools.cache
def _open_runner(isolation: str, limits: Limits, packages: tuple[str, ...]) -> Runner:
    if isolation != "auto":
        return Runner(isolation, limits, packages)  # type: ignore[arg-type]
    problems = []
    for name in SAFE_ISOLATIONS:
        try:
            return Runner(name, limits, packages)
        except SandboxError as error:
            problems.append(f"{name}: {error}")
    raise SandboxError(
        f"No isolation works on this machine, so it does not run untrusted programs. {' '.join(problems)} "
        "Use a kernel with Landlock (5.13 or newer), or with unprivileged user namespaces and bubblewrap, or your own "
        "sandbox service (docs/security.md). For trusted programs only: isolation='unsafe'."
    )


def _run(item: Any) -> Run:
    settings, program = item
    return open_runner(settings).run(Program(*program))


def _problem_with(isolation: Isolation) -> str:
    try:
        Runner(isolation, Limits()).close()
    except SandboxError as error:
        return str(error)
    return ""
