r"""Reads gold answers as data sets hold them, and finds those that no answer can be graded against."""

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from ...workers import WorkerPool
from .extraction import MAX_ANSWER_LENGTH, after_mark, extract_answer, has_box

_NO_ANSWER = frozenset(
    "proof|notfound|not found|nan|none|null|n/a|na|unknown|no answer|see solution|tbd|error|-|--|?|<na>".split("|")
)
_LIST = re.compile(r"\s*\[\s*\[?\s*(?:r?['\"]).*['\"]\s*\]?\s*,?\s*\]\s*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]|\n(?=[a-z])|\t(?=[a-z])")
_NOISE = re.compile(r"[-+]?\d+\.\d{12,}(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
_LEAST_WORDS = 4


def acceptable_answers(solution: Any) -> tuple[str, ...]:
    r"""
    The acceptable answers in one row of a gold column.

    Lists may be nested, arrays, or written as text in JSON or Python: `["34"]` as text is 34. Floats lose their
    rounding noise. Words that say that there is no answer ("proof", "N/A", NaN) are none.

    Example:

    ```python
    >>> acceptable_answers("['$69$, $84$']")
    ('$69$, $84$',)
    >>> acceptable_answers(0.30000000000000004), acceptable_answers("N/A")
    (('0.3',), ())

    ```
    """
    if hasattr(solution, "tolist"):
        solution = solution.tolist()
    if isinstance(solution, list | tuple):
        return tuple(dict.fromkeys(answer for part in solution for answer in acceptable_answers(part)))
    if isinstance(solution, float):
        return (_without_noise(solution),) if math.isfinite(solution) else ()
    text = "" if solution is None else str(solution).strip()
    if text.casefold() in _NO_ANSWER or not text:
        return ()
    if _LIST.fullmatch(text):
        parts = _parsed_list(text)
        if parts is not None:
            return acceptable_answers(parts)
    if _NOISE.fullmatch(text) and len(_without_noise(float(text))) <= len(text) - 3:
        return (_without_noise(float(text)),)
    return (text,)


def bare_gold(gold: str) -> str | None:
    """The answer in a gold answer: in its last box or `<answer>`, after `####` or "the answer is", or all of it."""
    if has_box(gold):
        return extract_answer(gold)
    marked = after_mark(gold)
    if marked is not None:
        return marked
    if len(gold) > MAX_ANSWER_LENGTH or len(_WORD.findall(gold)) >= _LEAST_WORDS:
        return extract_answer(gold, phrases=True) or (None if len(gold) > MAX_ANSWER_LENGTH else gold)
    return gold


def unscorable_golds(
    golds: Sequence[Any], seconds: float = 10.0, workers: int | None = None
) -> list[tuple[int, Any, str]]:
    r"""
    Finds the gold answers that no completion could be graded against, before a model is loaded.

    A gold answer must be readable, and right as an answer to itself.

    Args:
        golds (`Sequence`): Rows of a gold column, as the reward gets them: a text, a number, or a list of answers.
        seconds (`float`, *optional*, defaults to `10.0`): Time limit for one row.
        workers (`int`, *optional*): Number of worker processes. If `None`, the number of cores per local rank.

    Returns:
        `list` of `(index, gold, reason)`: The rows that fail, in order.

    Example:

    ```python
    >>> unscorable_golds([r"\frac{1}{2}", "proof", "See the figure above, it shows all of them."])
    [(1, 'proof', 'it names no answer'), (2, 'See the figure above, it shows all of them.', 'it cannot be read')]

    ```
    """
    rows = [acceptable_answers(gold) for gold in golds]
    items: list[Any] = list(dict.fromkeys((answers, bare_gold(gold) or "") for answers in rows for gold in answers))
    items += [(answers, None) for answers in dict.fromkeys(rows) if answers]
    with WorkerPool("trl_archer.rewards.math.grading:grade_item", workers=workers) as pool:
        outcomes = dict(zip(items, pool.map(items, seconds), strict=True))
    found = []
    for index, (gold, answers) in enumerate(zip(golds, rows, strict=True)):
        reason = _reason(answers, outcomes)
        if reason:
            found.append((index, gold, reason))
    return found


def _reason(answers: tuple[str, ...], outcomes: dict[Any, Any]) -> str:
    if not answers:
        return "it names no answer"
    scorable = outcomes[answers, None]
    if scorable.failure:
        return f"it cannot be graded: {scorable.failure}"
    if not scorable.value:
        return "it cannot be read"
    grades = [outcomes[answers, bare_gold(gold) or ""].value for gold in answers]
    return "" if any(grade is not None and grade[0] for grade in grades) else "it does not match itself"


def _parsed_list(text: str) -> Any:
    r"""A list in JSON or Python. Backslashes may be single, so `["\frac12"]` has no control character."""
    doubled = text.replace("\\", "\\\\")
    for read, source in ((r, t) for t in (text, doubled) for r in (json.loads, ast.literal_eval)):
        try:
            parts = read(source)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if not _CONTROL.search(str(parts) if isinstance(parts, str) else "".join(_strings(parts))):
            return parts
    return None


def _strings(parts: Any) -> list[str]:
    return [text for part in parts for text in _strings(part)] if isinstance(parts, list | tuple) else [str(parts)]


def _without_noise(number: float) -> str:
    return f"{number:.15g}"
