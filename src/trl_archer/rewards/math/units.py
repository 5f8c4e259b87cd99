r"""Splits a quantity into value and unit: `18\pi \text{ cm}^2` is `18\pi` in `cm^2`."""

import re
from fractions import Fraction

# The first word of each group is the spelling that units are compared in
_GROUPS = """
cm centimeter centimetre 厘米|m meter metre 米|km kilometer kilometre 千米 公里|mm millimeter millimetre 毫米|dm 分米
in inch inche|ft foot feet|yd yard|mi mile|acre|nm|μm|g gram gm 克|kg kilogram 千克 公斤|mg|lb pound|gal gallon
L l liter litre 升|mL ml|s sec second 秒|min minute 分钟|h hr hour 小时|day 天|week|month|year|am|pm|N newton|J joule
kJ|W watt|kW|V volt|Ω ohm|Hz hertz|Pa pascal|kPa|K kelvin|A ampere amp|mol mole|eV|T tesla|F|C
degree deg 度|percent|dollar usd|cent|euro|mph|celsius|fahrenheit
"""
_UNITS = {word: group.split()[0] for group in _GROUPS.replace("\n", "|").split("|") if group for word in group.split()}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3", "平方": "^2", "立方": "^3"}
_MULTIPLES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MULTIPLES |= {"万": 10**4, "亿": 10**8}
# With one of these words, a value is more than a plain quantity
_QUALIFIERS = frozenset(
    "a about all almost and any approximately are as at be but either else even every except for from if infinitely is "
    "maybe mod modulo nearly negative neither no nor not odd of on only or over respectively some "
    "such than that the then there to under unless until when where which while with".split()
)
# Before a noun these say what is counted: "7 real solutions", "3 odd integers"
_COUNTED = frozenset("negative odd even of".split())
_FUNCTIONS = frozenset("arg cos cot csc det dim exp gcd lcm ln log max mod sec sgn sin tan".split())
_ATOM = r"(?:\\text\{(?:[^{}]|\^\{-?\d\})*\}|\\Omega|\\mu|\^\{-?\d\})"
_TAIL = re.compile(rf"(?:{_ATOM}|\\cdot|[/ ])+")
_START = re.compile(r"\\text\{|\\Omega|\\mu *\\text")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_BARE_TAIL = re.compile(r"(?<![\\A-Za-z])[A-Za-z][A-Za-z./ ]*(?:\^\{[23]\})?$|[一-鿿]+(?:/[一-鿿]+)?$")
_IN_BRACKETS = re.compile(
    r"(?<=[\d}i] )\( ?(\\text\{[^{}]*\}(?:\^\{\d\})?|[A-Za-z][A-Za-z./ -]+(?:\^\{\d\})?)\)$|\(([一-鿿]+)\)$"
)
_DEGREES = re.compile(r"\^\{\\circ\}\s*(?:\\text\{)?([CF]?)\}?$")
_WORD = re.compile(r"([^\W\d_](?:[^\W\d_]|-(?!\d))*)(?:\^?(-?\d))?")
_MAX_WORDS = 4


def split_unit(latex: str) -> tuple[str, str | None, Fraction]:
    r"""
    Splits normalized LaTeX into value, unit and multiple: `18\pi\text{square centimeters}` is `18\pi`, `cm^2` and 1,
    `2 \text{ dozen}` is `2`, `None` and 12.

    Text after a value is its unit, unless one of its words qualifies the value ("or 6", "is odd"). Outside a text
    command, a unit is a known unit of at least two letters, or words of at least four letters. Words that are not known
    units ("apples", "units") are dropped. Without a unit, the value is the whole formula.
    """
    whole = latex, None, Fraction(1)
    if "\\$" in latex:
        value, _, multiple = split_unit(latex.replace("\\$", " ").strip())
        return value, "dollar", multiple
    if latex.endswith("\\%"):
        return latex[:-2].strip(), "percent", Fraction(1)
    degrees = _DEGREES.search(latex)
    if degrees and not TRIGONOMETRY.search(latex):
        unit = {"C": "celsius", "F": "fahrenheit"}.get(degrees[1], "degree")
        return latex[: degrees.start()].strip(), unit, Fraction(1)
    bracket = _IN_BRACKETS.search(latex)
    if bracket:  # 9 (apples)
        latex = f"{latex[: bracket.start()]}\\text{{{re.sub(r'[{}]|^.text', '', bracket[1] or bracket[2])}}}"
    marks = _START.search(latex) or _BARE_TAIL.search(latex)
    if marks is None:
        return whole
    value, tail = latex[: marks.start()], latex[marks.start() :]
    in_text = tail.startswith("\\")
    words = _words(tail)
    if not re.search(r"\d|\\pi|\\sqrt", value) or not _can_be_unit(words, value, tail, in_text):
        return whole
    multiple = Fraction(1)
    while words and words[0].lower() in _MULTIPLES:
        multiple *= _MULTIPLES[words.pop(0).lower()]
    return value.strip(), _one_spelling(words), multiple


def units_agree(gold: str | None, answer: str | None) -> bool:
    """Whether two units are equal or one is missing. They are not converted. A degree sign alone is any degree."""
    if gold is None or answer is None or gold == answer:
        return True
    return "degree" in (gold, answer) and not {gold, answer}.isdisjoint({"celsius", "fahrenheit"})


def _words(tail: str) -> list[str]:
    r"""The words of a unit with their exponents: `per` for `/`, and `cm^2` for `\text{cm}^{2}`."""
    tail = re.sub(r"\\text\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1", tail)
    tail = tail.replace("\\cdot", " ").replace("\\Omega", "Ω").replace("\\mu", "μ").replace("μ ", "μ")
    tail = re.sub(r"\s*\^\{?(-?\d)\}?", r"^\1 ", tail).replace("/", " per ")
    tail = re.sub(r"[()]", " ", tail)
    return re.sub(r"(平方|立方|[万亿])", r"\1 ", tail.replace(".", "")).split()


def _can_be_unit(words: list[str], value: str, tail: str, in_text: bool) -> bool:
    plain = [word.partition("^")[0] for word in words]
    lower = [word.lower() if len(word) > 1 else word for word in plain]
    if not 0 < len(words) <= _MAX_WORDS or not all(_WORD.fullmatch(word) for word in words):
        return False
    counted = len(lower) > 1 and len(lower[-1]) > 2 and lower[0] not in ("of", "is")
    if not (_QUALIFIERS - _COUNTED if counted else _QUALIFIERS).isdisjoint(lower):
        return False
    if in_text:
        return _TAIL.fullmatch(tail) is not None
    if tail[0] >= "一":
        return True
    if not _FUNCTIONS.isdisjoint(plain):
        return False
    known = _known_unit(plain[0]) is not None or lower[0] in _POWERS or lower[0] in _MULTIPLES
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
            spelled += ("" if not spelled or spelled.endswith("/") else "*") + unit
            spelled += f"^{exponent}" if exponent else power
            power = ""
    return "mi/h" if spelled == "mph" else spelled or None


def _known_unit(word: str) -> str | None:
    spellings = (word, word.lower(), word.lower().removesuffix("s"))
    return next((_UNITS[spelling] for spelling in spellings if spelling in _UNITS), None)
