"""What an evaluation found: counts for each problem, and the estimates that follow from them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import pass_probability

LEVEL = 0.95  # of all intervals
RESAMPLES = 2000


@dataclass(frozen=True)
class ProblemRecord:
    """
    Counts of one problem's samples.

    Attributes:
        id (`str`): Identifies the problem in its data set.
        samples (`int`): Samples that were drawn.
        correct (`int`): Samples that the verifier accepted.
        not_scorable (`int`): Samples that could not be scored. They are neither right nor wrong.
        failed (`int`): Samples without a completion, because generation or the verifier raised an error.
        truncated (`int`): Samples that reached the token limit.
        tokens (`int`): Tokens of all completions together.
    """

    id: str
    samples: int
    correct: int
    not_scorable: int = 0
    failed: int = 0
    truncated: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or min(self.correct, self.not_scorable, self.failed) < 0 or self.correct > self.scored:
            raise ValueError(
                f"Problem {self.id!r} has samples={self.samples}, correct={self.correct}, "
                f"not_scorable={self.not_scorable} and failed={self.failed}. Counts start at 0, there is at least one "
                "sample, and the last three add up to at most the samples."
            )

    @property
    def scored(self) -> int:
        """Samples with a verdict."""
        return self.samples - self.not_scorable - self.failed


class Outcome(NamedTuple):
    """One sample, as a line of an evaluation's log."""

    id: str
    reward: float | None  # 1, 0, or `None` if it cannot be scored
    truncated: bool = False
    tokens: int = 0
    failed: bool = False


class Estimate(NamedTuple):
    """A mean over problems."""

    value: float
    stderr: float | None  # clustered by problem; `None` for one problem
    low: float | None  # 95% interval: bootstrap over problems
    high: float | None
    problems: int


def count_outcomes(outcomes: Iterable[Outcome]) -> list[ProblemRecord]:
    """Counts the samples of each problem, in the order in which problems first occur."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * 6)
    for id, reward, truncated, tokens, failed in outcomes:
        row = counts[id]
        for index, count in enumerate((1, reward == 1, reward is None and not failed, failed, truncated, tokens)):
            row[index] += count
    return [ProblemRecord(id, *row) for id, row in counts.items()]


def summarize(records: Sequence[ProblemRecord], seed: int = 0) -> dict[str, Any]:
    """
    Computes avg@K, pass@k for each k up to K, and what could not be scored.

    A problem's mean is over its scored samples. avg@K is the mean over problems with at least one scored sample, and
    pass@k that over problems with at least k. `Estimate.problems` counts them. `bounds` are the values of avg@K if all
    samples without a verdict were wrong, and if all were right.

    Args:
        records (`Sequence[ProblemRecord]`): One record per problem.
        seed (`int`, *optional*, defaults to `0`): Seed of the bootstrap.

    Returns:
        `dict`: `avg` and `pass_at` (`Estimate` by k), `bounds`, `problems`, `samples` (K), `not_scorable`, `failed` and
        `left_out` (problems without a scored sample), `truncated` (share of samples) and `mean_tokens`.

    Raises:
        ValueError: If there is no problem, or no problem has a scored sample.

    Example:

    ```python
    >>> summary = summarize([ProblemRecord("a", samples=2, correct=1), ProblemRecord("b", samples=2, correct=2)])
    >>> summary["avg"].value, summary["pass_at"][2].value
    (0.75, 1.0)

    ```
    """
    if not records:
        raise ValueError("There are no problems to summarize. Evaluate at least one.")
    scored = [record for record in records if record.scored]
    if not scored:
        raise ValueError(
            f"None of the samples of {len(records)} problems could be scored. Check the solutions and the verifier: "
            "the log names the reason for each sample."
        )
    samples = sum(record.samples for record in records)
    unknown = {record.id: record.not_scorable + record.failed for record in records}
    lower = [record.correct / record.samples for record in records]
    upper = [(record.correct + unknown[record.id]) / record.samples for record in records]
    return {
        "avg": estimate([record.correct / record.scored for record in scored], seed),
        "pass_at": {
            k: estimate([_pass(r.scored, r.correct, k) for r in scored if r.scored >= k], seed)
            for k in range(1, max(record.scored for record in scored) + 1)
        },
        "bounds": (math.fsum(lower) / len(records), math.fsum(upper) / len(records)),
        "problems": len(records),
        "samples": max(record.samples for record in records),
        "left_out": len(records) - len(scored),
        "not_scorable": sum(record.not_scorable for record in records),
        "failed": sum(record.failed for record in records),
        "truncated": sum(record.truncated for record in records) / samples,
        "mean_tokens": sum(record.tokens for record in records) / samples,
    }


_pass = cache(pass_probability)


def estimate(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Estimate:
    """
    Mean over problems, with standard error and 95% interval.

    The samples of a problem are not independent of each other, so the standard error is that of the problems' means.
    The interval is a percentile bootstrap over problems. Its percentiles are widened for the number of problems
    (Hesterberg 2015, What Teachers Should Know About the Bootstrap, Sec. 5.3), without which it is too narrow for 30
    problems. Both describe problems like these; they do not include the variation between training seeds.

    Args:
        values (`Sequence[float]` of shape `(P,)`): Each problem's mean. Differences of means work as well.
        seed (`int`, *optional*, defaults to `0`): Seed of the bootstrap.

    Returns:
        [`Estimate`]: The estimate. One problem has neither a standard error nor an interval.
    """
    levels, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    problems = int(counts.sum())
    mean = math.fsum(levels * counts) / problems
    if problems == 1:
        return Estimate(mean, None, None, None, 1)
    stderr = math.sqrt(math.fsum(counts * (levels - mean) ** 2) / (problems - 1) / problems)
    # Problems with equal means are exchangeable: draws how many of each a resample has
    resampled = np.random.default_rng(seed).multinomial(problems, counts / problems, size=RESAMPLES) @ levels / problems
    tail = NormalDist().cdf(-t_quantile(problems - 1) * math.sqrt(problems / (problems - 1)))
    low, high = np.quantile(resampled, (tail, 1 - tail)).tolist()
    return Estimate(mean, stderr, low, high, problems)


def t_quantile(degrees: int) -> float:
    """
    Quantile of Student's t at the upper end of a central 95% interval.

    Exact for 1 and 2 degrees of freedom. From 3 on, the expansion of Abramowitz and Stegun 26.7.5, within 1%.
    """
    p = (1 + LEVEL) / 2
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
