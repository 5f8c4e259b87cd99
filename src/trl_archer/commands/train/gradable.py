"""Checks on a sample of rows that the rewards can score them, before the model is loaded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from datasets import IterableDataset

from .columns import Row
from .sources import Data

logger = logging.getLogger(__name__)

_SAMPLE = 32
_MOST = 0.5  # share of rows that may be unscorable
_EXAMPLES = 3

Check = Callable[[Sequence[Row]], Sequence[str | None]]


def check_gradable(data: Data, rewards: Sequence[Any], label: str) -> None:
    """
    Checks that most rows of a sample can be scored, by rewards that can tell.

    `math` and `code` can. A reward of your own can if it has an attribute `check_rows`, a function from a list of rows
    to a list with `None` for each row that can be scored, and the reason for each other row. A row needs one reward
    that scores it. Fewer unscorable rows, or rewards of your own that may score them, cause a warning.

    Raises:
        ValueError: If more than half of the rows cannot be scored, with examples, or if `code` cannot run programs.
    """
    checks = {name_of(reward): check for reward in rewards if (check := row_check(reward)) is not None}
    if not checks:
        return
    indices, rows = sample_rows(data)
    reasons: list[list[str]] = [[] for _ in rows]
    for name, check in checks.items():
        for found, reason in zip(reasons, check(rows), strict=True):
            if reason is not None:
                found.append(f"{name}: {reason}")
    bad = {index: "; ".join(found) for index, found in zip(indices, reasons, strict=True) if len(found) == len(checks)}
    if not bad:
        return
    examples = "".join(f"\n  row {index}: {reason:.300}" for index, reason in list(bad.items())[:_EXAMPLES])
    message = f"{len(bad)} of {len(rows)} sampled rows of {label} cannot be scored:{examples}\n"
    if len(bad) <= _MOST * len(rows) or any(map(_may_score, rewards)):
        logger.warning("%sTheir completions get no reward and are left out.", message)
        return
    columns = ", ".join(map(repr, rows[0]))
    raise ValueError(
        f"{message}Map the column that the reward needs to one that holds final answers or tests (dataset_columns), "
        f"or use another reward (reward_funcs). The columns: {columns}."
    )


def sample_rows(data: Data, count: int = _SAMPLE) -> tuple[list[int], list[Row]]:
    """Returns the numbers and contents of evenly spaced rows, or of the first rows of a stream."""
    if isinstance(data, IterableDataset):
        rows = list(islice(data, count))
        return list(range(len(rows))), rows
    indices = [index * len(data) // min(count, len(data)) for index in range(min(count, len(data)))]
    return indices, list(data.select(indices))


def name_of(reward: Any) -> str:
    """Returns the name that TRL logs a reward under."""
    return getattr(reward, "__name__", type(reward).__name__)


def row_check(reward: Any) -> Check | None:
    """Returns the check of a reward; `None` if it has none."""
    own = getattr(reward, "check_rows", None)
    if own is not None:
        return own
    check = _CHECKS.get(getattr(reward, "__module__", ""))
    return None if check is None else lambda rows: check(reward, rows)


def _may_score(reward: Any) -> bool:
    """Whether a reward has no check and is not one of ours or TRL's, which do not judge answers."""
    package = str(getattr(reward, "__module__", "")).partition(".")[0]
    return row_check(reward) is None and package not in ("trl_archer", "trl")


def _check_golds(reward: Any, rows: Sequence[Row]) -> list[str | None]:
    """Grades each gold answer against itself."""
    from ...rewards.math.golds import unscorable_golds  # other rewards do not need it

    golds = [row["solution"] for row in rows]
    found = {index: f"the solution {gold!r:.100}: {reason}" for index, gold, reason in unscorable_golds(golds)}
    return [found.get(index) for index in range(len(rows))]


def _check_tests(reward: Any, rows: Sequence[Row]) -> list[str | None]:
    """Reads the tests of each row, and tries the sandbox."""
    from ...rewards.code.cases import unscorable_tests

    found = {
        index: f"the tests {excerpt!r:.100}: {reason}"
        for index, excerpt, reason in unscorable_tests(
            [row["tests"] for row in rows], [row.get("fn_name") for row in rows]
        )
    }
    readable = [row for index, row in enumerate(rows) if index not in found]
    if readable:
        _try_sandbox(reward, readable[0])
    return [found.get(index) for index in range(len(rows))]


def _try_sandbox(reward: Any, row: Row) -> None:
    """Judges a program. A sandbox that does not work on this machine would otherwise fail after the first rollout."""
    from ...sandbox.program import SandboxError

    reasons: list[str] = []
    columns = {"tests": [row["tests"]], "fn_name": [row.get("fn_name")]}
    try:
        reward(["```python\npass\n```"], **columns, log_extra=lambda _, values: reasons.extend(values))
    except SandboxError as error:
        reasons.append(f"sandbox: {error}")
    failure = next((reason for reason in reasons if reason.startswith("sandbox: ")), None)
    if failure is not None:
        raise ValueError(f"The reward {name_of(reward)} cannot run programs here. {failure}")


_CHECKS: Mapping[str, Callable[[Any, Sequence[Row]], list[str | None]]] = {
    "trl_archer.rewards.math.reward": _check_golds,
    "trl_archer.rewards.code.reward": _check_tests,
}
