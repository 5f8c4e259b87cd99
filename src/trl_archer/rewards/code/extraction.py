"""Extracts the submitted program from a completion."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..completions import final_part, text_of

_PYTHON = ("python", "py", "python3", "py3")
_SPACE = " \t"
_TAG = re.compile(r"\w{1,20}>")
_LABEL = re.compile(r"[{.\s]*(\w*(?:[+#]+)?)")  # python3.11, {.python}, python:main.py, c++
_REST = re.compile(r"[^\w'\"<`~]*(?:</\w{1,20}>[^\w'\"<`~]*)*")  # behind a closing fence: punctuation and closing tags

_FENCE_LINE = re.compile(r"\s*(?:`{3,}|~{3,})\s*\S+")


def opens_program(prompt: Any) -> bool:
    """Whether a prompt, plain or conversational, ends with an open fence of Python, so a completion is the program."""
    text = prompt if isinstance(prompt, str) else text_of(prompt[-1:]) if isinstance(prompt, list) else ""
    *_, last = text.rstrip().rsplit("\n", 1)
    fence = _opening(last) if _FENCE_LINE.fullmatch(last) else None  # a sentence may name a fence without opening it
    return fence is not None and fence.label == "python" and list(_blocks(text))[-1:] == [("python", None)]


def extract_program(completion: str, thinking: bool = False, opened: bool = False) -> str | None:
    """
    Finds the Python program in a completion.

    The program is the last fenced code block labeled `python`, `py` or `python3`, in any case and with any addition
    (`python3.11`, `{.python}`, `python:main.py`). Without a labeled block it is the last unlabeled one; after a labeled
    program, an unlabeled block usually shows its output. Blocks in other languages are ignored. Only the
    [`~trl_archer.rewards.completions.final_part`] is read.

    Fences follow CommonMark: three or more backticks or tildes at the start of a line, closed by a line of at least as
    many. A fence may be indented, as in a list. Its indentation is removed from the program. Models write more than
    CommonMark allows: text before a labeled fence, closing tags or punctuation behind the closing one, and a closing
    fence at the end of the last line of code, unless it may belong to a string.

    The prompt may have opened the fence (`opened`, see [`opens_program`]). That is also assumed if nothing else is
    found and a last fence without a label remains open.

    `None` if there is no such block, if it is blank or cannot be encoded as UTF-8, or if its fence is never closed: the
    program was cut off, and the model did not settle on an earlier draft. A missing program is a wrong answer. It is
    not unscorable.
    """
    answer = final_part(completion, thinking) or ""
    start = "```python\n" if opened else ""
    programs = dict(_blocks(start + answer))  # the last of each label
    if not opened and "python" not in programs and programs.get("", "") is None:
        programs = dict(_blocks("```python\n" + answer))
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
            line = line[:depth].lstrip(_SPACE) + line[depth:]
            code = _code_before_fence(line, fence)
            content.append(line if code is None else code)
            if code is not None:
                yield fence.label, "\n".join(content)
                fence = None
    if fence is not None:
        yield fence.label, None


def _opening(line: str) -> _Fence | None:
    text = line.lstrip(_SPACE)
    indent = line[: len(line) - len(text)]
    is_inside = not text.startswith(("```", "~~~"))
    if is_inside:  # behind other text
        _, found, rest = text.partition("```")
        text = found + rest
        if not found:
            return None
    info = text.lstrip(text[0])
    if text[0] == "`" and "`" in info:
        return None  # inline code
    match = _LABEL.match(info.lower())
    label = match[1] if match else ""
    label = "python" if label in _PYTHON else label
    if is_inside and label != "python":
        return None
    return _Fence(indent, text[: len(text) - len(info)], label)


def _closes(line: str, fence: _Fence) -> bool:
    text = line.lstrip(_SPACE)
    if not text.startswith(fence.marker) or not _REST.fullmatch(text.rstrip(_SPACE).lstrip(fence.marker[0])):
        return False
    # A deeper fence belongs to the program, for example to a docstring
    indent = line[: len(line) - len(text)]
    return len(indent.expandtabs(4)) <= len(fence.indent.expandtabs(4)) + 3


def _code_before_fence(line: str, fence: _Fence) -> str | None:
    """The code in the last line of a block that closes at the end of that line."""
    text = line.rstrip(_SPACE)
    if text.endswith(">"):
        code, _, tag = text.rpartition("</")
        text = code if _TAG.fullmatch(tag) else text
    code = text.rstrip(fence.marker[0])
    ends = text.endswith(fence.marker) and code.strip() and fence.marker not in code
    is_string = code.count("'") % 2 or code.count('"') % 2 or "#" in code
    return code if ends and not is_string else None
