"""The tables of docs/evidence.md: what is last, best, fallen, and the paired differences."""

import statistics
from math import sqrt
from typing import Any

import pytest

from benchmarks.study import tables


def row(part: str, method: str, seed: int, avg: list[float], validation: list[float]) -> dict[str, Any]:
    curves = {"avg": avg, "pass@16": [1.0, 0.9], "validation avg": validation, "entropy": [0.5, 0.25]}
    return {"task": "countdown", "part": part, "method": method, "seed": seed, "steps": [100, 200], "curves": curves}


@pytest.fixture(autouse=True)
def result(monkeypatch) -> None:
    runs = [row("warm-start", "warm-start", 0, [0.3], [0.3])]
    for seed, (grpo, archer) in enumerate([(0.5, 0.6), (0.4, 0.6), (0.6, 0.63)]):
        runs += [row("comparison", "grpo", seed, [0.7, grpo], [0.8, 0.5])]
        runs += [row("comparison", "archer", seed, [0.3, archer], [0.5, 0.5 + 0.1 * seed])]
    environment = {"commit": "abc", "machine": "m", "torch": "2", "trl": "1"}
    stored = {"environment": environment, "command": "c", "chosen": {}, "runs": runs}
    monkeypatch.setattr(tables, "load", lambda name: stored)


def test_best_is_chosen_on_other_problems():
    runs = tables.runs_of("countdown", "comparison")
    assert tables.last(runs["grpo"][0], "avg") == 0.5
    assert tables.best(runs["grpo"][0], "avg") == 0.7
    assert tables.best(runs["archer"][0], "avg") == 0.3  # the first of equals
    assert tables.best(runs["archer"][1], "avg") == 0.6


def test_differences_are_paired_by_seed():
    runs = tables.runs_of("countdown", "comparison")
    mean = (10 + 20 + 3) / 3
    margin = 4.303 * statistics.stdev([10, 20, 3]) / sqrt(3)  # of a t distribution with 2 degrees of freedom
    measured = tables.difference(runs, "archer", lambda one: tables.last(one, "avg"))
    assert measured == f"{mean:+.1f}, {mean - margin:+.1f} to {mean + margin:+.1f}"
    del runs["grpo"][1], runs["grpo"][2]
    assert tables.difference(runs, "archer", lambda one: tables.last(one, "avg")) == "+10.0"
    assert tables.difference(runs, "grpo", lambda one: tables.last(one, "avg")) == ""


def test_accuracy_counts_runs_that_fell():
    start, grpo, archer = tables.accuracy("countdown").splitlines()[2:]
    assert start.startswith("| warm start |  | 30.0 |")
    assert "| 3 of 3 | 3 of 3 |" in grpo  # 0.7 to 0.5, 0.4 and 0.6; pass@16 from 1 to 0.9
    assert "| 0 of 3 | 3 of 3 |" in archer
    assert "`archer` | 3 | 61.0 | +11.0" in archer


def test_what_was_not_logged_is_left_out():
    assert "| `grpo` | 0.25 |  |" in tables.dynamics("countdown")


def test_progress():
    text = tables.progress()
    assert text.startswith("Run so far: countdown, comparison: 3 of 10 seeds. Not run yet: countdown, variants; ")
    assert "shop, comparison" in text
    assert "shop, sensitivity" not in text
