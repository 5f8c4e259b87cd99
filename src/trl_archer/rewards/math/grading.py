"""Grades the answer to a mathematical question: by rules first, by Math-Verify where they leave an expression open.

Math-Verify can take for ever, or all memory, over an expression such as a tower of powers. There is no time limit in
here: `grade` is made to run in a worker process that is stopped from outside. What the rules can tell does not take
long, and is told first.
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

from .equality import matches
from .extraction import MAX_ANSWER_LENGTH, extract_answer, has_box
from .forms import Form, read_answer
from .numbers import join_thousands, rounds_to

# Boxed by us, so that it is the box that is read; units and malformed LaTeX are settled before
_EXTRACTION = [
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=NormalizationConfig(boxed="last")
    )
]
_PRECISION = 50
_SAME, _SAME_DECIMAL = Float("1e-35", 50), Float("1e-9")  # relative differences, of exact values and of decimals
_SIGNS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
_LARGEST_POWER = 100_000  # digits
_TOWER = re.compile(r"\d{1,300}(?:\s*\^\{[\s(]*\d{1,300})+")
_INTEGER = re.compile(r"\d+")
_FACTORIAL = re.compile(r"\d{6,}\s*!")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![a-z])")
_CONSTANT_WITH_INDEX = re.compile(r"(?<![\\A-Za-z])[eE](?=_\{)")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\{\\circ\}")


class _TimeoutDisabled(logging.Filter):
    """Math-Verify warns that its time limits are off, which they are on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Timeout is disabled" not in record.getMessage()


for _name in ("math_verify.parser", "math_verify.grader"):
    logging.getLogger(_name).addFilter(_TimeoutDisabled())


class MathGrade(NamedTuple):
    """
    Verdict on one answer.

    Args:
        correct (`bool` or `None`): Whether the answer is right; `None` if no gold answer can be read, so that nothing
            can be scored.
        how (`"rule"`, `"math_verify"` or `None`): What settled it: the rules alone, or Math-Verify, which had to read
            at least one expression; it is then compared by its values at a few points, and by Math-Verify where these
            do not tell. `None` if nothing was scored.
        gold (`str` or `None`): The acceptable answer that was met, as it was given.
        error (`str` or `None`): What Math-Verify raised over a comparison, which then counts as not equal.
    """

    correct: bool | None
    how: Literal["rule", "math_verify"] | None
    gold: str | None = None
    error: str | None = None


def grade(golds: tuple[str, ...], answer: str) -> MathGrade:
    r"""
    Grades an answer against the acceptable ones.

    An answer is right when the rules or Math-Verify find it equal to a gold answer of the same structure:

    - Numbers are equal when their values are. A decimal stands for a number that it is not equal to from six decimals
      and six digits on, and then to its last digit: `0.333333` is 1/3, `0.333` is not.
    - A unit may be left out; two units of measure must be the same. `50\%` as gold is met by `50\%`, `50` and `0.5`; a
      gold `50` is met by `50\%`, while a gold of at most 1, which may be a share, is not met by that number of percent.
    - Lists and sets have no order, and every element must be met by another one: `5 or 6` is not 5, `1, 2` is not
      `1, 1, 2`. Points and intervals have an order and brackets that count; `x > 1` is the interval. An answer in
      braces is not met by one in parentheses.
    - The side before `=` may be left out when it is a name.
    - The letter of a choice or what stands beside it is enough, but neither may be wrong.

    Args:
        golds (`tuple[str, ...]`): Acceptable answers: bare, in `$`, boxed, or solutions that end in a box or `####`.
        answer (`str`): Answer, as [`~rewards.math_answers.extract_answer`] gives it.

    Returns:
        [`MathGrade`]: The verdict. `False` for an answer that cannot be read, `None` if no gold answer can.

    Examples:

    ```python
    >>> grade((r"\frac{1}{2}",), "0.5")
    MathGrade(correct=True, how='rule', gold='\\frac{1}{2}', error=None)
    >>> grade(("(x+1)^2",), "x^2 + 2x + 1").how
    'math_verify'
    >>> grade(("3",), "1, 2 or 3").correct, grade(("See the figure above.",), "3").correct
    (False, None)

    ```
    """
    form = read_answer(answer) if len(answer) <= MAX_ANSWER_LENGTH else Form("unreadable", answer)
    for gold in golds:
        if matches(_read_gold(gold), form, _differ):
            return MathGrade(True, "rule", gold)
    scorable = [gold for gold in golds if is_scorable(gold)]
    if not scorable:
        return MathGrade(None, None)
    compare = _MathVerify()
    for gold in scorable:
        if matches(_read_gold(gold), form, compare):
            return MathGrade(True, "math_verify", gold)
    return MathGrade(False, "math_verify" if compare.asked else "rule", None, compare.error)


@lru_cache(maxsize=4096)
def is_scorable(gold: str) -> bool:
    """
    Whether answers can be graded against a gold answer: all of it is a number, a few words, or an expression that
    Math-Verify reads and finds equal to itself.

    Args:
        gold (`str`): Gold answer as for [`grade`].

    Returns:
        `bool`: Whether they can.

    Example:

    ```python
    >>> [is_scorable(gold) for gold in ("7", r"$\\sqrt{2}$", "east", r"\\frac{1}{", "All primes p that divide n + 1")]
    [True, True, True, False, False]

    ```
    """
    return _all_readable(_read_gold(gold))


