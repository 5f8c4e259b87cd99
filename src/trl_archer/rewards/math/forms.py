r"""Parses an answer into its structure: a number, a point or interval, a list, a word, an equation.

Rules read the structure. The expressions in it are left to a computer algebra system.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .notation import MAX_DEPTH, UnreadableError, plain_latex
from .numbers import Number, join_thousands, read_number
from .units import split_unit, units_agree


@dataclass(frozen=True, slots=True)
class Answer:
    r"""
    A parsed answer. Its kind determines `label` and `parts`:

    - `"number"`: `number` is set. The label is `multiple` for millions, which the question may have named.
    - `"expression"`: no label, no parts.
    - `"based"`: a numeral such as `101_2`, with the base as `label`.
    - `"text"`: a few words, folded into `label`, or a time or ratio such as `4:30`.
    - `"choice"`: the letter, and the content next to it.
    - `"equation"`: the name on its left side, empty if that is not a name, and its last and first side. Also
      `x \in (1, 2)`, solved inequalities such as `x > 1`, whose last side is the interval, and `\text{Total: } 5`.
    - `"approximation"`: the exact and the rounded side of `\approx`.
    - `"relation"`: any other inequality. No label, no parts.
    - `"list"`, `"set"`, `"union"`: unordered elements. A list of inequalities with "and" has the label `and`.
    - `"tuple"`: brackets and elements, also of an interval.
    - `"matrix"`: a shape such as `2x3`, and elements by row.
    - `"unreadable"`: prose, unbalanced LaTeX, an ellipsis, or nothing. It equals the same text only.
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


_OPENERS = {"(", "[", "{", "\\{", "\\begin", "\\lfloor", "\\lceil"}
_CLOSERS = {")", "]", "}", "\\}", "\\end", "\\rfloor", "\\rceil"}
_SEPARATORS = {",", ";", "and", "or", "\\vee"}
_RELATIONS = {"<", ">", "\\leq", "\\geq", "\\neq"}
_RELATION = re.compile(r"[=<>]|\\(?:[lgn]eq|in|approx)(?![a-z])")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|.", re.DOTALL)
_UNFINISHED = re.compile(r"^(?:[+=*/^]|and |or |\\text)|(?:[-+=*/^]| and| or)$")
_ELLIPSIS = re.compile(r"\\ldots|\.\.\.")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_ANSWER_LABEL = re.compile(
    r"(?:\\text\{)?\s*(?:the )?(?:final )?(?:answer|solution|result|total|an[s]|答案)s?\s*(?:is\s*)?(?::|[是为])"
    r"(?:\s*\}:?)?\s*(?=\S)",
    re.I,
)
_ABOUT = re.compile(
    r"=|:|\\approx(?![a-z])|\\sim(?![a-z])|\\(?:implies|Rightarrow)(?![a-z])|约|大约|"
    r"(?:\\text\{)?\s*(?:about|approximately|approx\.?|roughly|around)(?![a-z])\s*\}?",
    re.I,
)
_LABELED = re.compile(r"(?:\\text\{\s*([^\W\d_][\w ]*):\s*\}|(?:\\text\{)?([^\W\d_][\w ]*)\}?:\s)\s*(?=\S)(.+)")
_FOR_ALL = re.compile(r"[,;]?\s*\(?(?:\\text\{\s*\(?\s*|(?<![A-Za-z\\]))(?:for|where|with)\b|[,;]?\s*\(?\\forall")
_OF_FOR_ALL = frozenset(
    "for all any every each some where with is are be a an the arbitrary real complex constant constants number "
    "numbers integer integers positive natural rational values value of and in Z R N Q C".split()
)
_CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice|选项?|答案)\s*)?\(?([A-J])\)?[.:]?")
_LABELED_CHOICE = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\(([A-J])\)|([A-J])[.):]|([A-J])\s+-\s(?=\s*[A-Za-z]{2}|\s*[A-Za-z] [A-Za-z]))"
    r"\s*(?![\s^_*/=<>+]|\\cdot|\\times)(.+)"
)
_DERIVATIVE = r"\\frac\{d(?:\^\{\d\})?[a-zA-Z]?\}\{d[a-z](?:\^\{\d\})?\}"
_NAME = re.compile(
    r"\(?(?:\\?[^\W\d_]+|\\(?:text|overline|vec|hat|bar|widehat|mathbb|mathcal|operatorname)\{[^{}]*\})"
    r"(?:_\{[^{}]*\}|\^\{-1\}|[\w'|(), ]|\\[A-Za-z]+(?![A-Za-z{]))*|" + _DERIVATIVE
)
_NO_NAME = re.compile(r"\\(?:cdot|times|div|pm|sqrt|sin|cos|tan|log|ln|pi|infty|circ)(?![A-Za-z])")
_MATRIX = re.compile(r"\\begin\{([bp]?matrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_BASED = re.compile(
    r"([-+]?(?:\\text\{)?[0-9A-Z][0-9A-Z ]*(?:\.[0-9A-Z]+)?\}?)_\{ *(?:\\text\{)?\(?(\d+|[a-z]{3,})\)? *\}?\}"
)
_COLONS = re.compile(r"\d+(?: ?: ?\d+)+")  # a time, or a ratio of three terms
_ENUMERATION = re.compile(r"\\text\{([^{}]*(?:,|;| and | or )[^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_](?:\w|['\-. ])*")
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
_PROSE = re.compile(r"\\text\{[^{}]*[^\W\d_]{2}|(?<![\\\w{])[^\W\d_]{4,}(?![\w}])|[一-鿿]")
_INDEX = re.compile(r"_\{[^{}]*(?:\{[^{}]*\})?\}")
_CONDITION = re.compile(r"(?<![A-Za-z\\])(?:if|when|otherwise|unless)(?![A-Za-z])")
_MAX_WORDS = 3
_MAX_WORDS_OF_NAME = 5


