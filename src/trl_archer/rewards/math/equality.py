"""Decides whether an answer is a gold answer, structure by structure, as far as rules can."""

import re
from collections.abc import Callable, Sequence

from .forms import Form, fold
from .numbers import Number, numbers_agree, read_number
from .units import units_agree

# What compares two expressions, or two relations, that are not spelled alike
Leaf = Callable[[Form, Form], bool]

_COLLECTIONS = frozenset(["list", "set", "tuple", "union", "matrix"])
_IN_ANY_ORDER = {
    *((a, b) for a in ("list", "set") for b in ("list", "set")),
    *((a, b) for a in ("list", "union") for b in ("list", "union")),
}
# Regions of the line or plane can be written in ways that no rule sees through, such as R without {0}
_REGIONS = frozenset(["expression", "union", "tuple", "relation"])
_QUANTITY = re.compile(r"(.*\S)\s*([ghms])")
_VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-df-hj-z](?![A-Za-z])|\\(?:alpha|beta|gamma|lambda|theta|phi)(?![a-z])")
_TIME = re.compile(r"\d{1,2}:[0-5]\d")
_ONE_LETTER = re.compile(r"\\?[A-Za-z](?![A-Za-z]).*")


def matches(gold: Form, answer: Form, leaf: Leaf) -> bool:
    """
    Whether an answer is equal to the gold answer, and of the same structure.

    Args:
        gold ([`Form`]): Gold answer.
        answer ([`Form`]): Answer.
        leaf (`Callable`): Compares two expressions that are not spelled alike. It is not asked about two numbers, about
            words, or about answers whose structures differ.

    Returns:
        `bool`: Whether it is.
    """
    if answer.kind == "family" and gold.kind != "family":
        answer = answer.parts[0]
    if gold.kind == "approximation":
        return any(matches(part, answer, leaf) for part in gold.parts)
    if answer.kind == "approximation":
        exact, rounded = answer.parts
        return _approximation_matches(gold, exact, rounded, leaf)
    kinds = gold.kind, answer.kind
    if "unreadable" in kinds or not _units_agree(gold, answer):
        return False
    if "choice" in kinds:
        return _choices_match(gold, answer, leaf)
    if gold.number and answer.number:
        return _numbers_match(gold, gold.number, answer, answer.number)
    if "based" in kinds:
        return _numerals_match(gold, answer)
    if gold.key == answer.key:
        return True
    if "equation" in kinds:
        return _equations_match(gold, answer, leaf)
    if "text" in kinds:
        return (gold.label or fold(gold.latex)) == (answer.label or fold(answer.latex))
    if "ratio" in kinds:
        return _ratios_match(gold, answer)
    if not _COLLECTIONS.isdisjoint(kinds):
        return _collections_match(gold, answer, leaf)
    if answer.kind == "relation" and gold.kind != "relation":
        return False
    return _is_with_letter_of_unit(gold, answer) or leaf(gold, answer)


def _is_with_letter_of_unit(gold: Form, answer: Form) -> bool:
    """Whether the answer is the gold number in metres, written `5m`. As gold answer that is a multiple of `m`."""
    quantity = _QUANTITY.fullmatch(answer.latex)
    if quantity is None or gold.number is None or answer.kind != "expression":
        return False
    number = read_number(quantity[1])
    return number is not None and number.value == gold.number.value and units_agree(gold.unit, quantity[2])


def _approximation_matches(gold: Form, exact: Form, rounded: Form, leaf: Leaf) -> bool:
    """The exact side is the answer; the other is, if the gold answer is rounded too and it fits the exact one."""
    return matches(gold, exact, leaf) or (exact.number is not None and matches(gold, rounded, leaf))


def _units_agree(gold: Form, answer: Form) -> bool:
    if gold.number and answer.number and "percent" in (gold.unit, answer.unit):
        return {gold.unit, answer.unit} <= {"percent", None}
    return units_agree(gold.unit, answer.unit)


def _numbers_match(gold: Form, gold_number: Number, answer: Form, answer_number: Number) -> bool:
    as_written = numbers_agree(gold_number, answer_number)
    if gold.unit == answer.unit or "percent" not in (gold.unit, answer.unit):
        return as_written
    # Where the question asked for percent the sign may be missing; a gold above 1 is not a share, so it did
    if as_written and (gold.unit == "percent" or abs(gold_number.value) > 1):
        return True
    return _share(gold, gold_number) == _share(answer, answer_number)


def _share(form: Form, number: Number) -> object:
    return number.value / 100 if form.unit == "percent" else number.value


def _choices_match(gold: Form, answer: Form, leaf: Leaf) -> bool:
    if gold.kind == answer.kind:
        both = gold.parts and answer.parts
        return gold.label == answer.label and (not both or matches(gold.parts[0], answer.parts[0], leaf))
    if gold.kind == "choice":
        return answer.latex.upper() == gold.label or any(matches(part, answer, leaf) for part in gold.parts)
    return any(matches(gold, part, leaf) for part in answer.parts)


