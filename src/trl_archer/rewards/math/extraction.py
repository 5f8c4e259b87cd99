r"""Finds the final answer in a completion.

This runs in the trainer's process on text that a model wrote. For any text it takes linear time, does not recurse and
does not raise.
"""

import re
from typing import NamedTuple

from ..completions import final_part

MAX_ANSWER_LENGTH = 2_000

# Every quantifier is bounded, so a match costs at most a constant.
_MARKS = re.compile(
    r"""\\{1,3}(?:boxed|fbox)(?![A-Za-z])\s{0,8}
            (?:(?P<brace>\{) | (?P<bare>[-+]?\d[\d.,/]{0,40} | [A-Za-z](?![A-Za-z])) | (?P<command>\\[A-Za-z]))?
        | \\. | [{}]""",
    re.VERBOSE | re.DOTALL,
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_SEPARATOR = re.compile(
    r"(?:[\s,;.$*&]|\\[\[\]()\\,;:! ]|\\q?quad(?![a-z])|\\text\s?\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)*+"
    r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)?\s{0,4}=\s{0,4})?"
)
_LONGEST_SEPARATOR = 40
_NAME = re.compile(r"(?<![A-Za-z\\])([A-Za-z](?:_\{?\w{1,3}\}?)?)\s{0,4}=\s{0,4}\Z")
_LONGEST_NAME = 20
_PHRASE = re.compile(
    r"\banswers?(?:\s{1,4}to\s[^.\n]{0,80}?)?(?:[*_`]{0,3}\s{1,4}(?:is|are)\b|[*_`\s]{0,4}[:=])[:*_`\s]{0,8}"
    r"|答案(?:是|为)?[:\uff1a\s]{0,4}",
    re.IGNORECASE,
)
_END_OF_SENTENCE = re.compile(r"\n|[.!?](?=[\s*_]|$)|。")
_DISPLAY = re.compile(r"\s{0,8}(?:\\\[|\$\$)(.*?)(?:\\\]|\$\$)", re.DOTALL)
_TAG, _END_OF_TAG = "<answer>", "</answer>"


def extract_answer(text: str, phrases: bool = False, *, thinking: bool = False) -> str | None:
    r"""
    Finds the answer that a completion commits to.

    - Only the [`~trl_archer.rewards.completions.final_part`] counts. A box in the reasoning is a draft.
    - The answer is the last `\boxed{...}` or `\fbox{...}`, with balanced braces and `\{` escaped. `\boxed 5` counts
      too. Of nested boxes, the outermost closed one is taken, so `\boxed{5 \text{ or } \boxed{6}}` shows both.
    - Boxes with only a separator between them form a list: `\boxed{1} and \boxed{2}` is `1, 2`. This exposes a hedge,
      and keeps two solutions in two boxes.
    - An unclosed or empty last box is not an answer. Earlier boxes do not replace it: a completion that is cut off in
      its last box has not committed to the one before.
    - `$x=\boxed{1}$ and $y=\boxed{2}$` is `x=1, y=2`: names between boxes are part of the answer.

    - With `phrases`, a completion without a box is read from its last `####` to the end of the line, or between
      `<answer>` and `</answer>`, or from its last phrase such as "the final answer is ..." or "Answer: ..." to the end
      of the sentence, line or displayed formula.
    - With `thinking`, the prompt already opens the reasoning. A completion without `</think>` then has no answer, as in
      TRL's `reasoning_accuracy_reward`. By default its whole text counts, as in `accuracy_reward`.
    - An answer of more than 2,000 characters is not an answer.
    """
    part = final_part(text, thinking)
    if part is None:
        return None
    if has_box(part):
        return _boxed(part)
    if not phrases:
        return None
    marked = after_mark(part)
    return (marked or None) if marked is not None else _after_phrase(part)


def has_box(text: str) -> bool:
    r"""Whether the command `\boxed` or `\fbox` occurs in a text."""
    return _BOX.search(text) is not None


class _Box(NamedTuple):
    """Positions of the start of a box, the start and end of its content, and the end of the box."""

    start: int
    first: int
    stop: int
    end: int


def _boxed(text: str) -> str | None:
    boxes, complete = _outermost_boxes(text)
    if not complete:
        return None
    parts: dict[tuple[str, str], None] = {}  # names and contents, each once, from the right
    length = 0
    follower: _Box | None = None  # the box to the right
    for box in reversed(boxes):
        if follower is not None and (
            follower.start - box.end > _LONGEST_SEPARATOR or not _SEPARATOR.fullmatch(text, box.end, follower.start)
        ):
            break
        part = text[box.first : min(box.stop, box.first + MAX_ANSWER_LENGTH + 1)].strip()
        before = text[max(0, box.start - _LONGEST_NAME) : box.start].rstrip(" $")
        name = _NAME.search(before) if before.endswith("=") else None
        key = (name[1] if name else "", part)
        length += 0 if key in parts else len(part)
        if not part or length > MAX_ANSWER_LENGTH:
            return None
        parts[key] = None
        follower = box
    if len(parts) > 1 and all(name for name, _ in parts):
        return ", ".join(f"{name}={part}" for name, part in reversed(parts))
    return ", ".join(dict.fromkeys(part for _, part in reversed(parts)))


def _outermost_boxes(text: str) -> tuple[list[_Box], bool]:
    """All boxes outside other closed boxes, and whether the last box to begin is one of them or inside one."""
    boxes: list[_Box] = []
    open_braces: list[tuple[int, int]] = []  # start of a box and of its content; -1 for any other brace
    last = -1
    for mark in _MARKS.finditer(text):
        if mark[0] == "{":
            open_braces.append((-1, -1))
        elif mark[0] == "}":
            start, first = open_braces.pop() if open_braces else (-1, -1)
            if start >= 0:
                while boxes and boxes[-1].start > start:
                    boxes.pop()
                boxes.append(_Box(start, first, mark.start(), mark.end()))
        elif mark["brace"]:
            last = mark.start()
            open_braces.append((last, mark.end()))
        elif mark["bare"]:
            last = mark.start()
            stop = mark.start("bare") + len(mark["bare"].rstrip(".,/"))
            boxes.append(_Box(last, mark.start("bare"), stop, mark.end()))
        elif mark["command"]:  # only TeX knows where the box in `\boxed\frac12` ends
            last = mark.start()
    return boxes, bool(boxes) and boxes[-1].start <= last < boxes[-1].end


def after_mark(text: str) -> str | None:
    """The text in the last `<answer>`, or after the last `####` in its line. `None` if there is neither."""
    start = text.rfind(_TAG)
    if start >= 0:
        answer = text[start + len(_TAG) :].partition(_END_OF_TAG)[0]
    elif "####" in text:
        answer = text.rpartition("####")[2].strip().partition("\n")[0]
    else:
        return None
    return answer.strip() if len(answer) <= MAX_ANSWER_LENGTH else ""


def _after_phrase(text: str) -> str | None:
    start = max((phrase.end() for phrase in _PHRASE.finditer(text)), default=None)
    if start is None:
        return None
    rest = text[start : start + MAX_ANSWER_LENGTH + 1]
    display = _DISPLAY.match(rest)
    if display:
        return display[1].strip() or None
    end = _END_OF_SENTENCE.search(rest)
    if end is None and len(rest) > MAX_ANSWER_LENGTH:
        return None
    answer = rest[: end.start()] if end else rest
    return answer.strip().strip("*_`").strip() or None
