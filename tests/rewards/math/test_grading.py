"""Grading of mathematical answers on the pairs of math_pairs.py, and compared with TRL's."""

import pickle
import signal
import time

import pytest
from trl.rewards import accuracy_reward

from trl_archer.rewards.math.extraction import MAX_ANSWER_LENGTH, extract_answer, has_box
from trl_archer.rewards.math.golds import acceptable_answers
from trl_archer.rewards.math.grading import grade, is_scorable

from ...helpers.math_disagreements import DISAGREEMENTS
from ...helpers.math_kinds import RIGHT, WRONG
from ...helpers.math_pairs import PAIRS, Pair


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{pair.kind}-{index}" for index, pair in enumerate(PAIRS)])
def test_the_table(pair: Pair):
    assert grade(pair.golds, extract_answer(pair.completion) or "").correct is pair.correct


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_ways_to_write_a_right_answer(gold: str, answer: str):
    assert grade(acceptable_answers(gold), extract_answer(answer) if has_box(answer) else answer).correct


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong_answers_that_look_right(gold: str, answer: str):
    assert not grade(acceptable_answers(gold), answer).correct


def verdict_of_trl(gold: str, completion: str) -> float | None:
    gold = gold if has_box(gold) else rf"$\boxed{{{gold}}}$"
    return accuracy_reward([[{"role": "assistant", "content": completion}]], [gold])[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an alarm during garbage collection
def test_only_the_listed_disagreements_with_trl(monkeypatch: pytest.MonkeyPatch):
    def alarm(seconds: int) -> None:  # after 2 seconds instead of 5 or 10, repeated in case the first one is lost
        signal.setitimer(signal.ITIMER_REAL, min(seconds, 2), min(seconds, 2))

    monkeypatch.setattr(signal, "alarm", alarm)
    found = {}
    for pair in PAIRS:
        rewards = [verdict_of_trl(gold, pair.completion) for gold in pair.golds]
        scored = [reward for reward in rewards if reward is not None]
        verdict = bool(max(scored)) if scored else None
        if verdict is not pair.correct:
            found[pair.gold, pair.answer] = verdict
    listed = {pair: verdict for (verdict, _), pairs in DISAGREEMENTS.items() for pair in pairs}
    assert found == listed


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.correct][::4], ids=lambda pair: pair.kind)
def test_other_golds_do_not_hide_a_right_answer(pair: Pair):
    """A right answer stays right if another acceptable answer, readable or not, comes before or after it."""
    answer = extract_answer(pair.completion) or ""
    assert grade(("See above.", *pair.golds), answer).correct
    assert grade((*pair.golds, "41"), answer).correct


def test_scorable_golds_are_right_themselves():
    for pair in PAIRS:
        for gold in pair.golds:
            if is_scorable(gold):
                bare = extract_answer(gold) if has_box(gold) else gold.rpartition("####")[2].strip()
                assert grade((gold,), bare or "").correct, gold


def test_verdicts_name_the_verifier_and_the_gold():
    assert grade(("2", "0.5"), r"\frac{1}{2}")[:3] == (True, "rule", "0.5")
    assert grade(("(x+1)^2",), "x^2+2x+1")[:3] == (True, "math_verify", "(x+1)^2")
    assert grade((), "1")[:2] == (None, None)
    verdict = grade(("1",), "2")
    assert pickle.loads(pickle.dumps(verdict)) == verdict


@pytest.mark.parametrize(
    ("text", "options", "answer"),
    [
        (r"It is \boxed{5}.", {}, "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", {}, r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", {}, r"\{1, 2\}"),
        (r"\boxed 5", {}, "5"),
        (r"\fbox{7}", {}, "7"),
        (r"First \boxed{4}. No: \boxed{5}", {}, "5"),
        (r"\boxed{1} and \boxed{2}", {}, "1, 2"),
        (r"\boxed{4} so \boxed{5", {}, None),
        (r"\boxed{}", {}, None),
        ("It is 5.", {}, None),
        (r"<think>\boxed{4}</think> \boxed{5}", {}, "5"),
        (r"<think>\boxed{4}</think> Hm.", {}, None),
        (r"\boxed{4}", {"thinking": True}, None),
        ("So the answer is 12.", {"phrases": True}, "12"),
        ("Answer: 1/2\nDone.", {"phrases": True}, "1/2"),
        (r"The answer is 12. \boxed{13}", {"phrases": True}, "13"),
        ("The answer is 12.", {}, None),
        (r"\boxed{" + "9" * MAX_ANSWER_LENGTH + "}", {}, "9" * MAX_ANSWER_LENGTH),
        (r"\boxed{" + "9" * (MAX_ANSWER_LENGTH + 1) + "}", {}, None),
        ("", {}, None),
    ],
)
def test_extraction(text: str, options: dict, answer: str | None):
    assert extract_answer(text, **options) == answer


@pytest.mark.parametrize(
    "unit",
    [r"\boxed{", "{", "}", r"\boxed{1} ", "the answer is ", r"\boxed{1} and ", "\\", "<think>", "$ ", r"\text{", "1,"],
)
def test_extraction_takes_linear_time(unit: str):
    def seconds(count: int) -> float:
        text = unit * count
        start = time.process_time()
        extract_answer(text, phrases=True)
        return time.process_time() - start

    seconds(1000)
    small, large = (min(seconds(count) for _ in range(3)) for count in (5_000, 40_000))
    assert large < 40 * small + 0.05  # eight times the text; quadratic time would give 64
