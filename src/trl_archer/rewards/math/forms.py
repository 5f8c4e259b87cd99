r"""Parses an answer into its structure: a number, a point or interval, a list, a word, an equation.

Rules read the structure. The expressions in it are left to a computer algebra system.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from .notation import MAX_DEPTH, UnreadableError, plain_latex
from .numbers import Number, join_thousands, read_number
from .units import split_unit


@dataclass(frozen=True, slots=True)
class Answer:
    r"""
    A parsed answer. Its kind determines `label` and `parts`:

    - `"number"`: `number` is set. `"expression"`: no label, no parts.
    - `"based"`: a numeral such as `101_2`, with the base as `label`.
    - `"text"`: a few words, folded into `label`, or a time or ratio such as `4:30`.
    - `"choice"`: the letter, and the content next to it.
    - `"equation"`: the name on its left side, empty if that is not a name, and its last side. Also `x \in (1, 2)` and
      solved inequalities such as `x > 1`, whose last side is the interval.
    - `"relation"`: any other inequality. No label, no parts.
    - `"list"`, `"set"`, `"union"`: unordered elements. `"tuple"`: brackets and elements, also of an interval.
    - `"matrix"`: a shape such as `2x3`, and elements by row.
    - `"unreadable"`: prose, unbalanced LaTeX, an ellipsis, or nothing.
    """

    kind: str
    latex: str
    parts: tuple["Answer", ...] = ()
    label: str = ""
    number: Number | None = None
    unit: str | None = None  # of a number, an expression or a time; `"percent"` is a unit

    @property
    def canonical(self) -> str:
        return canonical(self.latex)


_OPENERS = {"(", "[", "{", "\\{", "\\begin"}
_CLOSERS = {")", "]", "}", "\\}", "\\end"}
_RELATIONS = {"<", ">", "\\leq", "\\geq", "\\neq"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|.", re.DOTALL)
_ELLIPSIS = re.compile(r"\\ldots|\.\.\.")
_CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice)\s*)?\(?([A-J])\)?[.:]?")
_LABELED_CHOICE = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])\s*(?![\s^_*/=<>+]|\\cdot|\\times)(.+)")
_NAME = re.compile(
    r"\(?(?:\\?[^\W\d_]+|\\(?:text|overline|vec|hat|bar|widehat|mathbb|mathcal|operatorname)\{[^{}]*\})"
    r"(?:_\{[^{}]*\}|\^\{-1\}|\^\{\\prime\}|[\w'|(), ]|\\[A-Za-z]+(?![A-Za-z{]))*"
)
_NO_NAME = re.compile(r"\\(?:cdot|times|div|pm|frac|sqrt|sin|cos|tan|log|ln|pi|infty|circ)(?![A-Za-z])")
_MATRIX = re.compile(r"\\begin\{([bp]?matrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_BASED = re.compile(r"([0-9][0-9 ]*)_\{(?:\\text\{)?(\w+)\}?\}")
_COLONS = re.compile(r"\d+(?: ?: ?\d+)+")  # a time, or a ratio of three terms
_ENUMERATION = re.compile(r"\\text\{([^{}]*(?:,|;| and | or )[^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|['\-. ])*")
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
_PROSE = re.compile(r"\\text\{[^{}]*[^\W\d_]{2}|(?<![\\\w{])[^\W\d_]{4,}(?![\w}])")
_INDEX = re.compile(r"_\{[^{}]*(?:\{[^{}]*\})?\}")
_MAX_WORDS = 3
_MAX_WORDS_OF_NAME = 5


def read_answer(text: str) -> Answer:
    r"""Parses LaTeX or plain text. `x = 2 \text{ or } x = \dfrac12` is an equation of `x` and a list of two numbers."""
    try:
        return _read(plain_latex(text))
    except UnreadableError:
        return Answer("unreadable", text)


def canonical(latex: str) -> str:
    """The formula without a leading plus, and without spaces and multiplication signs except between digits."""
    latex = re.sub(r"\s*(?:\\cdot|\\times|\*)\s*(?![A-Za-z])", "*", latex)
    latex = re.sub(r"(?<!\d)[* ]+|[* ]+(?!\d)", "", re.sub(r"(?<=\d) +(?=\d)", "\x00", latex).replace(" ", ""))
    return latex.removeprefix("+").replace("\x00", " ")


def _read(latex: str, in_brackets: bool = False, depth: int = 0) -> Answer:
    """In brackets a comma always separates. Elsewhere it may group the digits of a number."""
    latex = _without_parentheses(latex.strip().removeprefix("+").strip())
    if depth > MAX_DEPTH:
        raise UnreadableError("The nesting is too deep.")
    if not latex or _ELLIPSIS.search(latex):
        return Answer("unreadable", latex)
    for reader in (_choice, _list, _approximation, _equation, _inequality, _collection, _plus_or_minus):
        answer = reader(latex, in_brackets, depth + 1)
        if answer is not None:
            return answer
    return _leaf(latex, depth + 1)


def _choice(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    choice = _CHOICE.fullmatch(latex)
    if choice:
        return Answer("choice", latex, label=choice[1])
    labeled = _LABELED_CHOICE.fullmatch(latex)
    if not labeled:
        return None
    if re.search(r"\([A-J]\)", labeled[3]):
        return Answer("unreadable", latex)
    return Answer("choice", latex, (_read(labeled[3], in_brackets, depth),), labeled[1] or labeled[2])


def _list(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    if ", " in latex or not (in_brackets or re.search(r"[(\[]|\\\{", latex)):
        latex = join_thousands(latex)
    text = _ENUMERATION.fullmatch(latex)
    if text:
        return _read(text[1], in_brackets, depth)
    pieces, separators = _split(latex, {",", ";", "and", "or", "\\vee"})
    if len(pieces) == 1:
        return None if latex == pieces[0] else _read(pieces[0], in_brackets, depth)
    # "1, 2, and 3" has nothing between its last comma and "and"
    pieces = [piece for index, piece in enumerate(pieces) if piece or not 0 < index < len(pieces) - 1]
    parts = _elements(pieces, depth)
    if any(part.kind == "unreadable" for part in parts):
        return Answer("unreadable", latex)
    names = [part.label if part.kind == "equation" else None for part in parts]
    ranges = [part.kind == "equation" and part.parts[0].kind == "tuple" for part in parts]
    if all(ranges) and any(re.search(r"[<>]|\\[lg]eq", piece) for piece in pieces):
        if len(set(names)) == 1 and set(separators) <= {"or", "\\vee"}:
            union = Answer("union", latex, tuple(part.parts[0] for part in parts))
            return Answer("equation", latex, (union,), names[0] or "")
        return Answer("relation", latex)
    if names[0] and (set(names) == {names[0]} or set(names[1:]) == {None}):  # x = 1, x = 2 or x = 1, 2
        values = tuple(part.parts[0] if part.kind == "equation" else part for part in parts)
        return Answer("equation", latex, (Answer("list", latex.partition("=")[2].strip(), values),), names[0])
    return Answer("list", latex, parts)


def _elements(pieces: Sequence[str], depth: int) -> tuple[Answer, ...]:
    r"""The answers in the pieces of a list or set. A piece such as `\pm 1` contains two."""
    answers = [_read(piece, True, depth) for piece in pieces]
    return tuple(part for answer in answers for part in (answer.parts if answer.kind == "list" else (answer,)))


def _approximation(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    r"""The left side of `\approx`, unless the right side is not its rounding."""
    sides, _ = _split(latex, {"\\approx"})
    if len(sides) == 1:
        return None
    exact, rounded = (_read(side, in_brackets, depth) for side in (sides[0], sides[-1]))
    if exact.number and rounded.number:
        difference = abs(exact.number.value - rounded.number.value)
        if difference >= Fraction(1, 10 ** (rounded.number.decimals or 0)):
            return Answer("unreadable", latex)
    return exact


def _equation(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    sides, _ = _split(latex, {"="})
    if len(sides) == 1:
        sides, _ = _split(latex, {"\\in"})
        if len(sides) == 1:
            return None
        if len(sides) > 2 or not _is_name(sides[0]):
            return Answer("relation", latex)
    if not all(sides) or any(len(_WORD.findall(side)) > _MAX_WORDS_OF_NAME for side in sides):
        return Answer("unreadable", latex)
    last = _read(sides[-1], in_brackets, depth)
    if last.kind == "unreadable" or any(_is_prose(side) and not _is_name(side) for side in sides[:-1]):
        return Answer("unreadable", latex)
    numbers = [number for number in map(read_number, sides[:-1]) if number is not None]
    if last.number and any(number.value != last.number.value for number in numbers):
        return Answer("unreadable", latex)  # 5 = 6 is two answers
    return Answer("equation", latex, (last,), canonical(sides[0]) if _is_name(sides[0]) else "")


def _is_name(side: str) -> bool:
    return _NAME.fullmatch(side) is not None and _NO_NAME.search(side) is None


def _inequality(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    sides, relations = _split(latex, _RELATIONS)
    if len(sides) == 1:
        return None
    upward = [relation in ("<", "\\leq") for relation in relations]
    if "\\neq" in relations or len(set(upward)) > 1 or len(sides) > 3 or not all(sides):
        return Answer("relation", latex)
    if not upward[0]:
        sides, relations = sides[::-1], relations[::-1]
    if len(sides) == 2:  # the missing side is infinite
        name_first = _is_name(sides[0])
        sides = ["-\\infty", *sides] if name_first else [*sides, "\\infty"]
        relations = ["<", *relations] if name_first else [*relations, "<"]
    low, name, high = sides
    if not _is_name(name) or any(_mentions(side, name) for side in (low, high)):
        return Answer("relation", latex)
    brackets = ("[" if "eq" in relations[0] else "(") + ("]" if "eq" in relations[1] else ")")
    ends = (_read(low, in_brackets, depth), _read(high, in_brackets, depth))
    interval = f"{brackets[0]}{low}, {high}{brackets[1]}"
    return Answer("equation", latex, (Answer("tuple", interval, ends, brackets),), canonical(name))


def _mentions(side: str, name: str) -> bool:
    return re.search(rf"(?<![\\A-Za-z]){re.escape(name)}(?![A-Za-z])", side) is not None or _is_name(side)


def _collection(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    unions, _ = _split(latex, {"\\cup"})
    if len(unions) > 1:
        return Answer("union", latex, tuple(_read(part, in_brackets, depth) for part in unions))
    matrix = _MATRIX.fullmatch(latex.strip("[]") if latex.startswith("[\\begin") else latex)
    if matrix:
        lines = matrix[2].strip().removesuffix("\\\\").split("\\\\")
        rows = [[cell.strip() for cell in line.split("&")] for line in lines]
        if len({len(row) for row in rows}) > 1:
            return Answer("unreadable", latex)
        cells = tuple(_read(cell, True, depth) for row in rows for cell in row)
        return Answer("matrix", latex, cells, f"{len(rows)}x{len(rows[0])}")
    if latex.startswith("\\{") and _enclosed(latex, "\\{", "\\}"):
        return _set(latex, latex[2:-2], depth)
    if latex[0] in "([" and latex[-1] in ")]" and _enclosed(latex, latex[0], latex[-1]):
        parts = tuple(_read(piece, True, depth) for piece in _pieces(latex[1:-1]))
        return Answer("tuple", latex, parts, latex[0] + latex[-1])
    return None


def _set(latex: str, content: str, depth: int) -> Answer:
    if not content.strip():
        return Answer("expression", "\\emptyset")
    builder, _ = _split(content, {"|", ":"})
    if len(builder) == 2 and _is_name(builder[0].partition("\\in")[0].strip()):
        condition = _read(builder[1], False, depth)
        return condition if condition.kind == "equation" else Answer("unreadable", latex)
    return Answer("set", latex, _elements(_pieces(content), depth))


def _pieces(content: str) -> list[str]:
    """The elements between brackets. With `, ` between them, a comma without a space groups digits."""
    return _split(join_thousands(content) if ", " in content else content, {",", ";"})[0]


def _plus_or_minus(latex: str, in_brackets: bool, depth: int) -> Answer | None:
    if latex.count("\\pm") != 1 or latex.count("\\mp") > 1:
        return None
    plus, minus = (latex.replace("\\pm", a).replace("\\mp", b) for a, b in ("+-", "-+"))
    return Answer("list", latex, (_read(plus, in_brackets, depth), _read(minus, in_brackets, depth)))


def _leaf(latex: str, depth: int) -> Answer:
    value, unit = split_unit(latex)
    number = read_number(join_thousands(value))
    if number:
        return Answer("number", value, number=number, unit=unit)
    if value != latex:
        answer = _read(value, True, depth)
        kept = answer.kind in ("expression", "text", "list", "number") and answer.unit is None
        return replace(answer, unit=unit) if kept else Answer("unreadable", latex)
    if _COLONS.fullmatch(latex):
        return Answer("text", latex, label=canonical(latex))
    based = _BASED.fullmatch(latex)
    if based:
        return Answer("based", based[1].replace(" ", ""), label=based[2])
    words = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", latex).strip()
    if _WORDS.fullmatch(words) and ("\\text" in latex or re.search(r"[^\W\d_]{4}", words)):
        return Answer("text" if len(words.split()) <= _MAX_WORDS else "unreadable", latex, label=fold_words(words))
    if _is_prose(latex) or re.search(r"\d +\d|:", latex):
        return Answer("unreadable", latex)
    return Answer("expression", latex)


def _is_prose(latex: str) -> bool:
    """Whether it contains words outside indices."""
    return _PROSE.search(_INDEX.sub("", latex)) is not None


def fold_words(words: str) -> str:
    """The letters and digits of words, in lower case."""
    return "".join(character for character in words.casefold() if character.isalnum())


def _tokens_by_depth(latex: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each token with the number of brackets around it. Round and square brackets may close each other."""
    depth = 0
    for token in _TOKEN.finditer(latex):
        depth -= token[0] in _CLOSERS
        if depth < 0:
            raise UnreadableError("A closing bracket has no opening one.")
        yield token, depth
        depth += token[0] in _OPENERS
        if depth > MAX_DEPTH:
            raise UnreadableError("The nesting is too deep.")
    if depth:
        raise UnreadableError("A bracket is not closed.")


def _split(latex: str, separators: set[str]) -> tuple[list[str], list[str]]:
    """The pieces between separators outside brackets, and the separators."""
    pieces, found, start = [], [], 0
    for token, depth in _tokens_by_depth(latex):
        if depth == 0 and token[0] in separators:
            pieces.append(latex[start : token.start()].strip())
            found.append(token[0])
            start = token.end()
    return [*pieces, latex[start:].strip()], found


def _enclosed(latex: str, opener: str, closer: str) -> bool:
    """Whether the first bracket of the formula is closed by its last one."""
    if not (latex.startswith(opener) and latex.endswith(closer)):
        return False
    outside = [token.start() for token, depth in _tokens_by_depth(latex) if depth == 0]
    return outside == [0, len(latex) - len(closer)]


def _without_parentheses(latex: str) -> str:
    while latex.startswith("(") and latex.endswith(")") and _enclosed(latex, "(", ")"):
        content = latex[1:-1].strip()
        if not content or len(_split(content, {",", ";"})[0]) > 1 or _CHOICE.fullmatch(latex):
            break
        latex = content
    return latex
