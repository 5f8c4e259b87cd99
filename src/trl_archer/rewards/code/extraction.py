"""The program that a completion answers with."""

from collections.abc import Iterator
from typing import NamedTuple

_PYTHON = ("python", "py", "python3")
_SPACE = " \t"


def extract_program(completion: str) -> str | None:
    r"""
    Finds the Python program in a completion.

    The program is the last fenced code block that is labelled `python`, `py` or `python3`, in any case; if there is
    none, the last one without a label: behind the program, a block without a label usually shows its output. Blocks of
    other languages are never taken. When there is a `</think>`, only what follows the last one is read; a `<think>`
    that is never closed is unfinished reasoning, and its drafts are no answers.

    Fences are those of CommonMark: three or more backticks or tildes that begin a line, closed by a line of as many or
    more of them. They may be indented, as in a list, and what they are indented by is taken off the program.

    Args:
        completion (`str`): What the model wrote.

    Returns:
        `str`, *optional*: Source of the program. `None` when there is no such block, when it is blank or cannot be
        encoded as UTF-8, or when its fence is never closed: that program was cut off, and an earlier draft is not what
        the model settled on. No program is a wrong answer, not one that cannot be scored.

    Example:

    ```python
    >>> extract_program("Read, then print.\n~~~python\nprint(input())\n~~~\nIt prints\n~~~\n5\n~~~")
    'print(input())'
    >>> extract_program("~~~python\nprint(inp") is None
    True

    ```
    """
    _, closed, answer = completion.rpartition("</think>")
    if not closed and "<think>" in answer:
        return None
    programs = dict(_blocks(answer))  # the last of each kind
    program = programs.get("python", programs.get(""))
    if program is None or not program.strip() or not _is_encodable(program):
        return None
    return program


class _Fence(NamedTuple):
    indent: str
    marker: str
    label: str


def _blocks(text: str) -> Iterator[tuple[str, str | None]]:
    """Label and content of each block, in order; the content of a block that is never closed is `None`."""
    fence, content = None, list[str]()
    for line in text.split("\n"):  # `splitlines` would also split at form feeds, which may stand in a program
        line = line.removesuffix("\r")
        if fence is None:
            fence, content = _opening(line), []
        elif _closes(line, fence):
            yield fence.label, "\n".join(content)
            fence = None
        else:
            depth = len(fence.indent)
            content.append(line[:depth].lstrip(_SPACE) + line[depth:])
    if fence is not None:
        yield fence.label, None


def _opening(line: str) -> _Fence | None:
    text = line.lstrip(_SPACE)
    if not text.startswith(("```", "~~~")):
        return None
    info = text.lstrip(text[0])
    if text[0] == "`" and "`" in info:
        return None  # code within a line
    label = next(iter(info.lower().split(maxsplit=1)), "")
    label = "python" if label in _PYTHON else label
    return _Fence(line[: len(line) - len(text)], text[: len(text) - len(info)], label)


def _closes(line: str, fence: _Fence) -> bool:
    text = line.lstrip(_SPACE)
    if not text.startswith(fence.marker) or text.rstrip(_SPACE).strip(fence.marker[0]):
        return False
    # Deeper than that it belongs to the program, as in the docstring of a function
    return _columns(line[: len(line) - len(text)]) <= _columns(fence.indent) + 3


def _columns(indent: str) -> int:
    return len(indent.expandtabs(4))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
