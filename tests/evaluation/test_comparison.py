"""Differences between methods, paired by problem and by seed, and what may be concluded from them."""

import copy
import json
import re
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from trl_archer.evaluation.benchmarks import Benchmark, LoadedBenchmark, Problem
from trl_archer.evaluation.comparison import Method, compare, conclude, render_comparison
from trl_archer.evaluation.records import ProblemRecord, estimate
from trl_archer.evaluation.report import Report, build_report, read_report, render, write_report

K = 8


def report(counts: list[int], name: str = "toy", **changes: Any) -> Report:
    benchmark = Benchmark(**{"name": name, "dataset": "toy.jsonl", "k": K, **changes})
    problems = [Problem(str(index), f"problem {index}", {}) for index in range(len(counts))]
    records = [ProblemRecord(str(index), K, count) for index, count in enumerate(counts)]
    return build_report({"model": "m"}, [(LoadedBenchmark(benchmark, problems, []), records)])


def draw(shift: float, seeds: int, problems: int, between_seeds: float = 0.0) -> list[Report]:
    """Evaluations of one method, on problems of different difficulty, with an effect and a deviation per seed."""
    difficulty = np.random.default_rng(0).uniform(0.2, 0.7, problems)
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng([seed, int(1000 * shift) + 1000])
        accuracy = np.clip(difficulty + shift + generator.normal(0, between_seeds), 0, 1)
        found.append(report(generator.binomial(K, accuracy).tolist()))
    return found


def test_paired_by_problem_and_seed():
    first, second = [[0, 4, 8, 2], [1, 4, 7, 3]], [[2, 4, 8, 5], [2, 6, 8, 2]]
    (found,) = compare(Method("a", [report(x) for x in first]), Method("b", [report(x) for x in second]))
    by_problem = [
        fmean((b - a) / K for a, b in zip(p, q, strict=True))
        for p, q in zip(np.transpose(first), np.transpose(second), strict=True)
    ]
    assert found.avg == estimate(by_problem)
    assert found.values[0].value == pytest.approx(fmean(sum(x) for x in first) / 32)
    by_seed = [(sum(b) - sum(a)) / 32 for a, b in zip(first, second, strict=True)]
    margin = 12.706 * abs(by_seed[0] - by_seed[1]) / 2
    assert found.over_seeds == pytest.approx((fmean(by_seed) - margin, fmean(by_seed) + margin), rel=1e-3)
    assert (found.seeds, found.k, found.left_out) == (2, K, 0)


@pytest.mark.parametrize(
    ("shift", "seeds", "problems", "between", "conclusion"),
    [
        (0.2, 4, 200, 0.01, "b is better, on problems like these and over training seeds"),
        (-0.2, 4, 200, 0.01, "a is better, on problems like these and over training seeds"),
        (0.1, 3, 300, 0.2, "seeds vary too much to attribute it to the method"),
        (0.02, 3, 20, 0.001, "No difference is shown; one of up to"),
        (0.2, 1, 200, 0.0, "differ on problems like these. With one training seed, nothing can be concluded"),
        (0.0, 1, 20, 0.0, "may be equal. With one training seed, nothing can be concluded"),
    ],
)
def test_conclusions(shift, seeds, problems, between, conclusion):
    first, second = draw(0.0, seeds, problems, between), draw(shift, seeds, problems, between)
    differences = compare(Method("a", first), Method("b", second))
    assert conclusion in conclude(differences[0])
    assert conclusion in render_comparison(differences)


def test_equal_methods_rarely_differ():
    """The interval over problems excludes 0 in 5% of comparisons of two equal policies."""
    generator, excluded = np.random.default_rng(0), 0
    first, second = report([1] * 40), report([1] * 40)
    for _ in range(300):
        accuracy = generator.beta(1, 1, 40)
        for drawn in (first, second):
            for row, count in zip(drawn["benchmarks"]["toy"]["problems"], generator.binomial(K, accuracy), strict=True):
                row["correct"] = int(count)
        (found,) = compare(Method("a", [first]), Method("b", [second]))
        excluded += found.avg.low > 0 or found.avg.high < 0
    assert 0.02 <= excluded / 300 <= 0.08


def test_problems_without_a_verdict_are_left_out_in_pairs():
    first, second = report([4, 4, 4]), report([8, 4, 0])
    second["benchmarks"]["toy"]["problems"][2].update(not_scorable=K)
    (found,) = compare(Method("a", [first]), Method("b", [second]))
    assert (found.left_out, found.avg.problems) == (1, 2)
    assert found.avg.value == pytest.approx(0.25)
    assert "1 problems have no scored sample in some run" in render_comparison([found])


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ([report([1, 2]), report([3, 4])], "a has 1 training seeds and b 2"),
        ([report([1, 2, 3])], "toy: b was evaluated on other problems (3"),
        ([report([1, 2], temperature=1.0)], "evaluated with temperature=1.0, the first run with 0.8"),
        ([report([1, 2], name="other")], "have no benchmark in common"),
    ],
)
def test_what_cannot_be_compared(reports, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(Method("a", [report([1, 2])]), Method("b", reports))


def test_reports_are_read_back(tmp_path):
    written = report([0, 3, 8])
    write_report(written, tmp_path / "run" / "evaluation")
    assert read_report(tmp_path / "run") == read_report(tmp_path / "run" / "evaluation" / "report.json") == written
    assert render(written) == (tmp_path / "run" / "evaluation" / "report.md").read_text()
    with pytest.raises(ValueError, match="There is no evaluation in"):
        read_report(tmp_path)


@pytest.mark.parametrize("change", [{"format": 2}, {"benchmarks": {"toy": {}}}, {"benchmarks": []}])
def test_a_file_that_is_no_report(change, tmp_path):
    write_report(report([1]), tmp_path)
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**copy.deepcopy(report([1])), **change}))
    with pytest.raises(ValueError, match="is not a report of an evaluation"):
        read_report(path)
