"""Reads numbers in answers exactly, and decides when two numbers are the same answer."""

import re
from fractions import Fraction
from typing import NamedTuple

# A decimal with at least this many digits may be the rounding of the other number, as in Math-Verify
_LEAST_DIGITS = 6
_MOST_DIGITS = 1_000
_LARGEST_EXPONENT = 1_000

_DIGITS = r"(?:\d+(?:\.\d*)?|\.\d+)"
_SIGN = r"(?P<sign>[-+]?)\s*"
_DECIMAL = re.compile(rf"{_SIGN}(?P<digits>{_DIGITS})")
_FRACTION = re.compile(
    rf"{_SIGN}(?:(?P<whole>\d+)\s*)?"
    rf"\\frac\{{(?P<upper_sign>-?)\s*(?P<upper>{_DIGITS})\s*\}}\{{(?P<lower_sign>-?)\s*(?P<lower>{_DIGITS})\s*\}}"
)
# 1/2, and the ratio 1:2, but not the time 1:30
_SLASHED = re.compile(
    rf"{_SIGN}(?:(?P<whole>\d+)\s+)?(?P<upper_sign>)(?P<upper>{_DIGITS})\s*(?:/|:(?!\s*[0-5]\d$))\s*"
    rf"(?P<lower_sign>-?)(?P<lower>{_DIGITS})"
)
_SCIENTIFIC = re.compile(
    rf"{_SIGN}(?:(?P<digits>{_DIGITS})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\{{\s*(?P<exponent>[-+]?\d{{1,4}})\s*\}}"
    rf"|{_SIGN.replace('sign', 'e_sign')}(?P<e_digits>{_DIGITS})[eE](?P<e_exponent>[-+]?\d{{1,4}})"
)
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")


class Number(NamedTuple):
    """Exact value of a number, and the number of digits after its decimal point if it was written with one."""

    value: Fraction
    decimals: int | None = None


def join_thousands(latex: str) -> str:
    """
    Removes the separators from numbers such as `1,234,567`.

    Example:

    ```python
    >>> join_thousands("1,234,567.8"), join_thousands("1, 234")
    ('1234567.8', '1, 234')

    ```
    """
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), latex)


def read_number(latex: str) -> Number | None:
    r"""
    Reads a number: integer, decimal, fraction, ratio of two terms, mixed number, or power of ten with a factor.

    Args:
        latex (`str`): Formula as returned by [`plain_latex`].

    Returns:
        [`Number`] or `None`: The number. `None` if the formula is anything else or longer than 1,000 characters.

    Example:

    ```python
    >>> read_number(r"-1\frac{1}{2}"), read_number("1.50")
    (Number(value=Fraction(-3, 2), decimals=None), Number(value=Fraction(3, 2), decimals=2))

    ```
    """
    latex = latex.strip()
    if len(latex) > _MOST_DIGITS:
        return None
    for pattern, read in _READERS:
        match = pattern.fullmatch(latex)
        if match:
            return read(match)
    return None


def _decimal(match: re.Match[str]) -> Number:
    digits = match["digits"]
    value = _signed(match["sign"], Fraction(digits))
    return Number(value, len(digits.partition(".")[2]) or None)


def _fraction(match: re.Match[str]) -> Number | None:
    upper, lower = Fraction(match["upper"]), Fraction(match["lower"])
    if not lower:
        return None
    value = _signed(match["upper_sign"], _signed(match["lower_sign"], upper / lower))
    if match["whole"]:
        if not 0 <= value < 1:  # a product, not a mixed number
            return None
        value += int(match["whole"])
    return Number(_signed(match["sign"], value))


def _scientific(match: re.Match[str]) -> Number | None:
    exponent = int(match["exponent"] or match["e_exponent"])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    value = Fraction(match["digits"] or match["e_digits"] or 1) * Fraction(10) ** exponent
    return Number(_signed(match["sign"] or match["e_sign"], value))


def _signed(sign: str | None, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


_READERS = ((_DECIMAL, _decimal), (_FRACTION, _fraction), (_SLASHED, _fraction), (_SCIENTIFIC, _scientific))


def numbers_agree(gold: Number, answer: Number) -> bool:
    """
    Whether two numbers are equal, or one of them [`rounds_to`] the other.

    Example:

    ```python
    >>> third = read_number("1/3")
    >>> [numbers_agree(third, read_number(decimal)) for decimal in ("0.333333", "0.333334", "0.333")]
    [True, False, False]

    ```
    """
    return gold.value == answer.value or rounds_to(gold.value, answer) or rounds_to(answer.value, gold)


def rounds_to(value: Fraction, decimal: Number) -> bool:
    """Whether a value rounds to a decimal of at least six decimals and six digits, and has more decimals itself."""
    if decimal.decimals is None or decimal.decimals < _LEAST_DIGITS:
        return False
    unit = Fraction(1, 10**decimal.decimals)
    if value % unit == 0 or abs(decimal.value) < unit * 10 ** (_LEAST_DIGITS - 1):
        return False
    return abs(value - decimal.value) <= unit / 2
