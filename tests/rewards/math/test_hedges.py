"""Answers that try to be right for everything earn no more than the golds they equal."""

import pytest

from trl_archer.rewards.math.grading import grade
from trl_archer.workers import WorkerPool

from ...helpers.math_hedges import ANSWERS, GOLDS, REALLY_EQUAL


def earned(pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    with WorkerPool("trl_archer.rewards.math.grading:grade_item", workers=2) as pool:
        outcomes = pool.map([((gold,), answer) for gold, answer in pairs], seconds=10)
    return {pair for pair, outcome in zip(pairs, outcomes, strict=True) if outcome.value and outcome.value[0]}


@pytest.mark.slow
def test_every_answer_against_a_gold():
    pairs = [(GOLDS[7 * index % len(GOLDS)], answer) for index, answer in enumerate(ANSWERS)]
    assert earned(pairs) == REALLY_EQUAL.intersection(pairs)


@pytest.mark.slow
def test_every_answer_against_every_gold():
    assert earned([(gold, answer) for answer in ANSWERS for gold in GOLDS]) == REALLY_EQUAL


@pytest.mark.parametrize("gold", GOLDS)
def test_every_gold_meets_itself(gold: str):
    assert grade((gold,), gold).correct
