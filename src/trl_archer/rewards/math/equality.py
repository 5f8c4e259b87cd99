"""Compares an answer with a gold answer by structure, as far as rules can."""

import re
from collections.abc import Sequence
from fractions import Fraction

from .forms import Answer
from .numbers import Number, numbers_agree
from .units import units_agree


class Compare:
    """
    Compares two expressions, or two relations, with different spellings. Not called for two numbers, for words, or for
    answers with different structures. This class finds none equal: it leaves the decision to the rules.
    """

    def __call__(self, gold: Answer, answer: Answer) -> bool:
        return False

    def value(self, exact: Answer) -> Fraction | None:
        """The value of an expression without variables, if it is known."""
        return exact.number.value if exact.number else None


_COLLECTIONS = frozenset(["list", "set", "tuple", "union", "matrix"])
_UNORDERED = (frozenset(["list", "set"]), frozenset(["list", "union"]))  # pairs of kinds
# Regions of the line or plane, some of which only algebra can compare, such as R without {0}
_REGIONS = frozenset(["expression", "union", "tuple", "relation"])
_VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-df-hj-z](?![A-Za-z])|\\(?:alpha|beta|gamma|lambda|theta|phi)(?![a-z])")
_ONE_LETTER = re.compile(r"\\?[A-Za-z](?![A-Za-z]).*")
_ARGUMENT = re.compile(
    r"\\(?:sin|cos|tan|cot|sec|csc|arc\w+|log|ln|lg|angle|det|dim|arg|overline|vec|text)(?:_\{[^{}]*\})?(?:\^\{[^{}]*\})?"
    r" ?(?:\{[^{}]*\}|\([^()]*\)|\\?[A-Za-z]+)|\|[^|]*\||_\{[^{}]*\}|[A-Za-z]\([^()]*\)"
)


def matches(gold: Answer, answer: Answer, compare: Compare) -> bool:
    """Whether an answer equals the gold answer and has the same structure."""
    kinds = gold.kind, answer.kind
    if kinds == ("unreadable", "unreadable"):
        return gold.canonical == answer.canonical != ""
    if "unreadable" in kinds or not units_agree(gold.unit, answer.unit):
        return False
    if gold.canonical == answer.canonical and (
        (gold.kind == answer.kind and gold.kind not in ("based", "choice", "number")) or kinds == ("number", "list")
    ):
        return True  # 100,200,300 may be a number or a list
    if "approximation" in kinds:
        return _approximations_match(gold, answer, compare)
    if "choice" in kinds:
        return _choices_match(gold, answer, compare)
    if gold.number and answer.number:
        return _numbers_match(gold.number, gold.unit, answer.number, answer.unit)
    if "based" in kinds:  # the base of digits may be missing, because the question asks for it; nothing is converted
        same = gold.label == answer.label if gold.kind == answer.kind else gold.latex.isdigit()
        return gold.canonical == answer.canonical and same
    if "equation" in kinds:
        return _equations_match(gold, answer, compare)
    if "text" in kinds:
        words = [
            side.label or (side.canonical.casefold() if side.canonical.isalpha() else "") for side in (gold, answer)
        ]
        return words[0] == words[1] != ""
    if not _COLLECTIONS.isdisjoint(kinds):
        return _collections_match(gold, answer, compare)
    return (answer.kind != "relation" or gold.kind == "relation") and compare(gold, answer)


def _numbers_match(gold: Number, gold_unit: str | None, answer: Number, answer_unit: str | None) -> bool:
    as_written = numbers_agree(gold, answer)
    if gold_unit == answer_unit or "percent" not in (gold_unit, answer_unit):
        return as_written
    # The sign may be missing if the question asked for percent, as it did if the gold answer is above 1
    if as_written and (gold_unit == "percent" or abs(gold.value) > 1):
        return True
    percent, share = (gold, answer) if gold_unit == "percent" else (answer, gold)
    return percent.value == 100 * share.value


def _approximations_match(gold: Answer, answer: Answer, compare: Compare) -> bool:
    """The gold answer may be met on either side. Of an answer, the rounded side counts if it rounds the exact one."""
    if answer.kind != "approximation":
        return any(matches(part, answer, compare) for part in gold.parts)
    exact, rounded = answer.parts
    value = compare.value(exact.parts[0] if exact.kind == "equation" else exact)
    assert rounded.number
    if value is None or not rounded.number.is_near(value):
        return False
    is_close = abs(rounded.number.value) >= 100 * rounded.number.unit and rounded.number.decimals
    return matches(gold, exact, compare) or (bool(is_close) and matches(gold, rounded, Compare()))


def _choices_match(gold: Answer, answer: Answer, compare: Compare) -> bool:
    if gold.kind == answer.kind:
        both = gold.parts and answer.parts
        return gold.label == answer.label and (not both or matches(gold.parts[0], answer.parts[0], compare))
    if gold.kind == "choice":
        return answer.latex.upper() == gold.label or any(matches(part, answer, compare) for part in gold.parts)
    return any(matches(gold, part, compare) for part in answer.parts)


