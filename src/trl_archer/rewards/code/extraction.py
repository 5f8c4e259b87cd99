"""Extracts the submitted program from a completion."""

from collections.abc import Iterator
from typing import NamedTuple

from ..completions import final_part

_PYTHON = ("python", "py", "python3")
_SPACE = " \t"


def extract_program(completion: str, thinking: bool = False) -> str | None:
    """
    Finds the Python program in a completion.

    The program is the last fenced code block labeled `python`, `py` or `python3`, in any case. Without a labeled block
    it is the last unlabeled one; after a labeled program, an unlabeled block usually shows its output. Blocks in other
    languages are ignored. Only the [`~trl_archer.rewards.completions.final_part`] is read.

    Fences follow CommonMark: three or more backticks or tildes at the start of a line, closed by a line of at least as
    many. A fence may be indented, as in a list. Its indentation is removed from the program.

    `None` if there is no such block, if it is blank or cannot be encoded as UTF-8, or if its fence is never closed: the
    program was cut off, and the model did not settle on an earlier draft. A missing program is a wrong answer. It is
    not unscorable.
    """
    answer = final_part(completion, thinking)
    programs = dict(_blocks(answer or ""))  # the last of each label
    program = programs.get("python", programs.get(""))
    try:
        (program or "").encode()
    except UnicodeEncodeError:
        return None
    return program if program and program.strip() else None


class _Fence(NamedTuple):
    indent: str
    marker: str
    label: str


def _blocks(text: str) -> Iterator[tuple[str, str | None]]:
    """Label and content of each block, in order. The content of an unclosed block is `None`."""
    fence, content = None, list[str]()
    for line in text.split("\n"):  # `splitlines` also splits at form feeds, which a program may contain
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
        return None  # inline code
    label = next(iter(info.lower().split(maxsplit=1)), "")
    label = "python" if label in _PYTHON else label
    return _Fence(line[: len(line) - len(text)], text[: len(text) - len(info)], label)


def _closes(line: str, fence: _Fence) -> bool:
    text = line.lstrip(_SPACE)
    if not text.startswith(fence.marker) or text.rstrip(_SPACE).strip(fence.marker[0]):
        return False
    # A deeper fence belongs to the program, for example to a docstring
    indent = line[: len(line) - len(text)]
    return len(indent.expandtabs(4)) <= len(fence.indent.expandtabs(4)) + 3