def read_answer(text: str) -> Answer:
    r"""Parses LaTeX or plain text. `x = 2 \text{ or } x = \dfrac12` is a list of two equations."""
    try:
        return _read(_without_frame(plain_latex(text)))
    except (UnreadableError, RecursionError):
        return Answer("unreadable", text.strip())


def canonical(latex: str) -> str:
    """The formula without a leading plus, and without spaces and multiplication signs except between digits."""
    latex = re.sub(r"\s*(?:\\cdot|\\times|\*)\s*(?![A-Za-z])", "*", latex)
    latex = re.sub(r"(?<!\d)[* ]+|[* ]+(?!\d)", "", re.sub(r"(?<=\d) +(?=\d)", "\x00", latex).replace(" ", ""))
    return latex.removeprefix("+").replace("\x00", " ")


def _without_frame(latex: str) -> str:
    r"""The answer without words that only announce it or say "about", and without "for all x" after it."""
    while frame := _ANSWER_LABEL.match(latex) or _ABOUT.match(latex):
        is_open = frame[0].lstrip().startswith("\\text{") and "}" not in frame[0]
        latex = latex[frame.end() :].strip()
        if is_open:
            latex = latex.replace("}", "", 1)
    for tail in _FOR_ALL.finditer(latex):
        rest = re.sub(r"\\(?:text|mathbb|forall|in)(?![a-z])|[\\{}(),.$ ]", " ", latex[tail.start() :])
        if tail.start() and all(
            word in _OF_FOR_ALL or re.fullmatch(r"[a-zA-Z](?:_\d)?", word) for word in rest.split()
        ):
            return latex[: tail.start()].strip(" ,;")
    return latex


def _read(latex: str) -> Answer:
    latex = _joined_rows(_without_parentheses(latex.strip().removeprefix("+").strip()))
    if not latex or _ELLIPSIS.search(latex):
        return Answer("unreadable", latex)
    for reader in _READERS:
        answer = reader(latex)
        if answer is not None:
            return answer
    return _leaf(latex)


def _joined_rows(latex: str) -> str:
    r"""`x=1 \quad y=2` and `2 \quad 3` are lists. Before a condition or a unit, a wide space is a space."""
    if "\\quad" not in latex:
        return latex
    rows = [row.strip(",; ") for row in _split(latex, {"\\quad"})[0]]
    are_numbers = all(map(read_number, rows))
    complete = all(rows) and all(
        re.search(r"\d|" + _RELATION.pattern, row) and not _UNFINISHED.search(row) and (row[0] != "-" or are_numbers)
        for row in rows
    )
    separate = complete and (all(row[0] == "(" for row in rows) or not any(row[0] == "(" for row in rows[1:]))
    return (", " if separate else " ").join(rows).replace("\\quad", " ")


