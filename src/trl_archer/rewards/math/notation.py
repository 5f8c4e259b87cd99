r"""Normalizes the LaTeX of formulas: `½`, `\dfrac12` and `\tfrac 1{2}` become `\frac{1}{2}`."""

import re
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
    text = _join(_renamed(_TOKEN.findall(text)))
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


def _join(tokens: Sequence[str], depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    written = ""
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token in _ARGUMENTS:
            piece, position = _with_arguments(tokens, position, depth)
        elif token == "{":
            end = _closing(tokens, position)
            piece = _join(tokens[position + 1 : end], depth + 1)
            if _COMMAND_OR_GROUP.search(written):  # an argument; other braces are invisible
                piece = f"{{{piece}}}"
            position = end + 1
        elif token == "}":
            raise UnreadableError("A closing brace has no opening one.")
        else:
            piece = token
            position += 1
        written += piece
    return written


def _with_arguments(tokens: Sequence[str], position: int, depth: int) -> tuple[str, int]:
    """A command with its arguments in braces, and the position after them."""
    command = tokens[position]
    position += 1
    degree = ""
    if command == "\\sqrt" and position < len(tokens) and tokens[position] == "[" and "]" in tokens[position:]:
        end = tokens.index("]", position)
        degree = "".join(tokens[position : end + 1])
        position = end + 1
    arguments = []
    for _ in range(_ARGUMENTS[command]):
        argument, position = _argument(command, tokens, position, depth + 1)
        arguments.append(f"{{{argument}}}")
    return command + degree + "".join(arguments), position


def _argument(command: str, tokens: Sequence[str], position: int, depth: int) -> tuple[str, int]:
    if depth > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    while position < len(tokens) and tokens[position] == " ":
        position += 1
    if position == len(tokens):
        raise UnreadableError(f"An argument of {command} is missing.")
    token = tokens[position]
    if token == "{" or (token == "(" and command in ("^", "\\sqrt")):
        end = _closing(tokens, position)
        return _join(tokens[position + 1 : end], depth).strip(), end + 1
    if token in _ARGUMENTS:
        return _with_arguments(tokens, position, depth)
    end = position + 1
    if command != "\\frac":  # 10^12 contains a number, \frac12 two digits
        if token in "+-" and end < len(tokens):
            end += 1
        while tokens[end - 1].isdigit() and end < len(tokens) and tokens[end].isdigit():
            end += 1
    return "".join(tokens[position:end]), end


def _closing(tokens: Sequence[str], position: int) -> int:
    opener = tokens[position]
    closer = {"{": "}", "(": ")"}[opener]
    depth = 0
    for index in range(position, len(tokens)):
        depth += (tokens[index] == opener) - (tokens[index] == closer)
        if depth == 0:
            return index
    raise UnreadableError(f"'{opener}' is not closed.")


def _text_or_symbol(text: re.Match[str]) -> str:
    content = text[1].strip()
    connective = _CONNECTIVE.fullmatch(content)
    if connective:
        return f" {connective[1].lower()} "
    before = text.string[: text.start()].rstrip()
    is_unit = content in _UNITS_OF_ONE_LETTER and before[-1:].isalnum() | before.endswith(("}", ")", "/"))
    return f"\\text{{{content}}}" if is_unit or re.search(r"[^\W\d_]{2}", content) else f" {content} "