def _numerals_match(gold: Form, answer: Form) -> bool:
    """A base may be left out, since the question asks for it. Nothing is converted to another base."""
    if {gold.kind, answer.kind} > {"based", "number"}:
        return False
    bases = {form.label for form in (gold, answer) if form.kind == "based"}
    return gold.key == answer.key and len(bases) == 1


def _equations_match(gold: Form, answer: Form, leaf: Leaf) -> bool:
    if gold.kind == answer.kind:
        solved = gold.label and not _VARIABLE.search(gold.parts[0].latex)
        if gold.label and answer.label and (solved or gold.label == answer.label):
            return _names_agree(gold.label, answer.label) and matches(gold.parts[0], answer.parts[0], leaf)
        # The question's own equation, copied, has the same solutions as the gold answer
        return not solved and leaf(gold, answer)
    if gold.kind == "relation":
        return leaf(gold, answer)
    if gold.kind == "equation":
        return bool(gold.label) and answer.kind != "relation" and matches(gold.parts[0], answer, leaf)
    return matches(gold, answer.parts[0], leaf)


def _names_agree(gold: str, answer: str) -> bool:
    """Two variables must be the same one; a longer name, such as that of an area, can be given in many ways."""
    variables = _ONE_LETTER.fullmatch(gold) and _ONE_LETTER.fullmatch(answer)
    return not variables or gold.casefold() == answer.casefold()


def _ratios_match(gold: Form, answer: Form) -> bool:
    if gold.kind == answer.kind:
        terms = list(zip(_terms(gold), _terms(answer), strict=False))
        exact = all(a == b for a, b in terms)
        # 6:15 and 12:30 are times
        scalable = all(a and b for a, b in terms) and not (
            _TIME.fullmatch(gold.latex) and _TIME.fullmatch(answer.latex)
        )
        proportional = scalable and all(a * terms[0][1] == b * terms[0][0] for a, b in terms)
        return len(gold.parts) == len(answer.parts) and (exact or proportional)
    ratio, other = (gold, answer) if gold.kind == "ratio" else (answer, gold)
    parts = _terms(ratio)
    return other.number is not None and len(parts) == 2 and parts[0] == other.number.value * parts[1]


def _terms(ratio: Form) -> list:
    return [part.number.value for part in ratio.parts if part.number]


def _collections_match(gold: Form, answer: Form, leaf: Leaf) -> bool:
    kinds = gold.kind, answer.kind
    if kinds in _IN_ANY_ORDER and not _are_values_of_names(gold, answer):
        return _match_in_any_order(gold.parts, answer.parts, leaf) or (
            kinds == ("union", "union") and leaf(gold, answer)
        )
    if gold.kind == answer.kind:
        return (gold.label == answer.label or gold.kind == "list") and _match_in_order(gold.parts, answer.parts, leaf)
    if "set" in kinds:
        single = [form.parts[0] if form.kind == "set" and len(form.parts) == 1 else form for form in (gold, answer)]
        return "set" not in (single[0].kind, single[1].kind) and matches(single[0], single[1], leaf)
    point = gold if gold.kind == "tuple" else answer
    other = answer if point is gold else gold
    if point.kind == "tuple" and (other.kind == "list" or _is_vector(other)):
        return point.label == "()" and _match_in_order(gold.parts, answer.parts, leaf)
    if "matrix" in kinds:
        return "expression" in kinds and leaf(gold, answer)
    return set(kinds) <= _REGIONS and answer.kind != "relation" and leaf(gold, answer)


def _are_values_of_names(gold: Form, answer: Form) -> bool:
    """Whether the gold answer is like `x = 1, y = 2` and the answer like `1, 2`, whose order then tells the names."""
    return (
        all(part.kind == "equation" and part.label for part in gold.parts)
        and all(part.kind != "equation" for part in answer.parts)
        and len({re.sub(r"_\{\d+\}", "", part.label) for part in gold.parts}) > 1
    )


def _is_vector(form: Form) -> bool:
    return form.kind == "matrix" and "1" in form.label.split("x")


def _match_in_order(gold: Sequence[Form], answer: Sequence[Form], leaf: Leaf) -> bool:
    pairs = list(zip(gold, answer, strict=False))
    values = [(a, b) if a.kind == b.kind else (_value(a), _value(b)) for a, b in pairs]
    return len(gold) == len(answer) and all(matches(a, b, leaf) for a, b in values)


def _value(form: Form) -> Form:
    return form.parts[0] if form.kind == "equation" and form.label else form


def _match_in_any_order(gold: Sequence[Form], answer: Sequence[Form], leaf: Leaf) -> bool:
    """Whether each element meets another one. Equality goes from element to element, so the first that fits will do."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for compare in (_never, leaf):
        rest = []
        for element in gold:
            found = next((index for index, other in enumerate(left) if matches(element, other, compare)), None)
            if found is None:
                rest.append(element)
            else:
                del left[found]
        gold = rest
    return not left


def _never(gold: Form, answer: Form) -> bool:
    return False
