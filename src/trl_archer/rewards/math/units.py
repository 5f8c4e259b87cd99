r"""Tells a quantity from its unit: `18\pi \text{ cm}^2` is `18\pi` in `cm^2`."""

import re
from typing import NamedTuple

_UNITS = {
    word: words.split()[0]
    for words in (
        "mm millimeter millimetre",
        "cm centimeter centimetre",
        "dm decimeter decimetre",
        "m meter metre",
        "km kilometer kilometre",
        "in inch inche",
        "ft foot feet",
        "yd yard",
        "mi mile",
        "ha hectare",
        "acre",
        "mg milligram",
        "g gram gm",
        "kg kilogram kilo",
        "t ton tonne",
        "lb pound",
        "oz ounce",
        "ml mL milliliter millilitre",
        "l L liter litre",
        "gal gallon",
        "s sec second",
        "min minute",
        "h hr hour",
        "day",
        "week wk",
        "month",
        "year yr",
        "cup",
        "tbsp tablespoon",
        "tsp teaspoon",
        "am",
        "pm",
        "degree deg",
        "rad radian",
        "percent pct percentage",
        "dollar usd buck",
        "cent",
        "euro",
        "rupee rs",
        "mph",
        "kmh kph",
        "hz Hz hertz",
        "newton N",
        "joule J",
        "watt W",
        "volt V",
        "celsius C",
        "fahrenheit F",
        "kelvin K",
    )
    for word in words.split()
}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3", "cu": "^3"}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Words that qualify a value, so that it is not a plain quantity
_QUALIFIERS = frozenset(
    "a all and any approximately are as at be but dozen each either even every except for from hundred if infinitely "
    "integer integers is least maybe mod modulo more most negative neither no nor not odd of on only or positive real "
    "respectively some such than that the then there to unless until when where which while with".split()
)
_FUNCTIONS = frozenset("arg cos cot csc det dim exp gcd lcm ln log max mod sec sgn sin tan".split())
_TEXT = re.compile(r"\\text\{((?:[^{}]|\^\{\d\})*)\}")
_TAIL_IN_TEXT = re.compile(r"(?:\\text\{(?:[A-Za-z.\-/ ]|\^\{[23]\})*\}|\^\{[23]\}|\\cdot|[/ ])+")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_BARE_TAIL = re.compile(r"(?<![\\A-Za-z])[A-Za-z][A-Za-z./ ]*(?:\^\{[23]\})?$")
_DEGREES = re.compile(r"\^\{\\circ\}\s*(?:\\text\{)?([CFK]?)\}?$")
_MAX_WORDS = 4


class Quantity(NamedTuple):
    """A value in LaTeX; its unit of measure in one spelling, if it has one; what "million" multiplies the value by."""

    value: str
    unit: str | None = None
    scale: int = 1


def split_unit(latex: str) -> Quantity:
    r"""
    Splits a formula in the spelling of [`plain_latex`] into value and unit.

    What follows a value in a text command is its unit, whatever it is, unless a word in it qualifies the value ("or 6",
    "is odd"). Without a text command a unit is a unit of measure of at least two letters, or words of at least four. A
    word that is no unit of measure ("apples", "units") is left out of the result.

    Args:
        latex (`str`): Formula.

    Returns:
        [`Quantity`]: The formula as it is, without a unit, where there is none.

    Example:

    ```python
    >>> split_unit(r"18\pi\text{square centimeters}")
    Quantity(value='18\\pi', unit='cm^2', scale=1)
    >>> split_unit(r"3\text{or more}")
    Quantity(value='3\\text{or more}', unit=None, scale=1)

    ```
    """
    if "\\$" in latex:
        return split_unit(latex.replace("\\$", " ").strip())._replace(unit="dollar")
    if latex.endswith("\\%"):
        return Quantity(latex[:-2].strip(), "percent")
    degrees = _DEGREES.search(latex)
    if degrees and not _TRIGONOMETRY.search(latex):
        return Quantity(latex[: degrees.start()].strip(), _UNITS.get(degrees[1], "degree"))
    start = latex.find("\\text{")
    in_text = start >= 0
    if not in_text:
        tail = _BARE_TAIL.search(latex)
        start = tail.start() if tail else 0
    value = latex[:start].strip()
    words = _words(latex[start:])
    if not re.search(r"\d|\\pi|\\sqrt", value) or not _can_be_unit(words, latex[start:], in_text, latex[:start]):
        return Quantity(latex)
    scale = _SCALES.get(words[0].lower(), 1)
    return Quantity(value, _one_spelling(words[1:] if scale > 1 else words), scale)


def units_agree(gold: str | None, answer: str | None) -> bool:
    """
    Whether two units of measure can stand for the same: they are equal, or one is left out.

    Args:
        gold (`str`, *optional*): Unit in the gold answer.
        answer (`str`, *optional*): Unit in the answer.

    Returns:
        `bool`: Whether they agree. Units are not converted: `1 m` is not `100 cm`. A degree sign alone is any degree.
    """
    if gold is None or answer is None or gold == answer:
        return True
    return "degree" in (gold, answer) and not {gold, answer}.isdisjoint({"celsius", "fahrenheit"})


def _words(tail: str) -> list[str]:
    tail = re.sub(r"\^\{([23])\}", r"^\1", _TEXT.sub(r" \1", tail)).replace("\\cdot", " ").replace("/", " per ")
    return tail.replace(".", "").replace(" ^", "^").split()


def _can_be_unit(words: list[str], tail: str, in_text: bool, before: str) -> bool:
    plain = [word.rstrip("^23") for word in words]
    if not 0 < len(words) <= _MAX_WORDS or not _QUALIFIERS.isdisjoint(word.lower() for word in plain):
        return False
    if in_text:
        return _TAIL_IN_TEXT.fullmatch(tail) is not None
    if not _FUNCTIONS.isdisjoint(plain):
        return False
    known = _measure(plain[0]) is not None or plain[0].lower() in {*_SCALES, *_POWERS}
    return (known and len(plain[0]) > 1) or (before.endswith(" ") and all(len(word) > 3 for word in plain))


def _one_spelling(words: list[str]) -> str | None:
    """The unit, such as `km/h` or `cm^2`, or `None` if one of its words is no unit of measure."""
    spelled, power = "", ""
    for word in words:
        stem, _, exponent = word.partition("^")
        if stem.lower() in _POWERS:
            power = _POWERS[stem.lower()]
            if spelled and not spelled.endswith("/"):  # "cm squared"
                spelled, power = spelled + power, ""
        elif stem == "per":
            spelled += "/"
        else:
            measure = _measure(stem)
            if measure is None:
                return None
            spelled += measure + (f"^{exponent}" if exponent else power)
            power = ""
    return {"mph": "mi/h", "kmh": "km/h"}.get(spelled, spelled) or None


def _measure(word: str) -> str | None:
    spellings = (word, word.lower(), word.lower().removesuffix("s"))
    return next((_UNITS[spelling] for spelling in spellings if spelling in _UNITS), None)