def _equations_match(gold: Answer, answer: Answer, compare: Compare) -> bool:
    if gold.kind == answer.kind:
        solved = gold.label and not _VARIABLE.search(gold.parts[0].latex)
        if gold.label and answer.label and (solved or gold.label == answer.label):
            return _names_agree(gold.label, answer.label) and matches(gold.parts[0], answer.parts[0], compare)
        if solved:
            return False
        orders = (answer.parts, answer.parts[::-1])
        if len(gold.parts) == len(answer.parts) == 2 and any(_match_in_order(gold.parts, o, compare) for o in orders):
            return True
        # The equation in the question, copied as the answer, has the same solutions as the gold answer
        return _VARIABLE.search(gold.latex) is not None and compare(gold, answer)
    if "relation" in (gold.kind, answer.kind):
        return gold.kind == "relation" and compare(gold, answer)
    equation, other = (gold, answer) if gold.kind == "equation" else (answer, gold)
    if not equation.label and not _is_quantity(equation):
        return False
    names = [part.label for part in other.parts if part.kind == "equation" and part.label]
    if equation.label and not all(_names_agree(equation.label, name) for name in names):
        return False
    return matches(gold, answer.parts[0], compare) if equation is answer else matches(gold.parts[0], answer, compare)


def _is_quantity(equation: Answer) -> bool:
    r"""
    Whether the left side is something whose value is on the right, such as `a + b` or `\frac{KL}{LM}`. An equation
    in coordinates, such as `x^2 + y^2 = 4`, is not.
    """
    if len(equation.parts) < 2 or _VARIABLE.search(equation.parts[0].latex):
        return len(equation.parts) == 2 and not _VARIABLE.search(equation.parts[1].latex)
    left = _ARGUMENT.sub("", equation.parts[1].latex)
    if re.fullmatch(r"- ?\\?[a-zA-Z]+", left):  # -x = 3
        return False
    return not re.search(r"(?<![\\A-Za-z])[xyz](?![A-Za-z])", left) or not re.search(r"\d", left)


def _names_agree(gold: str, answer: str) -> bool:
    """Variables, functions and points must be the same. Longer names, such as that of an area, may differ."""
    symbols = [_ONE_LETTER.fullmatch(name) is not None or name.startswith("(") for name in (gold, answer)]
    return gold.casefold() == answer.casefold() or not (all(symbols) or gold.split("(")[0] == answer.split("(")[0])


def _collections_match(gold: Answer, answer: Answer, compare: Compare) -> bool:
    kinds = gold.kind, answer.kind
    if gold.kind == "union" and answer.label == "and":
        return False
    if any(both.issuperset(kinds) for both in _UNORDERED) and not _are_values_of_names(gold, answer):
        return _match_in_any_order(gold.parts, answer.parts, compare) or (
            kinds == ("union", "union") and compare(gold, answer)
        )
    if gold.kind == answer.kind:
        return (gold.label == answer.label or gold.kind == "list") and _match_in_order(
            gold.parts, answer.parts, compare
        )
    if kinds in (("list", "expression"), ("expression", "list")):  # the choices A, C, D or ACD
        letters = ["".join(sorted(p.label for p in s.parts)) if s.parts else s.canonical for s in (gold, answer)]
        choices = all(part.kind == "choice" for part in (*gold.parts, *answer.parts))
        return choices and letters[0] == letters[1]
    if "set" in kinds:
        single = [side.parts[0] if side.kind == "set" and len(side.parts) == 1 else side for side in (gold, answer)]
        return "set" not in (single[0].kind, single[1].kind) and matches(single[0], single[1], compare)
    point, other = (gold, answer) if gold.kind == "tuple" else (answer, gold)
    is_vector = other.kind == "matrix" and "1" in other.label.split("x")
    if point.kind == "tuple" and (other.kind == "list" or is_vector):
        return point.label == "()" and _match_in_order(gold.parts, answer.parts, compare)
    if "matrix" in kinds:
        return "expression" in kinds and compare(gold, answer)
    return set(kinds) <= _REGIONS and answer.kind != "relation" and compare(gold, answer)


def _are_values_of_names(gold: Answer, answer: Answer) -> bool:
    """Whether the gold answer is like `x = 1, y = 2` and the answer like `1, 2`, whose order stands for the names."""
    return (
        all(part.kind == "equation" and part.label for part in gold.parts)
        and all(part.kind != "equation" for part in answer.parts)
        and len({re.sub(r"_\{\d+\}", "", part.label) for part in gold.parts}) > 1
    )


def _match_in_order(gold: Sequence[Answer], answer: Sequence[Answer], compare: Compare) -> bool:
    pairs = list(zip(gold, answer, strict=False))
    values = [(a, b) if a.kind == b.kind else (_value(a), _value(b)) for a, b in pairs]
    return len(gold) == len(answer) and all(matches(a, b, compare) for a, b in values)


def _value(side: Answer) -> Answer:
    return side.parts[0] if side.kind == "equation" and side.label else side


def _match_in_any_order(gold: Sequence[Answer], answer: Sequence[Answer], compare: Compare) -> bool:
    """Whether the elements match one to one. Equality is transitive, so taking the first match is enough."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for test in (Compare(), compare):
        rest = []
        for element in gold:
            found = next((index for index, other in enumerate(left) if matches(element, other, test)), None)
            if found is None:
                rest.append(element)
            else:
                del left[found]
        gold = rest
    return not left