def _choice(latex: str) -> Answer | None:
    plain = re.sub(r"^\\text\{([^{}]*)\}", r"\1 ", latex).strip()
    choice = _CHOICE.fullmatch(plain)
    if choice:
        return Answer("choice", choice[1], label=choice[1])
    labeled = _LABELED_CHOICE.fullmatch(plain)
    if not labeled:
        return None
    if re.search(r"\([A-J]\)", labeled[4]):
        return Answer("unreadable", latex)
    content = _read(f"\\text{{{labeled[4].strip()}}}" if labeled[3] else labeled[4])
    if content.kind == "list" and ":" in plain[:2]:
        return None
    return Answer("choice", latex, (content,), labeled[1] or labeled[2] or labeled[3])


def _exclusion(latex: str) -> Answer | None:
    r"""`x \neq 1, 2` and `x \neq 1, x \neq 2` are all numbers but two."""
    name, sign, rest = (part.strip() for part in latex.partition("\\neq"))
    if not sign or not _is_name(name) or _RELATION.search(name) or len(_split(name, _SEPARATORS)[0]) > 1:
        return None
    values = [re.sub(rf"^{re.escape(name)} *\\neq", "", value).strip() for value in _split(rest, _SEPARATORS)[0]]
    if any(map(_RELATION.search, values)) or any(_mentions(value, name) for value in values):
        return None
    parts = _elements(values)
    if not {part.kind for part in parts} <= {"number", "expression"}:
        return None
    excluded = ", ".join([part.latex for part in parts] if "\\pm" in rest else values)
    others = Answer("expression", rf"\mathbb{{R}} \setminus \{{{excluded}\}}")
    return Answer("equation", latex, (others,), canonical(name))


def _list(latex: str) -> Answer | None:
    if ", " in latex or not re.search(r"[(\[]|\\\{", latex):
        latex = join_thousands(latex)
    text = _ENUMERATION.fullmatch(latex)
    if text:
        return _read(text[1])
    groups = [_split(group, {","})[0] for group in _split(latex, {";"})[0]]
    if len(groups) > 1 and len(groups[0]) > 1 and len(set(map(len, groups))) == 1:  # x = 1, y = 2; x = 3, y = 4
        points = [Answer("tuple", f"({', '.join(group)})", _elements(group), "()") for group in groups]
        unreadable = any(part.kind == "unreadable" for point in points for part in point.parts)
        return Answer("unreadable" if unreadable else "list", latex, tuple(points))
    pieces, separators = _split(latex, _SEPARATORS)
    # "1, 2, and 3" has nothing between its last comma and "and"; "①③" begins with a comma
    pieces = [piece for index, piece in enumerate(pieces) if piece or index == len(pieces) - 1]
    if len(pieces) == 1:
        return None if latex == pieces[0] else _read(pieces[0])
    parts = _elements(pieces)
    if any(part.kind == "unreadable" for part in parts):
        return Answer("unreadable", latex)
    # J: 4 hr, S: 14 hr
    parts = tuple(replace(p, kind="equation") if p.kind == "choice" and ":" in p.latex[:2] else p for p in parts)
    names = [part.label if part.kind == "equation" else None for part in parts]
    ranges = [part.kind == "equation" and part.parts[0].kind == "tuple" for part in parts]
    if all(ranges) and set(separators) <= {"or", "\\vee"} and len(set(names)) == 1:  # x < 1 or x > 2
        union = Answer("union", " \\cup ".join(part.parts[0].latex for part in parts), tuple(p.parts[0] for p in parts))
        return Answer("equation", latex, (union,), names[0] or "")
    if names[0] and set(names[1:]) == {None}:  # x = 1, 2
        parts = (parts[0], *(Answer("equation", part.latex, (part,), names[0]) for part in parts[1:]))
    return Answer("list", latex, parts, "and" if any(ranges) and "and" in separators else "")


def _elements(pieces: Sequence[str]) -> tuple[Answer, ...]:
    r"""The answers in the pieces of a list or set. A piece such as `\pm 1` contains two."""
    answers = [_read(piece) for piece in pieces]
    return tuple(part for answer in answers for part in (answer.parts if answer.kind == "list" else (answer,)))


