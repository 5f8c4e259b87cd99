"""Counts of an evaluation and the estimates that follow, against enumeration and simulation."""

import itertools
import re
import statistics
from fractions import Fraction

import numpy as np
import pytest

from trl_archer.evaluation.records import Outcome, ProblemRecord, count_outcomes, estimate, summarize, t_quantile

ROUNDING = 1e-12


def record(correct: int, samples: int = 4, id: str = "p", **counts: int) -> ProblemRecord:
    return ProblemRecord(id, samples, correct, **counts)


def test_every_k_is_the_mean_over_all_subsets():
    records = [record(correct, 6) for correct in range(7)]
    passing = summarize(records)["pass_at"]
    assert list(passing) == [1, 2, 3, 4, 5, 6]
    for k, found in passing.items():
        per_problem = []
        for problem in records:
            samples = [1] * problem.correct + [0] * (6 - problem.correct)
            subsets = list(itertools.combinations(samples, k))
            per_problem.append(Fraction(sum(map(any, subsets)), len(subsets)))
        assert found.value == pytest.approx(float(sum(per_problem) / 7), abs=ROUNDING)
    assert passing[1] == summarize(records)["avg"]


def test_stderr_is_clustered_by_problem():
    counts = [0, 1, 4, 4, 2, 3, 0]
    means = [count / 4 for count in counts]
    found = summarize([record(count) for count in counts])["avg"]
    assert found.stderr == pytest.approx(statistics.stdev(means) / len(means) ** 0.5, abs=ROUNDING)
    # Ten copies of each sample carry no more information
    assert summarize([record(10 * count, 40) for count in counts])["avg"].stderr == pytest.approx(found.stderr)


@pytest.mark.parametrize(("problems", "k", "a", "b"), [(30, 8, 1.0, 2.0), (200, 4, 2.0, 0.5)])
def test_intervals_cover_the_truth(problems, k, a, b):
    """Accuracies of problems are drawn from a beta distribution, and samples given the accuracy."""
    generator, repetitions = np.random.default_rng(1), 600
    samples = generator.binomial(k, generator.beta(a, b, (repetitions, problems))) / k
    found = [estimate(row, seed) for seed, row in enumerate(samples)]
    truth, critical = a / (a + b), t_quantile(problems - 1)
    by_bootstrap = sum(x.low <= truth <= x.high for x in found) / repetitions
    by_stderr = sum(abs(x.value - truth) <= critical * x.stderr for x in found) / repetitions
    assert 0.93 <= by_bootstrap <= 0.97
    assert 0.93 <= by_stderr <= 0.97


@pytest.mark.parametrize(
    ("degrees", "exact"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045)]
)
def test_t_quantile(degrees, exact):
    assert t_quantile(degrees) == pytest.approx(exact, rel=2e-3)


def test_not_scorable_is_not_wrong():
    # 1111, 0000, ----, 1---, 000-
    records = [
        record(4, id="a"),
        record(0, id="b"),
        record(0, id="c", not_scorable=4),
        record(1, id="d", not_scorable=2, failed=1),
        record(0, id="e", not_scorable=1),
    ]
    found = summarize(records)
    assert found["avg"][0] == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert (found["avg"].problems, found["left_out"]) == (4, 1)
    assert (found["not_scorable"], found["failed"]) == (7, 1)
    assert {k: x.problems for k, x in found["pass_at"].items()} == {1: 4, 2: 3, 3: 3, 4: 2}
    assert found["bounds"] == pytest.approx(((4 + 1) / 20, (4 + 4 + 4 + 1) / 20))


def test_one_problem_has_no_interval():
    found = summarize([record(3)])["avg"]
    assert found == (0.75, None, None, None, 1)


def test_outcomes_are_counted():
    outcomes = [
        Outcome("b", 1, tokens=5),
        Outcome("a", 0, truncated=True, tokens=8),
        Outcome("b", None, tokens=2),
        Outcome("b", None, failed=True),
    ]
    b, a = count_outcomes(outcomes)
    assert b == ProblemRecord("b", 3, 1, not_scorable=1, failed=1, tokens=7)
    assert a == ProblemRecord("a", 1, 0, truncated=1, tokens=8)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "There are no problems"),
        ([record(0, not_scorable=3, failed=1)], "None of the samples of 1 problems could be scored"),
    ],
)
def test_nothing_to_summarize(records, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        summarize(records)


@pytest.mark.parametrize("counts", [(0, 0), (4, 5), (4, -1)])
def test_impossible_counts_are_refused(counts):
    samples, correct = counts
    with pytest.raises(ValueError, match=f"'p' has samples={samples}, correct={correct}"):
        record(correct, samples)
