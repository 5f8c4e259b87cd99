r"""Reads an answer into a form that says what it is: a number, a point or interval, a list, a word, an equation.

The structure is read here, by rules; what is an expression at the bottom of it is left to a computer algebra system.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from .notation import MAX_DEPTH, UnreadableError, plain_latex
from .numbers import Number, join_thousands, read_number
from .units import split_unit

Kind = Literal[
    "unreadable",
    "number",
    "expression",
    "based",
    "ratio",
    "text",
    "choice",
    "equation",
    "relation",
    "list",
    "set",
    "tuple",
    "union",
    "matrix",
    "family",
    "approximation",
]


@dataclass(frozen=True, slots=True)
class Form:
    r"""
    An answer as it was understood.

    Args:
        kind (`str`): What it is, which settles what `label` and `parts` are:

            - `"number"`: neither, with `number` set. `"expression"`: neither.
            - `"based"`: a numeral with its base as `label`, `101_2`. `"ratio"`: its terms.
            - `"text"`: a few words, folded into `label`. `"choice"`: its letter, and what stands beside it.
            - `"equation"`: name on its left side, empty if that is no mere name, and its last side; also
              `x \in (1, 2)` and solved inequalities such as `x > 1`, whose last side is the interval.
            - `"relation"`: neither; any other inequality.
            - `"list"`, `"set"`, `"union"`: elements, in no order. `"tuple"`: brackets and elements; also an interval.
            - `"matrix"`: shape such as `2x3` and elements by row.
            - `"family"`: expression in a parameter, of which it was said that it is any integer.
            - `"approximation"`: what stands on the left and on the right of `\approx`.
            - `"unreadable"`: neither; prose, unbalanced LaTeX, an ellipsis, nothing.
        latex (`str`): The answer in the spelling of [`plain_latex`].
        parts (`tuple` of [`Form`], *optional*): See `kind`.
        label (`str`, *optional*): See `kind`.
        number ([`Number`], *optional*): Value of a number.
        unit (`str`, *optional*): Unit of measure of a number, expression or ratio; `"percent"` is one.
    r"""

    kind: Kind
    latex: str
    parts: tuple["Form", ...] = ()
    label: str = ""
    number: Number | None = None
    unit: str | None = None

    @property
    def key(self) -> str:
        """Spelling without what makes no difference: spaces, signs of multiplication, a leading plus."""
        return key(self.latex)


_OPENERS = {"(", "[", "{", "\\{", "\\begin"}
_CLOSERS = {")", "]", "}", "\\}", "\\end"}
_RELATIONS = {"<", ">", "\\leq", "\\geq"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|.", re.DOTALL)
_ELLIPSIS = re.compile(r"\\ldots|\.\.\.")
_CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice)\s*)?\(?([A-J])\)?[.:]?")
_LABELLED_CHOICE = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])\s*(?![\s^_*/=<>+]|\\cdot|\\times)(.+)")
_NAME = re.compile(
    r"\(?(?:\\?[^\W\d_]+|\\(?:text|overline|vec|hat|bar|widehat|mathbb|mathcal|operatorname)\{[^{}]*\})"
    r"(?:_\{[^{}]*\}|\^\{-1\}|\^\{\\prime\}|[\w'|(), ]|\\[A-Za-z]+(?![A-Za-z{]))*"
)
_NO_NAME = re.compile(r"\\(?:cdot|times|div|pm|frac|sqrt|sin|cos|tan|log|ln|pi|infty|circ)(?![A-Za-z])")
_INTEGERS = re.compile(r".*(?:\\in ?\\mathbb\{[ZN]\}.*|\\text\{[^{}]*integer[^{}]*\}|\binteger)\)?", re.DOTALL)
_REALS = re.compile(r"\(?\\?[A-Za-z]+ ?\\in ?\\mathbb\{R\}\)?")
_MATRIX = re.compile(
    r"\\begin\{([bp]?matrix|[BV]matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_LABELLED_POINT = re.compile(r"[A-Z] ?\(.*\)")
_BASED = re.compile(r"([0-9][0-9 ]*)_\{(?:\\text\{)?(\w+)\}?\}")
_ENUMERATION = re.compile(r"\\text\{([^{}]*(?:,|;| and | or )[^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|['\-. ])*")
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
_PROSE = re.compile(r"\\text\{[^{}]*[^\W\d_]{2}|(?<![\\\w{])[^\W\d_]{4,}(?![\w}])")
_INDEX = re.compile(r"_\{[^{}]*(?:\{[^{}]*\})?\}")
_MAX_WORDS = 3
_MAX_WORDS_OF_NAME = 5
_ALIASES = {
    **dict.fromkeys(["nosolution", "nosolutions", "theemptyset", "emptyset"], "\\emptyset"),
    **dict.fromkeys(["allrealnumbers", "allreals", "realnumbers", "thereals"], "\\mathbb{R}"),
}


def read_answer(text: str) -> Form:
    r"""
    Reads an answer.

    Args:
        text (`str`): Answer, LaTeX or plain text.

    Returns:
        [`Form`]: What it is. An answer that cannot be read is of kind `"unreadable"`.

    Example:

    ```python
    >>> form = read_answer(r"x = 2 \text{ or } x = \dfrac12")
    >>> form.kind, form.label, [part.latex for part in form.parts[0].parts]
    ('equation', 'x', ['2', '\\frac{1}{2}'])

    ```
    """
    try:
        return _read(plain_latex(text))
    except UnreadableError:
        return Form("unreadable", text)


def key(latex: str) -> str:
    r"""
    Spelling of a formula without what makes no difference to it.

    Args:
        latex (`str`): Formula in the spelling of [`plain_latex`].

    Returns:
        `str`: The formula without spaces and signs of multiplication, except between digits, or a leading plus.
    """
    latex = re.sub(r"\s*(?:\\cdot|\\times|\*)\s*(?![A-Za-z])", "*", latex)
    latex = re.sub(r"(?<!\d)[* ]+|[* ]+(?!\d)", "", re.sub(r"(?<=\d) +(?=\d)", "\x00", latex).replace(" ", ""))
    return latex.removeprefix("+").replace("\x00", " ")


def _read(latex: str, inside: bool = False, depth: int = 0) -> Form:
    """`inside` brackets a comma always separates; outside of them it may group the digits of a number."""
    latex = _without_parentheses(latex.strip().removeprefix("+").strip())
    if depth > MAX_DEPTH:
        raise UnreadableError("It nests too deep.")
    if not latex or _ELLIPSIS.search(latex):
        return Form("unreadable", latex)
    for reader in (_choice, _list, _approximation, _equation, _inequality, _collection, _plus_or_minus):
        form = reader(latex, inside, depth + 1)
        if form is not None:
            return form
    return _leaf(latex, depth + 1)


def _choice(latex: str, inside: bool, depth: int) -> Form | None:
    choice = _CHOICE.fullmatch(latex)
    if choice:
        return Form("choice", latex, label=choice[1])
    labelled = _LABELLED_CHOICE.fullmatch(latex)
    if not labelled:
        return None
    if re.search(r"\([A-J]\)", labelled[3]):
        return Form("unreadable", latex)
    return Form("choice", latex, (_read(labelled[3], inside, depth),), labelled[1] or labelled[2])


def _list(latex: str, inside: bool, depth: int) -> Form | None:
    if ", " in latex or not (inside or re.search(r"[(\[]|\\\{", latex)):
        latex = join_thousands(latex)
    text = _ENUMERATION.fullmatch(latex)
    if text:
        return _read(text[1], inside, depth)
    pieces, separators = _split(latex, {",", ";", "and", "or", "\\vee"})
    if len(pieces) == 1:
        return None if latex == pieces[0] else _read(pieces[0], inside, depth)
    # "1, 2, and 3" has nothing between its last comma and "and"
    pieces = [piece for index, piece in enumerate(pieces) if piece or not 0 < index < len(pieces) - 1]
    if len(pieces) == 2 and _REALS.fullmatch(pieces[1]):
        return _read(pieces[0], inside, depth)
    if len(pieces) == 2 and _INTEGERS.fullmatch(pieces[1]):
        return Form("family", latex, (_read(pieces[0], inside, depth),))
    forms = [_read(piece, True, depth) for piece in pieces]
    if any(form.kind == "unreadable" for form in forms):
        return Form("unreadable", latex)
    parts = [element for form in forms for element in (form.parts if form.kind == "list" else (form,))]
    names = [part.label if part.kind == "equation" else None for part in parts]
    ranges = [part.kind == "equation" and part.parts[0].kind == "tuple" for part in parts]
    if all(ranges) and any(re.search(r"[<>]|\\[lg]eq", piece) for piece in pieces):
        if len(set(names)) == 1 and set(separators) <= {"or", "\\vee"}:
            return Form(
                "equation", latex, (Form("union", latex, tuple(part.parts[0] for part in parts)),), names[0] or ""
            )
        return Form("relation", latex)
    if names[0] and (set(names) == {names[0]} or set(names[1:]) == {None}):  # x = 1, x = 2 or x = 1, 2
        values = tuple(part.parts[0] if part.kind == "equation" else part for part in parts)
        return Form("equation", latex, (Form("list", latex.partition("=")[2].strip(), values),), names[0])
    return Form("list", latex, tuple(parts))


def _approximation(latex: str, inside: bool, depth: int) -> Form | None:
    sides, _ = _split(latex, {"\\approx"})
    if len(sides) == 1:
        return None
    exact, rounded = (_read(side, inside, depth) for side in (sides[0], sides[-1]))
    if exact.number and rounded.number:
        difference = abs(exact.number.value - rounded.number.value)
        if difference >= Fraction(1, 10 ** (rounded.number.decimals or 0)):
            return Form("unreadable", latex)
        return Form("approximation", latex, (exact, rounded))
    return Form("approximation", latex, (exact, rounded))


def _equation(latex: str, inside: bool, depth: int) -> Form | None:
    sides, _ = _split(latex, {"="})
    if len(sides) == 1:
        sides, _ = _split(latex, {"\\in"})
        if len(sides) == 1:
            return None
        if len(sides) > 2 or not _is_name(sides[0]):
            return Form("relation", latex)
    if not all(sides) or any(len(_WORD.findall(side)) > _MAX_WORDS_OF_NAME for side in sides):
        return Form("unreadable", latex)
    last = _read(sides[-1], inside, depth)
    if last.kind == "unreadable" or any(_is_prose(side) and not _is_name(side) for side in sides[:-1]):
        return Form("unreadable", latex)
    numbers = [number for number in map(read_number, sides[:-1]) if number is not None]
    if last.number and any(number.value != last.number.value for number in numbers):
        return Form("unreadable", latex)  # 5 = 6 is two answers
    return Form("equation", latex, (last,), key(sides[0]) if _is_name(sides[0]) else "")


def _is_name(side: str) -> bool:
    return _NAME.fullmatch(side) is not None and _NO_NAME.search(side) is None


def _inequality(latex: str, inside: bool, depth: int) -> Form | None:
    sides, relations = _split(latex, _RELATIONS)
    if len(sides) == 1:
        return _exclusion(latex, inside, depth)
    upward = [relation in ("<", "\\leq") for relation in relations]
    if len(set(upward)) > 1 or len(sides) > 3 or not all(sides):
        return Form("relation", latex)
    if not upward[0]:
        sides, relations = sides[::-1], relations[::-1]
    if len(sides) == 2:  # the side that is missing is infinite
        name_first = _is_name(sides[0])
        sides = ["-\\infty", *sides] if name_first else [*sides, "\\infty"]
        relations = ["<", *relations] if name_first else [*relations, "<"]
    low, name, high = sides
    if not _is_name(name) or any(_mentions(side, name) for side in (low, high)):
        return Form("relation", latex)
    brackets = ("[" if "eq" in relations[0] else "(") + ("]" if "eq" in relations[1] else ")")
    ends = (_read(low, inside, depth), _read(high, inside, depth))
    interval = f"{brackets[0]}{low}, {high}{brackets[1]}"
    return Form("equation", latex, (Form("tuple", interval, ends, brackets),), key(name))


def _exclusion(latex: str, inside: bool, depth: int) -> Form | None:
    r"""`x \neq 1` is all real numbers without 1."""
    sides, _ = _split(latex, {"\\neq"})
    if len(sides) == 1:
        return None
    if len(sides) > 2 or not _is_name(sides[0]) or not sides[1] or _mentions(sides[1], sides[0]):
        return Form("relation", latex)
    return Form("equation", latex, (Form("expression", f"\\mathbb{{R}}\\setminus\\{{{sides[1]}\\}}"),), key(sides[0]))


def _mentions(side: str, name: str) -> bool:
    return re.search(rf"(?<![\\A-Za-z]){re.escape(name)}(?![A-Za-z])", side) is not None or _is_name(side)


def _collection(latex: str, inside: bool, depth: int) -> Form | None:
    unions, _ = _split(latex, {"\\cup"})
    if len(unions) > 1:
        return Form("union", latex, tuple(_read(part, inside, depth) for part in unions))
    matrix = _MATRIX.fullmatch(latex.strip("[]") if latex.startswith("[\\begin") else latex)
    if matrix:
        rows = [
            [cell.strip() for cell in row.split("&")] for row in matrix[2].strip().removesuffix("\\\\").split("\\\\")
        ]
        if len({len(row) for row in rows}) > 1 or matrix[1] in ("Vmatrix", "vmatrix"):
            return Form("unreadable", latex)
        cells = tuple(_read(cell, True, depth) for row in rows for cell in row)
        return Form("matrix", latex, cells, f"{len(rows)}x{len(rows[0])}")
    if latex.startswith("\\{") and _enclosed(latex, "\\{", "\\}"):
        return _set(latex, latex[2:-2], depth)
    if _LABELLED_POINT.fullmatch(latex) and _enclosed(latex[1:].strip(), "(", ")"):
        point = _read(latex[1:], inside, depth)
        return Form("equation", latex, (point,), latex[0]) if point.kind == "tuple" else None
    if latex[0] in "([" and latex[-1] in ")]" and _enclosed(latex, latex[0], latex[-1]):
        content = join_thousands(latex[1:-1]) if ", " in latex else latex[1:-1]
        parts, _ = _split(content, {",", ";"})
        return Form("tuple", latex, tuple(_read(part, True, depth) for part in parts), latex[0] + latex[-1])
    return None


def _set(latex: str, content: str, depth: int) -> Form:
    if not content.strip():
        return Form("expression", "\\emptyset")
    builder, _ = _split(content, {"|", ":"})
    if len(builder) == 2 and _is_name(builder[0].partition("\\in")[0].strip()):
        condition = _read(builder[1], False, depth)
        return condition if condition.kind == "equation" else Form("unreadable", latex)
    content = join_thousands(content) if ", " in content else content
    parts, _ = _split(content, {",", ";"})
    forms = tuple(_read(part, True, depth) for part in parts)
    flat = tuple(element for form in forms for element in (form.parts if form.kind == "list" else (form,)))
    return Form("set", latex, flat)


def _plus_or_minus(latex: str, inside: bool, depth: int) -> Form | None:
    if latex.count("\\pm") != 1 or latex.count("\\mp") > 1:
        return None
    plus, minus = (latex.replace("\\pm", a).replace("\\mp", b) for a, b in ("+-", "-+"))
    return Form("list", latex, (_read(plus, inside, depth), _read(minus, inside, depth)))


def _leaf(latex: str, depth: int) -> Form:
    quantity = split_unit(latex)
    number = read_number(join_thousands(quantity.value))
    if number:
        number = Number(number.value * quantity.scale, number.decimals if quantity.scale == 1 else None)
        return Form("number", quantity.value, number=number, unit=quantity.unit)
    if quantity.value != latex and quantity.scale == 1:
        form = _read(quantity.value, True, depth)
        kept = form.kind in ("expression", "ratio", "list", "number") and form.unit is None
        return replace(form, unit=quantity.unit) if kept else Form("unreadable", latex)
    terms, _ = _split(latex, {":"})
    if len(terms) > 1 and all(map(read_number, terms)):
        return Form("ratio", latex, tuple(Form("number", term, number=read_number(term)) for term in terms))
    based = _BASED.fullmatch(latex)
    if based:
        return Form("based", based[1].replace(" ", ""), label=based[2])
    words = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", latex).strip()
    if _WORDS.fullmatch(words) and ("\\text" in latex or re.search(r"[^\W\d_]{4}", words)):
        folded = fold(words)
        if folded in _ALIASES:
            return Form("expression", _ALIASES[folded])
        return Form("text" if len(words.split()) <= _MAX_WORDS else "unreadable", latex, label=folded)
    if _is_prose(latex) or re.search(r"\d +\d|:", latex):
        return Form("unreadable", latex)
    return Form("expression", latex)


def _is_prose(latex: str) -> bool:
    """Whether there are words in it, other than in an index."""
    return _PROSE.search(_INDEX.sub("", latex)) is not None


def fold(words: str) -> str:
    """
    Folds words so that case, spaces, hyphens and points make no difference.

    Args:
        words (`str`): Words.

    Returns:
        `str`: Their letters and digits.
    """
    return "".join(character for character in words.casefold() if character.isalnum())


def _tokens_by_depth(latex: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each token with the number of brackets around it; round and square ones may close each other."""
    depth = 0
    for token in _TOKEN.finditer(latex):
        depth -= token[0] in _CLOSERS
        if depth < 0:
            raise UnreadableError("A bracket closes what none has opened.")
        yield token, depth
        depth += token[0] in _OPENERS
        if depth > MAX_DEPTH:
            raise UnreadableError("It nests too deep.")
    if depth:
        raise UnreadableError("A bracket is not closed.")


def _split(latex: str, separators: set[str]) -> tuple[list[str], list[str]]:
    """The pieces between separators that are inside no brackets, and the separators."""
    pieces, found, start = [], [], 0
    for token, depth in _tokens_by_depth(latex):
        if depth == 0 and token[0] in separators:
            pieces.append(latex[start : token.start()].strip())
            found.append(token[0])
            start = token.end()
    return [*pieces, latex[start:].strip()], found


def _enclosed(latex: str, opener: str, closer: str) -> bool:
    """Whether the bracket that opens the formula is closed by the one that ends it."""
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