def _labeled(latex: str) -> Answer | None:
    r"""`\text{Total: } 5` or `J: 4 hr`, like an equation."""
    labeled = _LABELED.fullmatch(latex)
    if not labeled or len((labeled[1] or labeled[2]).split()) > _MAX_WORDS_OF_NAME or _LABELED.fullmatch(labeled[3]):
        return None
    content = _read(labeled[3][:-1] if re.fullmatch(r"\\text\{[^{}]*\}", latex) else labeled[3])
    if content.kind not in ("number", "tuple", "text", "list", "choice") and not labeled[1]:
        return None
    return Answer("equation", latex, (content,), (labeled[1] or labeled[2]).strip())


def _approximation(latex: str) -> Answer | None:
    r"""Both sides of `\approx`. Unreadable unless the right side is a number, which rounds a number on the left."""
    sides, _ = _split(latex, {"\\approx"})
    if len(sides) == 1:
        return None
    exact, rounded = (_read(side) for side in (sides[0], sides[-1]))
    if len(sides) > 2 or rounded.number is None or exact.kind in ("unreadable", "approximation"):
        return Answer("unreadable", latex)
    if _is_name(sides[0]) and exact.kind in ("expression", "text"):
        return Answer("equation", latex, (rounded,), canonical(sides[0]))
    fits = units_agree(exact.unit, rounded.unit) and exact.number and rounded.number.is_near(exact.number.value)
    if exact.number and not fits:
        return Answer("unreadable", latex)
    return Answer("approximation", latex, (exact, rounded))


def _equation(latex: str) -> Answer | None:
    sides, _ = _split(latex, {"="})
    if len(sides) == 1:
        sides, _ = _split(latex, {"\\in"})
        if len(sides) == 1:
            return None
        if len(sides) > 2 or not _is_name(sides[0]):
            return Answer("relation", latex)
    if (
        _CONDITION.search(latex)
        or not all(sides)
        or any(len(_WORD.findall(side)) > _MAX_WORDS_OF_NAME for side in sides)
    ):
        return Answer("unreadable", latex)
    if len(sides) == 2 and not _is_name(sides[0]) and re.fullmatch(r"\\?[a-zA-Z](?:_\{\w+\})?", sides[1]):
        sides = sides[::-1]  # 3 = x
    last = _read(sides[-1])
    if last.kind == "unreadable" or any(_is_prose(side) and not _is_name(side) for side in sides[:-1]):
        return Answer("unreadable", latex)
    names = _split(sides[0][1:-1], {","})[0] if sides[0].startswith("(") else []
    if last.label == "()" and len(names) == len(last.parts) and all(map(_is_name, names)):  # (x, y) = (1, 2)
        pairs = zip(names, last.parts, strict=True)
        values = tuple(Answer("equation", f"{name} = {part.latex}", (part,), canonical(name)) for name, part in pairs)
        return Answer("tuple", latex, values, "()")
    if _is_name(sides[0]):
        label, first = canonical(sides[0]), Answer("expression", sides[0])
    else:
        label, first = "", _read(sides[0])
    others = [_leaf(side) for side in sides[:-1]]
    if last.number and any(other.number and _amount(other) != _amount(last) for other in others):
        return Answer("unreadable", latex)  # 5 = 6 is two answers
    return Answer("equation", latex, (last, first), label)


def _amount(side: Answer) -> object:
    assert side.number
    return side.number.value / 100 if side.unit == "percent" else side.number.value


def _is_name(side: str) -> bool:
    return _NAME.fullmatch(side) is not None and _NO_NAME.search(side) is None


def _inequality(latex: str) -> Answer | None:
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
    ends = (_read(low), _read(high))
    if any(end.kind == "unreadable" for end in ends):
        return Answer("unreadable", latex)
    interval = f"{brackets[0]}{low}, {high}{brackets[1]}"
    return Answer("equation", latex, (Answer("tuple", interval, ends, brackets),), canonical(name))


def _mentions(side: str, name: str) -> bool:
    return re.search(rf"(?<![\\A-Za-z]){re.escape(name)}(?![A-Za-z])", side) is not None or _is_name(side)


