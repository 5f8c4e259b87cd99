"""The local sandbox as the trainer uses it: a pool of workers with a runner each."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, Literal, get_args

from ..workers import WorkerPool
from .isolation import SAFE_ISOLATIONS, Isolation, package_paths
from .program import Limits, Program, Run, SandboxError
from .runner import Runner

_START_SECONDS = 60.0  # of a runner and its check program, on a busy machine


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """
    A local sandbox for untrusted Python programs: no daemon, no root, no keys. Linux only.

    Args:
        isolation (`str`, *optional*, defaults to `"auto"`):
            What keeps programs away from files and network. `"landlock+namespaces"`, `"landlock"`, `"bubblewrap"`: see
            [`~trl_archer.sandbox.isolation.Isolation`]; `"auto"` takes the first of them that holds on this machine and
            raises when none does. `"unsafe"` runs programs with the rights of this process, under resource limits
            alone: only for programs that you trust, or inside a container that you would throw away.
        limits ([`Limits`], *optional*): What each program may use.
        packages (`tuple[str, ...]`, *optional*, defaults to `()`):
            Installed distributions that programs may import besides the standard library, such as `("numpy",)`.

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
            raise ValueError(f"isolation is {self.isolation!r}; it is one of {', '.join(known)}.")
        package_paths(self.packages)

    def run_many(self, programs: Iterable[Program], workers: int | None = None) -> list[Run]:
        """
        Runs programs side by side, each in a fresh interpreter.

        Args:
            programs (`Iterable` of [`Program`]): The programs.
            workers (`int`, *optional*): How many run at a time; the cores per local rank if `None`.

        Returns:
            `list[Run]`: In their order.

        Raises:
            SandboxError: If the sandbox does not work on this machine, or failed on one of the programs.
        """
        items = [(self.as_dict(), program) for program in programs]
        seconds = self.limits.wall_seconds + 2 * _START_SECONDS
        most = (6 * self.limits.file_mib + 1) * 2**20  # JSON writes a null character with six letters
        with WorkerPool("trl_archer.sandbox.local:_run", workers, max_reply=most) as pool:
            outcomes = pool.map(items, seconds)
        for outcome in outcomes:
            if outcome.trouble:
                raise SandboxError(outcome.detail)
        return [Run(*outcome.value) for outcome in outcomes]

    def as_dict(self) -> dict[str, Any]:
        """These settings as JSON can hold them; [`open_runner`] takes them in a worker."""
        return dataclasses.asdict(self)


def probe() -> dict[Isolation, str]:
    """
    Tries every isolation on this machine, each with a check program that attempts what it must not be able to do.

    Returns:
        `dict[str, str]`: For each isolation but `"unsafe"`, the best first, `""` where it holds, or why it does not.
    """
    with WorkerPool("trl_archer.sandbox.local:_trouble_with", workers=1) as pool:
        outcomes = pool.map(SAFE_ISOLATIONS, _START_SECONDS)
    return {
        name: outcome.detail if outcome.trouble else outcome.value
        for name, outcome in zip(SAFE_ISOLATIONS, outcomes, strict=True)
    }


# The worker's side


def open_runner(settings: dict[str, Any]) -> Runner:
    """
    The runner for a sandbox's settings; the same one each time, in a worker that is asked again.

    Args:
        settings (`dict`): What [`Sandbox.as_dict`] gave.

    Raises:
        SandboxError: If the isolation does not hold on this machine, or for `"auto"` none does.
    """
    limits = Limits(**settings["limits"])
    return _open_runner(settings["isolation"], limits, tuple(settings["packages"]))


@functools.cache
def _open_runner(isolation: str, limits: Limits, packages: tuple[str, ...]) -> Runner:
    if isolation != "auto":
        return Runner(isolation, limits, packages)  # type: ignore[arg-type]
    troubles = []
    for name in SAFE_ISOLATIONS:
        try:
            return Runner(name, limits, packages)
        except SandboxError as error:
            troubles.append(f"{name}: {error}")
    raise SandboxError(
        f"No isolation holds on this machine, so untrusted programs are not run here. {' '.join(troubles)} "
        "Use a kernel with Landlock (5.13 or newer), or with unprivileged user namespaces and bubblewrap, or a service "
        "of your own (docs/security.md). Only for programs that you trust: isolation='unsafe'."
    )


def _run(item: Any) -> Run:
    settings, program = item
    return open_runner(settings).run(Program(*program))


def _trouble_with(isolation: Isolation) -> str:
    try:
        Runner(isolation, Limits()).close()
    except SandboxError as error:
        return str(error)
    return ""
