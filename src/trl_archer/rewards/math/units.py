r"""Splits a quantity into value and unit: `18\pi \text{ cm}^2` is `18\pi` in `cm^2`."""

import re

# The first word of each group is the spelling that units are compared in
_GROUPS = """
cm centimeter centimetre|m meter metre|km kilometer kilometre|in inch inche|ft foot feet|yd yard|mi mile|acre
g gram gm|kg kilogram|lb pound|gal gallon|s sec second|min minute|h hr hour|day|week|month|year|am|pm
degree|percent|dollar usd|cent|euro|mph|celsius C|fahrenheit F
"""
_UNITS = {word: group.split()[0] for group in _GROUPS.replace("\n", "|").split("|") if group for word in group.split()}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
# With one of these words, a value is more than a plain quantity
_QUALIFIERS = frozenset(
    "a all and any approximately are as at be billion but dozen each either even every except for from hundred if "
    "infinitely integer integers is least maybe million mod modulo more most negative neither no nor not odd of on "
    "only or positive real respectively some such than that the then there thousand to trillion unless until when "
    "where which while with".split()
)
_FUNCTIONS = frozenset("arg cos cot csc det dim exp gcd lcm ln log max mod sec sgn sin tan".split())
_TEXT = re.compile(r"\\text\{((?:[^{}]|\^\{\d\})*)\}")
_TAIL_IN_TEXT = re.compile(r"(?:\\text\{(?:[A-Za-z.\-/ ]|\^\{[23]\})*\}|\^\{[23]\}|\\cdot|[/ ])+")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_BARE_TAIL = re.compile(r"(?<![\\A-Za-z])[A-Za-z][A-Za-z./ ]*(?:\^\{[23]\})?$")
_DEGREES = re.compile(r"\^\{\\circ\}\s*(?:\\text\{)?([CF]?)\}?$")
_MAX_WORDS = 4


def split_unit(latex: str) -> tuple[str, str | None]:
    r"""
    Splits normalized LaTeX into value and unit: `18\pi\text{square centimeters}` is `18\pi` and `cm^2`.

    Text after a value is its unit, unless one of its words qualifies the value ("or 6", "is odd"). Outside a text
    command, a unit is a known unit of at least two letters, or words of at least four letters. Words that are not known
    units ("apples", "units") are dropped. Without a unit, the value is the whole formula.
    """
    if "\\$" in latex:
        return split_unit(latex.replace("\\$", " ").strip())[0], "dollar"
    if latex.endswith("\\%"):
        return latex[:-2].strip(), "percent"
    degrees = _DEGREES.search(latex)
    if degrees and not _TRIGONOMETRY.search(latex):
        return latex[: degrees.start()].strip(), _UNITS.get(degrees[1], "degree")
    start = latex.find("\\text{")
    in_text = start >= 0
    if not in_text:
        bare = _BARE_TAIL.search(latex)
        start = bare.start() if bare else 0
    value, tail = latex[:start], latex[start:]
    words = _words(tail)
    if not re.search(r"\d|\\pi|\\sqrt", value) or not _can_be_unit(words, value, tail, in_text):
        return latex, None
    return value.strip(), _one_spelling(words)


def units_agree(gold: str | None, answer: str | None) -> bool:
    """Whether two units are equal or one is missing. They are not converted. A degree sign alone is any degree."""
    if gold is None or answer is None or gold == answer:
        return True
    return "degree" in (gold, answer) and not {gold, answer}.isdisjoint({"celsius", "fahrenheit"})


def _words(tail: str) -> list[str]:
    tail = re.sub(r"\^\{([23])\}", r"^\1", _TEXT.sub(r" \1", tail)).replace("\\cdot", " ").replace("/", " per ")
    return tail.replace(".", "").replace(" ^", "^").split()


def _can_be_unit(words: list[str], value: str, tail: str, in_text: bool) -> bool:
    plain = [word.rstrip("^23") for word in words]
    if not 0 < len(words) <= _MAX_WORDS or not _QUALIFIERS.isdisjoint(word.lower() for word in plain):
        return False
    if in_text:
        return _TAIL_IN_TEXT.fullmatch(tail) is not None
    if not _FUNCTIONS.isdisjoint(plain):
        return False
    known = _known_unit(plain[0]) is not None or plain[0].lower() in _POWERS
    return (known and len(plain[0]) > 1) or (value.endswith(" ") and all(len(word) > 3 for word in plain))


def _one_spelling(words: list[str]) -> str | None:
    """The unit, such as `km/h` or `cm^2`. `None` if one of its words is not a known unit."""
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
            unit = _known_unit(stem)
            if unit is None:
                return None
            spelled += unit + (f"^{exponent}" if exponent else power)
            power = ""
    return "mi/h" if spelled == "mph" else spelled or None


def _known_unit(word: str) -> str | None:
    spellings = (word, word.lower(), word.lower().removesuffix("s"))
    return next((_UNITS[spelling] for spelling in spellings if spelling in _UNITS), None)
