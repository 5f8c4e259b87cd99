"""Grades the answer to a mathematical question, first by rules, then by Math-Verify for undecided expressions.

Math-Verify can take unlimited time or memory on an expression such as a tower of powers. This module sets no time
limit: `grade` runs in a worker process that is stopped from outside. The rules are fast and come first.
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache, reduce
from math import log10
from typing import Any, Literal, NamedTuple

from latex2sympy2_extended import NormalizationConfig  # type: ignore[import-untyped]
from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-untyped]
from sympy import Expr, Float, MatrixExpr, N, Rational  # type: ignore[import-untyped]
from sympy.core.relational import Relational  # type: ignore[import-untyped]

from .equality import matches, rules_only
from .extraction import MAX_ANSWER_LENGTH, extract_answer, has_box
from .forms import Answer, read_answer
from .numbers import join_thousands, rounds_to

# We put answers into a box, which Math-Verify then reads. Units and malformed LaTeX are handled before
_EXTRACTION = [
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=NormalizationConfig(boxed="last")
    )
]
_PRECISION = 50
_SAME, _SAME_DECIMAL = Float("1e-35", 50), Float("1e-9")  # relative differences of exact values and of decimals
_SIGNS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
_LARGEST_POWER = 100_000  # digits
_TOWER = re.compile(r"\d{1,300}(?:\s*\^\{[\s(]*\d{1,300})+")
_INTEGER = re.compile(r"\d+")
_FACTORIAL = re.compile(r"\d{6,}\s*!")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![a-z])")
_CONSTANT_WITH_INDEX = re.compile(r"(?<![\\A-Za-z])[eE](?=_\{)")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\{\\circ\}")


for _name in ("math_verify.parser", "math_verify.grader"):  # which warn that their time limits are off, on purpose
    logging.getLogger(_name).addFilter(lambda record: "Timeout is disabled" not in record.getMessage())


class MathGrade(NamedTuple):
    """
    Verdict on one answer.

    `how` is what decided: the rules alone, or Math-Verify, which had to read at least one expression. Expressions are
    compared by their values at a few points, then by Math-Verify if that is inconclusive.
    """

    correct: bool | None  # both are `None` if no gold answer can be read
    how: Literal["rule", "math_verify"] | None
    gold: str | None = None  # the gold answer that was matched, as given
    error: str | None = None  # what Math-Verify raised in a comparison, which then counts as unequal


def grade(golds: tuple[str, ...], answer: str) -> MathGrade:
    r"""
    Grades an answer, as returned by `extract_answer`, against the acceptable answers. These may be bare, in `$`, boxed,
    or solutions that end in a box or `####`. An answer that cannot be read is wrong.

    An answer is right if the rules or Math-Verify find it equal to a gold answer of the same structure:

    - Numbers are equal if their values are. A decimal with at least six decimals and six digits also equals a number
      that rounds to it: `0.333333` is 1/3, `0.333` is not. A ratio `1:2` is the number 1/2.
    - A unit may be missing, but two units of measurement must agree. The gold answer `50\%` matches `50\%`, `50` and
      `0.5`. The gold answer `50` matches `50\%`, but `1`, which may be a share, does not match `1\%`.
    - Lists and sets have no order, and elements are matched one to one: `5 or 6` is not 5, `1, 2` is not `1, 1, 2`.
      Points and intervals have an order, and their brackets count. `x > 1` is an interval. Braces do not match
      parentheses.
    - The left side of `=` may be missing if it is a name.
    - The letter of a choice or the content next to it is enough, but neither may be wrong.
    """
    parsed = read_answer(answer) if len(answer) <= MAX_ANSWER_LENGTH else Answer("unreadable", answer)
    for gold in golds:
        if matches(_read_gold(gold), parsed, rules_only):
            return MathGrade(True, "rule", gold)
    scorable = [gold for gold in golds if is_scorable(gold)]
    if not scorable:
        return MathGrade(None, None)
    compare = _MathVerify()
    for gold in scorable:
        if matches(_read_gold(gold), parsed, compare):
            return MathGrade(True, "math_verify", gold)
    return MathGrade(False, "math_verify" if compare.asked else "rule", None, compare.error)


@lru_cache(maxsize=4096)
def is_scorable(gold: str) -> bool:
    """
    Whether answers can be graded against a gold answer. All of it must be numbers, a few words, or expressions that
    Math-Verify can read and finds equal to themselves.
    """
    return _all_readable(_read_gold(gold))


def grade_item(item: Any) -> Any:
    """Runs in workers. Grades an answer, or for `None` tells whether answers can be graded against any of the golds."""
    golds, answer = item
    return any(map(is_scorable, golds)) if answer is None else grade(tuple(golds), answer)


def _all_readable(parsed: Answer) -> bool:
    if parsed.kind == "unreadable":
        return False
    if parsed.kind == "choice":  # the letter is enough
        return True
    if parsed.kind in ("expression", "relation") or (parsed.kind == "equation" and not parsed.label):
        return bool(_parse_gold(_latex(parsed)))
    return all(map(_all_readable, parsed.parts))


@lru_cache(maxsize=4096)
def _read_gold(gold: str) -> Answer:
    answer: str | None = gold
    if has_box(gold):
        answer = extract_answer(gold)
    elif "####" in gold:
        answer = gold.rpartition("####")[2]
    if answer is None or len(answer) > MAX_ANSWER_LENGTH:
        return Answer("unreadable", gold[:MAX_ANSWER_LENGTH])
    return read_answer(answer)


class _MathVerify:
    """Compares expressions by Math-Verify. Records whether it was called and what it raised."""

    def __init__(self) -> None:
        self.asked = False
        self.error: str | None = None

    def __call__(self, gold: Answer, answer: Answer) -> bool:
        if _is_hopeless(answer.latex) and not _is_hopeless(gold.latex):
            return False
        self.asked = True
        golds, answers = _parse_gold(_latex(gold)), _parse(_latex(answer))
        if not golds or not answers or _cases_differ(gold.latex, answer.latex):
            return False
        try:
            equal = _compare_values(golds[0], answers[0], answer)
            if equal is None:
                equal = verify(golds, answers, timeout_seconds=None, raise_on_error=True)
            return bool(equal)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"[:200]
            return False


def _latex(parsed: Answer) -> str:
    latex = join_thousands(parsed.latex) if parsed.number else parsed.latex
    latex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", latex)
    # Indexed letters and symbols that Math-Verify cannot read
    latex = _CONSTANT_WITH_INDEX.sub(lambda letter: "\\zeta" if letter[0] == "e" else "\\Xi", latex)
    latex = latex.replace("_{\\odot}", "_{odot}")
    return f"{latex}\\%" if parsed.unit == "percent" else latex


def _parse(latex: str) -> list[Any]:
    return parse(
        f"\\boxed{{{latex}}}",
        extraction_config=_EXTRACTION,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )


@lru_cache(maxsize=4096)
def _parse_gold(latex: str) -> list[Any]:
    """What Math-Verify reads. Empty if that does not equal itself, for example because of a division by zero."""
    parsed = _parse(latex)
    try:
        return parsed if parsed and verify(parsed, parsed, timeout_seconds=None, raise_on_error=True) else []
    except Exception:
        return []


def _cases_differ(gold: str, answer: str) -> bool:
    """Whether a letter differs in case, which Math-Verify ignores. A constant of integration may differ."""
    golds, answers = (set(_LETTER.findall(latex)) - set("cC") for latex in (gold, answer))
    return any(letter.swapcase() in golds for letter in answers - golds)


def _compare_values(gold: Any, answer: Any, parsed: Answer) -> bool | None:
    """
    Compares two expressions by their values at a few points. `False` if they differ at a positive point, `True` if they
    agree at all points to 35 digits, else `None`.

    Math-Verify compares a fixed number of decimals, so all small numbers are zero. For other values it simplifies,
    which can take unlimited time even for a right answer.
    """
    sides = gold, answer
    if isinstance(gold, Relational) and isinstance(answer, Relational):
        return _compare_relations(gold, answer, parsed)
    if not all(isinstance(side, Expr) and not isinstance(side, MatrixExpr) for side in sides):
        return None
    names = sorted({symbol.name for symbol in gold.free_symbols | answer.free_symbols})
    same = not (gold.has(Float) or answer.has(Float))
    for signs in _SIGNS if names else _SIGNS[:1]:
        # Odd fractions, so nothing is an integer or cancels by chance
        point = {name: signs[i % 2] * Rational(7 * i + 10, 5 * i + 13) for i, name in enumerate(names)}
        try:
            values = [_value(side, point) for side in sides]
            difference, size = abs(values[0] - values[1]), max(map(abs, values))
            if difference > size * (_SAME if same else _SAME_DECIMAL):
                same = False
                if signs == (1, 1):  # where the rules for roots and logarithms are valid
                    return parsed.number is not None and rounds_to(Fraction(str(values[0])), parsed.number)
        except (AttributeError, ArithmeticError, TypeError, ValueError):
            return None  # not a number
    return same or None


def _compare_relations(gold: Any, answer: Any, parsed: Answer) -> bool | None:
    """Relations in different variables differ. Relations without variables, which are true, are compared by side."""
    names, others = ({symbol.name for symbol in side.free_symbols} for side in (gold, answer))
    if names or others:
        return None if names == others else False
    orders = ((answer.lhs, answer.rhs), (answer.rhs, answer.lhs))
    return any(all(_compare_values(*pair, parsed) for pair in zip(gold.args, order, strict=True)) for order in orders)


def _value(expression: Expr, point: dict[str, Rational]) -> Any:
    value = N(expression.subs({symbol: point[symbol.name] for symbol in expression.free_symbols}), _PRECISION)
    if not value.is_number or not value.is_finite:
        raise ValueError
    return value


def _is_hopeless(latex: str) -> bool:
    """Whether an expression contains a power or factorial too large to evaluate, which sympy would attempt."""
    return bool(_FACTORIAL.search(latex)) or any(map(_is_large, _TOWER.findall(latex)))


def _is_large(tower: str) -> bool:
    """Whether a tower of powers has more than 100,000 digits."""
    base, *exponents = map(float, _INTEGER.findall(tower))
    try:
        digits = reduce(lambda top, number: number**top, reversed(exponents), 1.0) * max(log10(base), 0.0)
    except (OverflowError, ValueError):
        return base > 1
    return digits > _LARGEST_POWER