def _collection(latex: str) -> Answer | None:
    unions, _ = _split(latex, {"\\cup"})
    if len(unions) > 1:
        return Answer("union", latex, tuple(_read(part) for part in unions))
    matrix = _MATRIX.fullmatch(latex.strip("[]") if latex.startswith("[\\begin") else latex)
    if matrix:
        lines = matrix[2].strip().removesuffix("\\\\").split("\\\\")
        rows = [[cell.strip() for cell in line.split("&")] for line in lines]
        if len({len(row) for row in rows}) > 1:
            return Answer("unreadable", latex)
        cells = tuple(_read(cell) for row in rows for cell in row)
        return Answer("matrix", latex, cells, f"{len(rows)}x{len(rows[0])}")
    if latex.startswith("\\{") and _enclosed(latex, "\\{", "\\}"):
        return _set(latex, latex[2:-2])
    if latex[0] in "([" and latex[-1] in ")]" and _enclosed(latex, latex[0], latex[-1]):
        parts = tuple(_read(piece) for piece in _pieces(latex[1:-1]))
        return Answer("tuple", latex, parts, latex[0] + latex[-1])
    return None


def _set(latex: str, content: str) -> Answer:
    if not content.strip():
        return Answer("expression", "\\emptyset")
    builder, _ = _split(content, {"|", ":"})
    if len(builder) == 2 and _is_name(builder[0].partition("\\in")[0].strip()):
        condition = _read(builder[1])
        conditions = condition.parts if condition.kind == "list" else (condition,)
        return condition if all(part.kind == "equation" for part in conditions) else Answer("unreadable", latex)
    return Answer("set", latex, _elements(_pieces(content)))


def _pieces(content: str) -> list[str]:
    """The elements between brackets. With `, ` between them, a comma without a space groups digits."""
    return _split(join_thousands(content) if ", " in content else content, {",", ";"})[0]


def _plus_or_minus(latex: str) -> Answer | None:
    if latex.count("\\pm") + latex.count("\\mp") == 0:
        return None
    if latex.count("\\pm") != 1 or latex.count("\\mp") > 1:
        return Answer("unreadable", latex)
    plus, minus = (latex.replace("\\pm", a).replace("\\mp", b) for a, b in ("+-", "-+"))
    return Answer("list", latex, (_read(plus), _read(minus)))


def _leaf(latex: str) -> Answer:
    latex = re.sub(r"(?<=[\w})]) to (?=[\w\\({])", ":", latex)
    value, unit, multiple = split_unit(latex)
    number = read_number(join_thousands(value))
    if number:
        scale = "" if multiple in (1, 12) or latex[-1:] >= "一" else "multiple"
        number = number if multiple == 1 else Number(number.value * multiple)
        return Answer("number", value, label=scale, number=number, unit=unit)
    if value != latex:
        answer = _read(value)
        kept = answer.kind in ("expression", "text", "list", "number") and answer.unit is None and multiple == 1
        return replace(answer, unit=unit) if kept else Answer("unreadable", latex)
    if _COLONS.fullmatch(latex):
        return Answer("text", latex, label=canonical(latex))
    based = _BASED.fullmatch(latex)
    if based and re.search(r"\d", based[1]):
        return Answer("based", re.sub(r"\\text|[{} ]", "", based[1]), label=based[2])
    words = _TEXT.sub(r" \1 ", latex).strip()
    if _WORDS.fullmatch(words) and ("\\text" in latex or re.search(r"[^\W\d_]{4}|^(?i:yes|no)$", words)):
        folded = "".join(filter(str.isalnum, words.casefold()))
        return Answer("text" if len(words.split()) <= _MAX_WORDS else "unreadable", latex, label=folded)
    sides = _split(latex, {":"})[0]
    if len(sides) == 2 and all(sides) and not _is_prose(latex):  # a ratio
        return replace(_leaf(f"\\frac{{{sides[0]}}}{{{sides[1]}}}"), latex=f"\\frac{{{sides[0]}}}{{{sides[1]}}}")
    if _is_prose(latex) or re.search(r"\d +\d|:", latex):
        return Answer("unreadable", latex)
    return Answer("expression", latex)


def _is_prose(latex: str) -> bool:
    """Whether it contains words outside indices."""
    return _PROSE.search(_INDEX.sub("", latex)) is not None


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
        if not content or len(_split(content, {",", ";"})[0]) > 1:
            break
        latex = content
    return latex


_READERS = _choice, _exclusion, _list, _labeled, _approximation, _equation, _inequality, _collection, _plus_or_minus
