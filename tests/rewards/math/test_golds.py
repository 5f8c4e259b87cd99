"""Gold columns as files hold them, and the check before training."""

from typing import Any

import numpy as np
import pytest

from trl_archer.rewards import math_reward
from trl_archer.rewards.math.golds import acceptable_answers, bare_gold, unscorable_golds


@pytest.mark.parametrize(
    ("solution", "answers"),
    [
        ("34", ("34",)),
        (34, ("34",)),
        ('["34"]', ("34",)),
        ("['2']", ("2",)),
        (r'["\\frac{1}{3}"]', (r"\frac{1}{3}",)),
        (r'["\frac{1}{3}"]', (r"\frac{1}{3}",)),
        (r"['\\frac{1}{3}']", (r"\frac{1}{3}",)),
        (r"['\tfrac{1}{3}']", (r"\tfrac{1}{3}",)),
        ("['$69$,$84$']", ("$69$,$84$",)),
        ("['9.6\\n']", ("9.6",)),
        ('["1", "2"]', ("1", "2")),
        ('[["5"]]', ("5",)),
        ([["5"]], ("5",)),
        (["5", None, float("nan")], ("5",)),
        (np.array(["5", "6"]), ("5", "6")),
        (np.float64(0.1 + 0.2), ("0.3",)),
        (np.int64(7), ("7",)),
        ("[1, 2]", ("[1, 2]",)),
        ("[0,1)", ("[0,1)",)),
        (0.1 + 0.2, ("0.3",)),
        ("0.30000000000000004", ("0.3",)),
        ("3.14159265358979", ("3.14159265358979",)),
        (145.0, ("145",)),
        (float("nan"), ()),
        (float("inf"), ()),
        (None, ()),
        ([], ()),
        ("", ()),
        *(
            (word, ())
            for word in ("proof", "notfound", "Not found", "nan", "NaN", "N/A", "None", "null", "unknown", " ")
        ),
    ],
)
def test_columns(solution: Any, answers: tuple[str, ...]):
    assert acceptable_answers(solution) == answers


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("She has 3 left.\n#### 3", "3"),
        ("#### 1,234\n", "1,234"),
        ("Some work. <answer>34</answer>", "34"),
        ("Both sides agree, so the sum is constant. Therefore, the answer is: 180.", "180"),
        ("We count the pairs in two ways.\n\nAnswer: 12", "12"),
        (r"First, $2+3=\boxed{5}$. Then $\boxed{6}$.", "6"),
        ("See the proof above.", "See the proof above."),
        (r"x = 3", "x = 3"),
    ],
)
def test_solutions(gold: str, answer: str):
    assert bare_gold(gold) == answer


@pytest.mark.parametrize(
    ("gold", "right", "wrong", "verdict"),
    [
        ('["34"]', "34", "35", 0.0),
        ("['$69$,$84$']", "84, 69", "69", 0.0),
        ("9 (apples)", "9", "8", 0.0),
        ("5 (cm)", r"5\text{ cm}", r"5\text{ m}", 0.0),
        ("Answer: 180", "180", "18", 0.0),
        ("... so the angles add up. Therefore, the answer is: 180.", "180", "90", 0.0),
        (0.1 + 0.2, "0.3", "0.4", 0.0),
        # Nothing can be said, but the text of the gold answer is right
        ("All multiples of 14, excluding 0", "All multiples of 14, excluding 0", "14", None),
        (r"5 \text{ million}", r"5{,}000{,}000", "5", None),
    ],
)
def test_verdicts(gold: Any, right: str, wrong: str, verdict: float | None):
    assert math_reward([rf"\boxed{{{right}}}", rf"\boxed{{{wrong}}}"], solution=[gold] * 2) == [1.0, verdict]


def test_what_cannot_be_scored_is_found_before_training():
    golds = [
        "5",
        "proof",
        r"\frac{1}{0}",
        None,
        ["See above.", "7"],
        "Every such function is bounded below.",
        r"$x^2$",
        3,
    ]
    assert unscorable_golds(golds, workers=1) == [
        (1, "proof", "it names no answer"),
        (2, r"\frac{1}{0}", "it cannot be read"),
        (3, None, "it names no answer"),
        (5, "Every such function is bounded below.", "it cannot be read"),
    ]
    assert unscorable_golds([]) == []
