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
_EXPONENT = r"(?P<exponent>[-+]?\d{1,4})"
_DECIMAL = re.compile(rf"{_SIGN}(?P<digits>{_DIGITS})")
_FRACTION = re.compile(
    rf"{_SIGN}(?:(?P<whole>\d+)\s*)?"
    rf"\\frac\{{(?P<upper>-?\s*{_DIGITS})\s*\}}\{{(?P<lower>-?\s*{_DIGITS})\s*\}}"
)
# 1/2, and the ratio 1:2, but not the time 1:30
_SLASHED = re.compile(
    rf"{_SIGN}(?:(?P<whole>\d+)\s+)?(?P<upper>{_DIGITS})\s*(?:/|:(?!\s*[0-5]\d$))\s*(?P<lower>-?{_DIGITS})"
)
_POWER_OF_TEN = re.compile(
    rf"{_SIGN}(?:(?P<digits>{_DIGITS})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\{{\s*{_EXPONENT}\s*\}}"
)
_E_NOTATION = re.compile(rf"{_SIGN}(?P<digits>{_DIGITS})[eE]{_EXPONENT}")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")


class Number(NamedTuple):
    """Exact value of a number, and the number of digits after its decimal point if it was written with one."""

    value: Fraction
    decimals: int | None = None

    @property
    def unit(self) -> Fraction:
        """One in the last decimal."""
        return Fraction(1, 10 ** (self.decimals or 0))

    def is_near(self, value: Fraction) -> bool:
        """Whether the value rounds to the number, or is it once cut off after its last decimal."""
        is_cut = 0 <= abs(value) - abs(self.value) < self.unit and value * self.value >= 0
        return is_cut or 2 * abs(value - self.value) <= self.unit


def join_thousands(latex: str) -> str:
    """Removes the separators from numbers: `1,234,567.8` becomes `1234567.8`. The list `1, 234` stays."""
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), latex)


def read_number(latex: str) -> Number | None:
    r"""
    Reads a number in normalized LaTeX: integer, decimal, fraction, ratio of two terms, mixed number, or power of ten
    with a factor. `-1\frac{1}{2}` is -3/2. `None` for anything else, and for more than 1,000 characters.
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
    return Number(_signed(match["sign"], Fraction(digits)), len(digits.partition(".")[2]) or None)


def _fraction(match: re.Match[str]) -> Number | None:
    upper, lower = (Fraction(match[part].replace(" ", "")) for part in ("upper", "lower"))
    if not lower:
        return None
    value = upper / lower
    if match["whole"]:
        if not 0 <= value < 1:  # a product, not a mixed number
            return None
        value += int(match["whole"])
    return Number(_signed(match["sign"], value))


def _scientific(match: re.Match[str]) -> Number | None:
    exponent = int(match["exponent"])
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    return Number(_signed(match["sign"], Fraction(match["digits"] or 1) * Fraction(10) ** exponent))


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


_READERS = (
    *((_DECIMAL, _decimal), (_FRACTION, _fraction), (_SLASHED, _fraction)),
    *((_POWER_OF_TEN, _scientific), (_E_NOTATION, _scientific)),
)


def numbers_agree(gold: Number, answer: Number) -> bool:
    """Whether they are equal or one rounds to the other: 0.333333 is 1/3, but 0.333334 and 0.333 are not."""
    return gold.value == answer.value or rounds_to(gold.value, answer) or rounds_to(answer.value, gold)


def rounds_to(value: Fraction, decimal: Number) -> bool:
    """Whether a value rounds to a decimal of at least six decimals and six digits, and has more decimals itself."""
    if decimal.decimals is None or decimal.decimals < _LEAST_DIGITS:
        return False
    if value % decimal.unit == 0 or abs(decimal.value) < decimal.unit * 10 ** (_LEAST_DIGITS - 1):
        return False
    return abs(value - decimal.value) <= decimal.unit / 2
