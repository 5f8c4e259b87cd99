"""
A griffe extension: docstrings in Hugging Face markup become the Google style that mkdocstrings reads.

- ``[`Name`]`` becomes a link if `Name` is public, and code otherwise.
- ``name (`type`, *optional*, defaults to `x`):`` becomes `name (type):`. The signature shows the default.
- Doctests become console sessions.
"""

import re
from collections.abc import Iterator

from griffe import Extension, GriffeLoader, Module, Object

_PARAMETERS = ("Args:", "Parameters:", "Attributes:")
_RESULTS = ("Returns:", "Yields:", "Raises:")
_REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?![\[(])")
_PARAMETER = re.compile(r"^    (\w+(?:, \w+)*) \((.*?)\):(?= |$)")
_TYPE = re.compile(r"^    (\[?`.*?): ")
_GROUP = re.compile(r"\n    > Parameters .*\n(?=\n)")
_DOCTEST = re.compile(r"```python\n(>>>.*?)\n*```", re.DOTALL)


def _plain(kind: str) -> str:
    kind = _REFERENCE.sub(lambda match: match[1].split(".")[-1], kind)
    kind = re.sub(r"(, )?\*optional\*.*", "", kind).replace("`", "")
    return f"{kind} " if kind.endswith(")") else kind  # griffe strips a final parenthesis


def converted(text: str, public: dict[str, str]) -> str:
    """Converts a docstring. `public` maps each public name to its path."""
    lines, section = [], ""
    for line in _GROUP.sub("", text).splitlines():
        if line and not line.startswith(" "):
            section = line
        if section in _PARAMETERS and (match := _PARAMETER.match(line)):
            kind = _plain(match[2])
            head = f" ({kind}):" if kind else ":"
            lines += [f"    {name}{head}{line[match.end() :]}" for name in match[1].split(", ")]
        elif section in _RESULTS and (match := _TYPE.match(line)):
            lines.append(f"    {_plain(match[1])}: {line[match.end() :]}")
        else:
            lines.append(line)
    text = _DOCTEST.sub(r"```pycon\n\1\n```", "\n".join(lines)).replace("\nExample:\n", "\n**Example:**\n")
    text = re.sub(r":\n(> | *)- ", r":\n\1\n\1- ", text)  # Python-Markdown wants a blank line before a list

    def link(match: re.Match[str]) -> str:
        name = match[1].split(".")[-1]
        return f"[`{name}`][{public[name]}]" if name in public else f"`{name}`"

    return _REFERENCE.sub(link, text)


def _walk(obj: Object) -> Iterator[Object]:
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from _walk(member)


class HuggingFaceDocstrings(Extension):
    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: object) -> None:
        objects = list(_walk(pkg))
        public = {}
        for module in objects:
            if module.is_module:
                names = module.exports or (module.members if module.name == "objective" else ())
                public |= {str(name): f"{module.path}.{name}" for name in names if not str(name).startswith("_")}
        for obj in objects:
            if obj.docstring:
                obj.docstring.value = converted(obj.docstring.value, public)
