"""Grades the answer to a mathematical question, first by rules, then by Math-Verify for undecided expressions.

Math-Verify can take unlimited time or memory on an expression such as a tower of powers. This module sets no time
limit: `grade` runs in a worker process that is stopped from outside. The rules are fast and come first.
"""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

from .algebra import MathVerify, is_comparable
from .equality import Compare, matches
from .extraction import MAX_ANSWER_LENGTH
from .forms import Answer, read_answer
from .golds import bare_gold


class MathGrade(NamedTuple):
    """
    Verdict on one answer.

    `how` is what decided: the rules alone, or Math-Verify, which had to read at least one expression.
    """

    correct: bool | None  # both are `None` if no gold answer can be read
    how: Literal["rule", "math_verify"] | None
    gold: str | None = None  # the gold answer that was matched, as given
    error: str | None = None  # what Math-Verify raised in a comparison, which then counts as unequal


def grade(golds: tuple[str, ...], answer: str) -> MathGrade:
    r"""
    Grades an answer, as returned by `extract_answer`, against the acceptable answers. These may be bare, in `$`, boxed,
    or solutions that end in a box, `####`, `<answer>` or "the answer is". An answer that cannot be read is wrong, or
    not scorable if the gold answer cannot be read either. The text of a gold answer is always right.

    An answer is right if the rules or Math-Verify find it equal to a gold answer of the same structure:

    - Numbers are equal if their values are. A decimal with at least six decimals and six digits also equals a number
      that rounds to it: `0.333333` is 1/3, `0.333` is not. A ratio `1:2` is the number 1/2.
    - A unit may be missing, but two units of measurement must agree. The gold answer `50\%` matches `50\%`, `50` and
      `0.5`. The gold answer `50` matches `50\%`, but `1`, which may be a share, does not match `1\%`.
    - Lists and sets have no order, and elements are matched one to one: `5 or 6` is not 5, `1, 2` is not `1, 1, 2`.
      Points and intervals have an order, and their brackets count. `x > 1` is an interval. Braces do not match
      parentheses.
    - The left side of `=` may be missing if it is a name, or a quantity such as `a + b`.
    - The letter of a choice or the content next to it is enough, but neither may be wrong.
    - Infinite, undefined and unknown values equal nothing.
    """
    parsed = read_answer(answer) if len(answer) <= MAX_ANSWER_LENGTH else Answer("unreadable", answer)
    for gold in golds:
        if matches(_read_gold(gold), parsed, Compare()):
            return MathGrade(True, "rule", gold)
    scorable = [gold for gold in golds if is_scorable(gold)]
    if not scorable:
        return MathGrade(None, None)
    compare = MathVerify()
    for gold in scorable:
        if matches(_read_gold(gold), parsed, compare):
            return MathGrade(True, "math_verify", gold)
    return MathGrade(False, "math_verify" if compare.asked else "rule", None, compare.error)


@lru_cache(maxsize=4096)
def is_scorable(gold: str) -> bool:
    """
    Whether answers can be graded against a gold answer. All of it must be numbers, a few words, or expressions that
    Math-Verify can read and that have a value.
    """
    return _all_readable(_read_gold(gold))


def grade_item(item: Any) -> Any:
    """Runs in workers. Grades an answer, or for `None` tells whether answers can be graded against any of the golds."""
    golds, answer = item
    return any(map(is_scorable, golds)) if answer is None else grade(tuple(golds), answer)


def _all_readable(parsed: Answer) -> bool:
    if parsed.kind == "unreadable" or (parsed.kind == "number" and parsed.label):
        return False
    if parsed.kind == "choice":  # the letter is enough
        return True
    if parsed.kind in ("expression", "relation"):
        return is_comparable(parsed)
    parts = parsed.parts[:1] if parsed.kind == "equation" and parsed.label else parsed.parts
    return all(map(_all_readable, parts))


@lru_cache(maxsize=4096)
def _read_gold(gold: str) -> Answer:
    answer = bare_gold(gold)
    if answer is None or len(answer) > MAX_ANSWER_LENGTH:
        return Answer("unreadable", gold[:MAX_ANSWER_LENGTH])
    return read_answer(answer)
