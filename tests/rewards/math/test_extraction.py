"""Finding and parsing answers: nested boxes, adjacent boxes, and hostile text."""

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_archer.rewards.math.extraction import MAX_ANSWER_LENGTH, extract_answer
from trl_archer.rewards.math.forms import read_answer
from trl_archer.rewards.math.grading import grade, is_scorable

PIECES = (
    r"\boxed{ \boxed \fbox{ { } ( ) [ ] \{ \} \frac \sqrt ^ _ 1 23 x y A B , ; = < > \leq \in \mathbb{Z} \cup \pm \neq "
    r"\text{ \text{cm} and or : | \begin{pmatrix} \end{pmatrix} & \\ \% \$ $ ^\circ . / * \approx cm million \ldots "
    r"- + \pi \infty (A) B. <think> </think> Answer: ² ½ √ \overline{ ' option"
).split()
SOUP = st.lists(st.sampled_from([*PIECES, " ", "\n", "\x00", "\ud800", "answer is "]), max_size=60).map("".join)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"\boxed{5 \text{ or } \boxed{6}}", r"5 \text{ or } \boxed{6}"),
        (r"Put it in \boxed{ at the end. So \boxed{5}", "5"),  # the unclosed box is not the last one
        (r"\boxed{4} and \boxed\frac12", None),
        (r"\boxed{4}. I put it in \boxed as asked.", "4"),
        (r"\boxed{\{1\}, \left\{2\right\}}", r"\{1\}, \left\{2\right\}"),
        (r"\boxed{a \\{b}}", r"a \\{b}"),
        (r"$\boxed{1}$, $\boxed{2}$, \text{and} $\boxed{3}$", "1, 2, 3"),
        (r"\boxed{1} and then, after that, \boxed{2}", "2"),
        (r"$x=\boxed{1}$ and $y=\boxed{2}$", "x=1, y=2"),
        (r"$m = \boxed{1}$, $n = \boxed{1}$", "m=1, n=1"),
        (r"so $x=\boxed{5}$. Final: $\boxed{5}$", "5"),
        ("\\boxed{5}\n\n" * 3_000, "5"),
        (r"\boxed {7}", "7"),
        (r"\boxed 12.", "12"),
        (r"\boxedsomething{7}", None),
    ],
)
def test_boxes(text: str, answer: str | None):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**Answer:** $5$", "$5$"),
        ("The final answer is: **1/2**.", "1/2"),
        ("Final answer:\n\n3.14", "3.14"),
        ("The answer is 5. The answer is 6.", "6"),
        ("The answer to the question is 42!", "42"),
        ("Answer: 5 or 6", "5 or 6"),
        ("2+32=34\n#### 34", "34"),
        ("<answer>34</answer>", "34"),
        ("Answer:\n\n\\[\n34\n\\]", "34"),
        ("答案：34", "34"),
        ("An answer isn't known.", None),
        (r"The answer is 5, see \boxed{", None),
    ],
)
def test_phrases(text: str, answer: str | None):
    assert extract_answer(text, phrases=True) == answer


@settings(max_examples=300, deadline=None)
@given(SOUP)
def test_nothing_raises(text: str):
    extract_answer(text, phrases=True)
    extract_answer(text, thinking=True)
    assert read_answer(text).kind


@pytest.mark.parametrize("text", ["\\boxed{" * 200_000 + "}" * 200_000, "{" * 1_000_000, "\\boxed{1}" * 200_000])
def test_megabytes_need_no_recursion(text: str):
    assert extract_answer(text) in (None, "1")


@pytest.mark.parametrize(
    "unit", ["ab: ", "A. ", "A. ab: ", r"x \neq ", "x = ", r"\text{a:} ", "(A) ", "{", "^", r"\frac "]
)
def test_no_answer_takes_long_to_read(unit: str):
    start = time.process_time()
    read_answer((unit * MAX_ANSWER_LENGTH)[:MAX_ANSWER_LENGTH])
    assert time.process_time() - start < 1.5  # 0.4 at most on one core; levels without end took 2


@pytest.mark.parametrize("answer", [r"\frac{3}{4}", "x = 3/4", "(0.75)", r"75\%", "-2", "1, 2", r"\text{east}", "(A)"])
def test_math_verify_is_not_called_if_rules_decide(answer: str):
    assert grade(("0.75",), answer).how == "rule"


def test_math_verify_does_not_warn_about_its_time_limits(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert grade((r"\sqrt{12}",), r"2\sqrt{3}").how == "math_verify"
    assert not caplog.records


def test_errors_of_math_verify_are_reported_and_do_not_blame_the_gold_answer(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **kwargs: object) -> bool:
        raise RecursionError("too deep")

    assert is_scorable("(x+1)^2")  # before it fails
    monkeypatch.setattr("trl_archer.rewards.math.algebra.verify", fail)
    assert grade(("(x+1)^2",), "x^2+2x+1") == (False, "math_verify", None, "RecursionError: too deep")
