r"""Normalizes the LaTeX of formulas: `½`, `\dfrac12` and `\tfrac 1{2}` become `\frac{1}{2}`."""

import re
from collections import deque
from collections.abc import Sequence

MAX_DEPTH = 50

_SYMBOLS = r"""
×\times ·\cdot ⋅\cdot ÷\div ±\pm √\sqrt °^\circ ≤\leq ≥\geq ⩽\leq ⩾\geq ≠\neq ≈\approx →\to ∞\infty ∅\emptyset ∪\cup
∩\cap ∈\in …\ldots π\pi α\alpha β\beta γ\gamma θ\theta λ\lambda φ\phi ∠\angle
½\frac12 ⅓\frac13 ⅔\frac23 ¼\frac14 ¾\frac34
"""
_CHARACTERS = str.maketrans(
    {
        **{symbol[0]: f"{symbol[1:]} " for symbol in _SYMBOLS.split()},
        **dict.fromkeys("−–—‐‑－", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u200b\u3000\t\r\n", " "),
        **dict(zip("，；：（）［］％＝＋＜＞０１２３４５６７８９", ",;:()[]%=+<>0123456789", strict=True)),
        **{character: f"^{digit} " for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{character: f"_{digit} " for digit, character in enumerate("₀₁₂₃₄₅₆₇₈₉")},
        **{character: rf"\mathbb{{{letter}}}" for character, letter in zip("ℝℤℕℚℂ", "RZNQC", strict=True)},
        **{"’": "'", "′": "'", "¢": r"\text{cents}"},
        **dict.fromkeys("€£¥₹", r"\$"),
    }
)
_SYNONYMS = {
    **dict.fromkeys("dfrac tfrac cfrac".split(), "frac"),
    **dict.fromkeys(
        "textbf textit textrm textsf texttt textup textnormal mbox hbox mathrm mathsf mathtt".split(), "text"
    ),
    **{"le": "leq", "leqslant": "leq", "lt": "<", "ge": "geq", "geqslant": "geq", "gt": ">", "ne": "neq"},
    **dict.fromkeys("dots cdots dotsc dotsb hdots".split(), "ldots"),
    **{"langle": "(", "rangle": ")", "lparen": "(", "rparen": ")", "lbrack": "[", "rbrack": "]"},
    **{"lbrace": "\\{", "rbrace": "\\}", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|"},
    **{"ast": "cdot", "degree": "circ", "rightarrow": "to", "lor": "vee", "varnothing": "emptyset", "colon": ":"},
}
# Commands that only change the appearance of a formula
_LOOKS = frozenset(
    "left right mleft mright middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr limits displaystyle "
    "textstyle boxed fbox mathstrut mathbf mathit bm boldsymbol rm bf it".split()
)
_SPACES = frozenset(["\\,", "\\;", "\\:", "\\>", "\\ ", "~", "\\quad", "\\qquad", "\\enspace", "\\space"])
_ARGUMENTS = {"\\frac": 2, "\\sqrt": 1, "^": 1, "_": 1}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_WITHOUT_BACKSLASH = re.compile(
    r"(?<![\\A-Za-z])(sqrt|pi|infinity|infty|inf|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln)(?![A-Za-z])"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\{,\}|\\[,;: ]|~)\d{3})+(?!\d)")
_COMMAND_OR_GROUP = re.compile(r"(?:\\[A-Za-z]+|[}\]])\s*$")
_TEXT = re.compile(r"(?<!\\)\\text\s*\{([^{}]*)\}")
_CONNECTIVE = re.compile(r"[,;]?\s*(and|or)\s*", re.IGNORECASE)
_UNITS_OF_ONE_LETTER = frozenset("ACFJKLNTVWcdghlms")


class UnreadableError(ValueError):
    """A formula with unbalanced braces or too deep nesting."""


def plain_latex(text: str) -> str:
    r"""
    Rewrites a formula or a short text in one spelling, without changing its meaning.

    It removes dollar signs around formulas, commands that only change the appearance, punctuation at the end,
    unambiguous thousands separators, and text commands around formulas. It adds braces around arguments, also for
    `^(...)` and `sqrt(...)`, and replaces symbols by commands. `$\left(-\dfrac12,\, √3\right)$.` becomes
    `(-\frac{1}{2}, \sqrt{3})`. Raises `UnreadableError` if braces are unbalanced or nested deeper than 50.
    """
    text = text.translate(_CHARACTERS).replace("\\!", "").replace("**", "^")
    text = re.sub(r"\\(?:left|right)\s*\.", "", text)
    text = re.sub(r"(?<!\\)(?:\$|\\[()]|\\\[|\\\])", " ", text)
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)  # a decimal comma
    text = _WITHOUT_BACKSLASH.sub(lambda name: "\\infty" if name[0].startswith("inf") else f"\\{name[0]}", text)
    text = _joined(deque(_renamed(_TOKEN.findall(text))))
    text = _TEXT.sub(_text_or_symbol, text)
    text = re.sub(r"\s+", " ", text).strip()
    return text if text.endswith("...") else text.rstrip(".,; ")


def _renamed(tokens: Sequence[str]) -> list[str]:
    renamed = []
    for token in tokens:
        if token in _SPACES or token.isspace():
            token = " "
        elif token == "%":
            token = "\\%"
        elif len(token) > 1 and token[1].isalpha():
            name = _SYNONYMS.get(token[1:], token[1:])
            if name in _LOOKS:
                continue
            token = f"\\{name}" if name.isalpha() else name
        renamed.append(token)
    return renamed


def _joined(tokens: deque[str], closer: str = "", depth: int = 0) -> str:
    """Takes the tokens before the closer, and the closer, or all of them if there is none."""
    if depth > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    written = ""
    while tokens:
        token = tokens.popleft()
        if token == closer:
            return written
        if token in _ARGUMENTS:
            written += _with_arguments(token, tokens, depth)
        elif token == "{":
            group = _joined(tokens, "}", depth + 1)
            # An argument keeps its braces. Others are invisible
            written += f"{{{group}}}" if _COMMAND_OR_GROUP.search(written) else group
        elif token == "(" and closer == ")":
            written += f"({_joined(tokens, closer, depth + 1)})"
        elif token == "}":
            raise UnreadableError("A closing brace has no opening one.")
        else:
            written += token
    if closer:
        raise UnreadableError(f"'{closer}' is missing.")
    return written


def _with_arguments(command: str, tokens: deque[str], depth: int) -> str:
    """A command with the arguments that follow it, in braces."""
    degree = ""
    if command == "\\sqrt" and tokens and tokens[0] == "[" and "]" in tokens:
        while not degree.endswith("]"):
            degree += tokens.popleft()
    arguments = (_argument(command, tokens, depth + 1) for _ in range(_ARGUMENTS[command]))
    return command + degree + "".join(f"{{{argument}}}" for argument in arguments)


def _argument(command: str, tokens: deque[str], depth: int) -> str:
    if depth > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    while tokens and tokens[0] == " ":
        tokens.popleft()
    if not tokens or tokens[0] == "}":
        raise UnreadableError(f"An argument of {command} is missing.")
    token = tokens.popleft()
    if token == "{":
        return _joined(tokens, "}", depth).strip()
    if token == "(" and command in ("^", "\\sqrt"):
        return _joined(tokens, ")", depth).strip()
    if token in _ARGUMENTS:
        return _with_arguments(token, tokens, depth)
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
    is_unit = content in _UNITS_OF_ONE_LETTER and before[-1:].isalnum() | before.endswith(("}", ")", "/"))
    return f"\\text{{{content}}}" if is_unit or re.search(r"[^\W\d_]{2}", content) else f" {content} "
