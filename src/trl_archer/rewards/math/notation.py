r"""Normalizes the LaTeX of formulas: `½`, `\dfrac12` and `\tfrac 1{2}` become `\frac{1}{2}`."""

import re
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

MAX_DEPTH = 50

_SYMBOLS = r"""
×\times ·\cdot ⋅\cdot ÷\div ±\pm ∓\mp √\sqrt °^\circ ∘\circ ≤\leq ≥\geq ⩽\leq ⩾\geq ≦\leq ≧\geq ≠\neq ≈\approx ≃\approx
→\to ⇒\Rightarrow ∞\infty ∅\emptyset ∪\cup ∩\cap ∈\in ∉\notin …\ldots ⋯\ldots ∖\setminus ∀\forall ⌊\lfloor ⌋\rfloor
⌈\lceil ⌉\rceil ⟨\langle ⟩\rangle ∣\mid ∨\vee ∧\wedge ∠\angle △\triangle
π\pi α\alpha β\beta γ\gamma δ\delta ε\epsilon θ\theta λ\lambda μ\mu µ\mu ρ\rho σ\sigma τ\tau φ\phi ϕ\phi ψ\psi ω\omega
Δ\Delta Ω\Omega Ω\Omega Σ\Sigma Φ\Phi
½\frac12 ⅓\frac13 ⅔\frac23 ¼\frac14 ¾\frac34 ⅕\frac15 ⅖\frac25 ⅗\frac35 ⅘\frac45 ⅙\frac16 ⅚\frac56 ⅛\frac18 ⅜\frac38
⅝\frac58 ⅞\frac78
"""
_CHARACTERS = str.maketrans(
    {
        **{symbol[0]: f"{symbol[1:]} " for symbol in _SYMBOLS.split()},
        **dict.fromkeys("−–—‐‑－", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u3000\t\r", " "),
        **dict.fromkeys("\u200b\u2060\ufeff✓✔✅∎■□", ""),
        **dict(zip("，；：（）［］｛｝｜％＝＋＜＞／０１２３４５６７８９", ",;:()[]{}|%=+<>/0123456789", strict=True)),
        **{character: f"^{digit} " for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{character: f"_{digit} " for digit, character in enumerate("₀₁₂₃₄₅₆₇₈₉")},
        **{character: rf"\mathbb{{{letter}}}" for character, letter in zip("ℝℤℕℚℂ", "RZNQC", strict=True)},
        **{chr(ord("①") + index): f", ({index + 1})" for index in range(20)},
        **{
            "’": "'",
            "′": "'",
            "″": "''",
            "¢": r"\text{cents}",
            "。": ".",
            "、": ", ",
            "或": " or ",
            "⁄": "/",
            "≅": "\\approx ",
        },
        **dict.fromkeys("€£¥₹￥", r"\$"),
    }
)
_SYNONYMS = {
    **dict.fromkeys("dfrac tfrac cfrac nicefrac sfrac flatfrac".split(), "frac"),
    **dict.fromkeys(
        "textbf textit textrm textsf texttt textup textnormal mbox hbox mathrm mathsf mathtt emph unit".split(), "text"
    ),
    **{"le": "leq", "leqslant": "leq", "leqq": "leq", "lt": "<", "ge": "geq", "geqslant": "geq", "geqq": "geq"},
    **{"gt": ">", "ne": "neq", "simeq": "approx", "thickapprox": "approx", "doteq": "approx", "cong": "approx"},
    **dict.fromkeys("dots cdots dotsc dotsb dotsm hdots textellipsis".split(), "ldots"),
    **{"langle": "(", "rangle": ")", "lparen": "(", "rparen": ")", "lbrack": "[", "rbrack": "]"},
    **{"lbrace": "\\{", "rbrace": "\\}", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "land": "wedge"},
    **{"ast": "cdot", "degree": "circ", "rightarrow": "to", "lor": "vee", "varnothing": "emptyset", "colon": ":"},
    **{"backslash": "setminus", "smallsetminus": "setminus", "Bbb": "mathbb", "imath": "i", "tg": "tan", "ctg": "cot"},
}
# Commands that only change the appearance of a formula
_LOOKS = frozenset(
    "left right mleft mright middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr limits displaystyle "
    "textstyle scriptstyle boxed fbox mathstrut mathbf mathit bm boldsymbol rm bf it underline uline ensuremath tiny "
    "scriptsize footnotesize small normalsize large Large LARGE huge Huge checkmark blacksquare square Box qed hfill "
    "nolimits therefore".split()
)
_SPACES = frozenset(["\\,", "\\;", "\\:", "\\>", "\\ ", "~", "\\enspace", "\\space", "\\thinspace"])
_ARGUMENTS = {"\\frac": 2, "\\sqrt": 1, "^": 1, "_": 1}
_NOTHING = (
    "\x01"  # in place of a command that changes the appearance, so that the group after it does not become an argument
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_WITHOUT_BACKSLASH = re.compile(
    r"(?<![\\A-Za-z])(sqrt|pi|infinity|infty|inf|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|"
    r"(?:exp|max|min)(?= ?\())(?![A-Za-z])"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\{,\}|\\[,;: ]|~)\d{3})+(?!\d)")
_SPACED_THOUSANDS = re.compile(r"[\s$+-]*\d{1,3}(?:,\s*\\[,;:]\s*\d{3})+[\s$.]*")
_COMMAND_OR_GROUP = re.compile(r"(?:\\[A-Za-z]+|[}\]])\s*$")
_TEXT = re.compile(r"(?<!\\)\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_CONNECTIVE = re.compile(r"[,;]?\s*(and|or|to)\s*", re.IGNORECASE)
_UNIT_IN_TEXT = re.compile(
    r"\s*\(?(?:(?:[ACFJKLNTVWcdghlms]|\\Omega)(?:\^\{?-?\d\}?)?(?:\s*(?:[/.]|\\cdot)\s*|\s*\)?\s*$))+"
)
_WITHIN_UNIT = re.compile(r"\d\s*(?:\\mu|\\text\s*\{[^{}]*\}\S*\s*\\cdot)$")
_MARKDOWN = re.compile(r"\s*(\*{1,3}|_{2,3}|`{1,3})(?=\S)(.+?)(?<=\S)\1[\s.]*", re.DOTALL)
_DOUBLED = re.compile(
    r"\\\\(?=(?:d?frac|sqrt|leq?|geq?|neq?|text|pi|infty|in|cup|cap|mathbb|begin|left|right|cdot|times)(?![a-z]))"
)
_WITH_SETTING = re.compile(
    r"\\(?:textcolor|color|colorbox|[hv]?phantom|[hv]space\*?|label|tag)\s*(?:\[[^\[\]]*\]\s*)?\{[^{}]*\}|"
    r"\\phantom\s*[-+=]"
)
_SYSTEM = re.compile(
    r"(?:(?:\\left\s*)?\\\{\s*(?=\\begin))?"
    r"\\begin\{(cases|aligned|align\*?|gathered|(?<=\{\\begin\{)array)\}\s*(?:\{[clr| ]*\})?(.*?)\\end\{\1\}"
    r"(?:\s*\\right\s*\.)?",
    re.DOTALL,
)
_BUILDER_IN_BRACES = re.compile(r"(?<!\\)\{\s*([a-zA-Z](?:\s*\\in\b[^{}|]*)?(?:\||\\mid\b)[^{}]*)\}")
_FRACTION_OF_UNITS = re.compile(
    r"(?<=[\w})])(?:[\s~]|\\[,;: ])*\\[dt]?frac\s*\{\s*(\\(?:text|mathrm)\{[^{}]*\}(?:\^\{?\d\}?)?)\s*\}"
    r"\s*\{\s*(\\(?:text|mathrm)\{[^{}]*\}(?:\^\{?\d\}?)?)\s*\}"
)
_HALF_LINES = {"+": r"(0, \infty)", "-": r"(-\infty, 0)", ">0": r"(0, \infty)", "<0": r"(-\infty, 0)"}
_HALF_LINES |= {"\\geq0": r"[0, \infty)", "\\leq0": r"(-\infty, 0]"}
_HALF_LINE = re.compile(r"\\mathbb\{R\}\s*[\^_]\{\s*(\+|-|[<>]\s*0|\\[lg]eq\s*0)\s*\}")


class UnreadableError(ValueError):
    """A formula with unbalanced braces or too deep nesting."""


def plain_latex(text: str) -> str:
    r"""
    Rewrites a formula or a short text in one spelling, without changing its meaning.

    It removes dollar signs around formulas, commands that only change the appearance, punctuation at the end,
    unambiguous thousands separators, and text commands around formulas. It adds braces around arguments, also for
    `^(...)` and `sqrt(...)`, and replaces symbols by commands. `$\left(-\dfrac12,\, √3\right)$.` becomes
    `(-\frac{1}{2}, \sqrt{3})`. Line breaks and wide spaces become `\quad`. Raises `UnreadableError` if braces are
    unbalanced or nested deeper than 50.
    """
    marked = _MARKDOWN.fullmatch(text)
    text = (marked[2] if marked else text).strip().translate(_CHARACTERS)
    if _DOUBLED.search(text) and not re.search(r"(?<!\\)\\begin", text):
        text = text.replace("\\\\", "\\")
    text = re.sub(r"\\!\s*", "", text).replace("**", "^")
    text = re.sub(r"\\textcircled\{?(\d)\}?", r", (\1)", _WITH_SETTING.sub("", text))
    text = re.sub(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\A([^{}=,;]*)\\over(?![a-z])([^{}=,;]*)\Z", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\operatorname\*?\s*\{([a-z]+)\}", r"\\\1 ", text)
    text = _BUILDER_IN_BRACES.sub(r"\\{\1\\}", text)
    text = _SYSTEM.sub(_rows, re.sub(r"\\\{\s+(?=\\begin)", r"\\{", text))
    text = _FRACTION_OF_UNITS.sub(r" \1/\2", text)
    text = re.sub(r"\\(?:left|right)\s*\.", "", text)
    text = re.sub(r"(?<!\\)(?:\$|\\[()]|\\\[|\\\])", " ", text)
    text = re.sub(r"(?<![A-Za-z\\])abs\(([^()]*)\)", r"|\1|", text)
    if _SPACED_THOUSANDS.fullmatch(text):
        text = re.sub(r",\s*\\[,;:]\s*", "", text)
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)  # a decimal comma
    text = _WITHOUT_BACKSLASH.sub(lambda name: "\\infty" if name[0].startswith("inf") else f"\\{name[0]}", text)
    tokens = _renamed(_TOKEN.findall(text.strip()))
    if max(accumulate((token == "{") - (token == "}") for token in tokens), default=0) > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    text = _joined(deque(tokens)).replace(_NOTHING, "")
    text = re.sub(r"\^\{((?:\\prime ?)+)\}", lambda primes: "'" * primes[1].count("p"), text)
    text = _TEXT.sub(_text_or_symbol, text)
    text = _HALF_LINE.sub(lambda line: _HALF_LINES[line[1].replace(" ", "")], text)
    text = re.sub(r"(?<=\\in)\s*([ZNRQC])(?![A-Za-z_^'(])", r" \\mathbb{\1}", text)
    text = re.sub(r"(?:\s*\\quad)+(?![A-Za-z])\s*", r" \\quad ", re.sub(r"\s+", " ", text)).strip()
    text = text.removesuffix("\\quad").removeprefix("\\quad").strip()
    return text if text.endswith("...") else text.rstrip(".,; ")


def _rows(system: re.Match[str]) -> str:
    """The rows of a system, one after another. A piecewise definition, whose rows have conditions, stays."""
    rows = [row.strip() for row in re.split(r"\\\\(?:\[[^\]]*\])?", system[2])]
    if system[1] in ("cases", "array") and any(re.search(r"&(?!\s*[=<>]|\s*\\[lg]eq)(?<![=<>]&)", row) for row in rows):
        return system[0]
    written = ""
    for row in filter(None, (row.replace("&", "").strip(" ,;") for row in rows)):
        written += f" {row}" if not written or re.match(r"[=<>+]|\\[lg]eq", row) else f" \\quad {row}"
    return written


def _renamed(tokens: Sequence[str]) -> list[str]:
    renamed = []
    for token in tokens:
        if token in ("\\quad", "\\qquad", "\\\\", "\\newline") or "\n" in token:
            token = "\\\\" if token == "\\\\" and "\\begin" in tokens else " \\quad "
        elif token in _SPACES or token.isspace():
            token = " "
        elif token == "\\&":
            token = " and "
        elif token == "%":
            token = "\\%"
        elif len(token) > 1 and token[1].isalpha():
            name = _SYNONYMS.get(token[1:], token[1:])
            if name in _LOOKS:
                renamed.append(_NOTHING)
                continue
            token = f"\\{name}" if len(name) > 1 and name.isalpha() else name
        renamed.append(token)
    return renamed


def _joined(tokens: deque[str], closer: str = "") -> str:
    """Takes the tokens before the closer, and the closer, or all of them if there is none."""
    written = ""
    while tokens:
        token = tokens.popleft()
        if token == closer:
            return written
        if token in _ARGUMENTS:
            written += _with_arguments(token, tokens)
        elif token == "{":
            group = _joined(tokens, "}")
            # An argument keeps its braces. Others are invisible
            written += f"{{{group}}}" if _COMMAND_OR_GROUP.search(written) else group
        elif token == "(" and closer == ")":
            written += f"({_joined(tokens, closer)})"
        elif token == "}":
            raise UnreadableError("A closing brace has no opening one.")
        else:
            written += token
    if closer:
        raise UnreadableError(f"'{closer}' is missing.")
    return written


def _with_arguments(command: str, tokens: deque[str]) -> str:
    """A command with the arguments that follow it, in braces."""
    degree = ""
    if command == "\\sqrt" and tokens and tokens[0] == "[" and "]" in tokens:
        while not degree.endswith("]"):
            degree += tokens.popleft()
    arguments = (_argument(command, tokens) for _ in range(_ARGUMENTS[command]))
    return command + degree + "".join(f"{{{argument}}}" for argument in arguments)


def _argument(command: str, tokens: deque[str]) -> str:
    while tokens and tokens[0] in (" ", _NOTHING):
        tokens.popleft()
    if not tokens or tokens[0] == "}":
        raise UnreadableError(f"An argument of {command} is missing.")
    token = tokens.popleft()
    if token == "{":
        return _joined(tokens, "}").strip()
    if token == "(" and command in ("^", "\\sqrt"):
        return _joined(tokens, ")").strip()
    if token in _ARGUMENTS:
        return _with_arguments(token, tokens)
    if command != "\\frac":  # 10^12 contains a number, \frac12 two digits
        if token in "+-" and tokens:
            token += tokens.popleft()
        while token.strip("+-").isdigit() and tokens and tokens[0].isdigit():
            token += tokens.popleft()
    return token


def _text_or_symbol(text: re.Match[str]) -> str:
    content = text[1].strip()
    connective = _CONNECTIVE.fullmatch(content)
    if connective:
        return f" {connective[1].lower()} "
    before = text.string[: text.start()].rstrip()
    is_value = before[-1:].isdigit() or before.endswith(("}", ")", "/"))
    is_unit = (is_value or _WITHIN_UNIT.search(before)) and _UNIT_IN_TEXT.fullmatch(content)
    quantity = re.fullmatch(r"(\d[\d:.,/]*)\s*([A-Za-z][A-Za-z. ]*)", content)
    if quantity and not is_value:
        return rf"{quantity[1]}\text{{{quantity[2]}}}"
    degrees = re.fullmatch(r"(.*?)\s*(\^\{\\circ\})\s*(.*)", content)
    if degrees and is_value:
        return rf"{degrees[1]}{degrees[2]}\text{{{degrees[3]}}}" if degrees[3] else degrees[1] + degrees[2]
    return f"\\text{{{content}}}" if is_unit or re.search(r"[^\W\d_]{2}|[一-鿿]", content) else f" {content} "