def grade_item(item: Any) -> Any:
    """
    What a worker is asked.

    Args:
        item (`tuple`): Acceptable answers and the one given; `None` as the latter asks about the former alone.

    Returns:
        [`MathGrade`], or `bool`: The verdict; whether any of the acceptable answers can be graded against.
    """
    golds, answer = item
    return any(map(is_scorable, golds)) if answer is None else grade(tuple(golds), answer)


def _all_readable(form: Form) -> bool:
    if form.kind in ("unreadable", "family"):
        return False
    if form.kind == "choice":  # its letter is enough
        return True
    if form.kind in ("expression", "relation") or (form.kind == "equation" and not form.label):
        return bool(_parse_gold(_latex(form)))
    return all(map(_all_readable, form.parts))


@lru_cache(maxsize=4096)
def _read_gold(gold: str) -> Form:
    answer: str | None = gold
    if has_box(gold):
        answer = extract_answer(gold)
    elif "####" in gold:
        answer = gold.rpartition("####")[2]
    if answer is None or len(answer) > MAX_ANSWER_LENGTH:
        return Form("unreadable", gold[:MAX_ANSWER_LENGTH])
    return read_answer(answer)


def _differ(gold: Form, answer: Form) -> bool:
    return False


class _MathVerify:
    """Compares expressions by Math-Verify, and keeps what there is to tell about it."""

    def __init__(self) -> None:
        self.asked = False
        self.error: str | None = None

    def __call__(self, gold: Form, answer: Form) -> bool:
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


def _latex(form: Form) -> str:
    latex = join_thousands(form.latex) if form.number else form.latex
    latex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", latex)
    # Indexed letters and symbols that Math-Verify does not read
    latex = _CONSTANT_WITH_INDEX.sub(lambda letter: "\\zeta" if letter[0] == "e" else "\\Xi", latex)
    latex = latex.replace("_{\\odot}", "_{odot}")
    return f"{latex}\\%" if form.unit == "percent" else latex


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
    """What Math-Verify reads, unless it does not find that equal to itself, as it does not with a division by zero."""
    parsed = _parse(latex)
    try:
        return parsed if parsed and verify(parsed, parsed, timeout_seconds=None, raise_on_error=True) else []
    except Exception:
        return []


def _cases_differ(gold: str, answer: str) -> bool:
    """
    Whether a letter of the gold answer is a capital in the answer or the other way round, which Math-Verify ignores. A
    constant of integration can be either.
    """
    golds, answers = (set(_LETTER.findall(latex)) - set("cC") for latex in (gold, answer))
    return any(letter.swapcase() in golds for letter in answers - golds)


def _compare_values(gold: Any, answer: Any, form: Form) -> bool | None:
    """
    Compares two expressions by their values at a few points: `False` if they differ at a positive one, `True` if they
    are the same at all of them to 35 digits, `None` where that tells nothing.

    Math-Verify compares to a number of decimals, in which all small numbers are zero, and where values are not plain it
    simplifies, which can take for ever for a right answer too.
    """
    sides = gold, answer
    if isinstance(gold, Relational) and isinstance(answer, Relational):
        return _compare_relations(gold, answer, form)
    if not all(isinstance(side, Expr) and not isinstance(side, MatrixExpr) for side in sides):
        return None
    names = sorted({symbol.name for symbol in gold.free_symbols | answer.free_symbols})
    same = not (gold.has(Float) or answer.has(Float))
    for signs in _SIGNS if names else _SIGNS[:1]:
        # Odd fractions, so that nothing is a whole number or cancels by chance
        point = {name: signs[i % 2] * Rational(7 * i + 10, 5 * i + 13) for i, name in enumerate(names)}
        try:
            values = [_value(side, point) for side in sides]
            difference, size = abs(values[0] - values[1]), max(map(abs, values))
            if difference > size * (_SAME if same else _SAME_DECIMAL):
                same = False
                if signs == (1, 1):  # where the rules for roots and logarithms hold
                    return form.number is not None and rounds_to(Fraction(str(values[0])), form.number)
        except (AttributeError, ArithmeticError, TypeError, ValueError):
            return None  # not a number
    return same or None


def _compare_relations(gold: Any, answer: Any, form: Form) -> bool | None:
    """Relations in other variables differ; those in none, all of which are true, are compared side by side."""
    names, others = ({symbol.name for symbol in side.free_symbols} for side in (gold, answer))
    if names or others:
        return None if names == others else False
    orders = ((answer.lhs, answer.rhs), (answer.rhs, answer.lhs))
    return any(all(_compare_values(*pair, form) for pair in zip(gold.args, order, strict=True)) for order in orders)


def _value(expression: Expr, point: dict[str, Rational]) -> Any:
    value = N(expression.subs({symbol: point[symbol.name] for symbol in expression.free_symbols}), _PRECISION)
    if not value.is_number or not value.is_finite:
        raise ValueError
    return value


def _is_hopeless(latex: str) -> bool:
    """Whether an expression holds a power or factorial too large to be written out, which is what would be tried."""
    return bool(_FACTORIAL.search(latex)) or any(map(_is_large, _TOWER.findall(latex)))


def _is_large(tower: str) -> bool:
    """Whether numbers that are powers of each other make one of more than 100,000 digits."""
    base, *exponents = map(float, _INTEGER.findall(tower))
    try:
        digits = reduce(lambda top, number: number**top, reversed(exponents), 1.0) * max(log10(base), 0.0)
    except (OverflowError, ValueError):
        return base > 1
    return digits > _LARGEST_POWER
