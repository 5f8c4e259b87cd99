"""
Writes a page of the site for each notebook, with its committed outputs: docs/notebook_NAME.md, which git ignores.

python docs/plugins/notebook_pages.py
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_DOC_LINK = re.compile(r"\]\(\.\./docs/([^)]+)\)")


def page(notebook: dict[str, Any]) -> str:
    """Returns a notebook as Markdown: text, code, and below it what the code printed and drew."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_DOC_LINK.sub(r"](\1)", source))
        else:
            parts += [_fenced(source, "python"), *map(_output, cell["outputs"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if "image/png" in data:
        return (
            f'<p><img alt="Figure drawn by the cell above" src="data:image/png;base64,{data["image/png"].strip()}"></p>'
        )
    if "text/markdown" in data:
        return data["text/markdown"]
    if "text/html" in data:
        return re.sub(r"\s*\n\s*", "&#10;", data["text/html"])  # a blank line would end the block of HTML
    text = "".join(output.get("text", "")) or data.get("text/plain", "")
    return f'<pre class="output">{html.escape(text.rstrip(), quote=False)}</pre>' if text.strip() else ""


def _fenced(code: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", code)), default=0))
    return f"{fence}{language}\n{code}\n{fence}"


def pages() -> Iterator[tuple[Path, str]]:
    """Yields the path and the content of each page."""
    for path in sorted((_ROOT / "notebooks").glob("[0-9]*.ipynb")):
        yield _ROOT / "docs" / f"notebook_{path.stem}.md", page(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    for path, content in pages():
        path.write_text(content, encoding="utf-8")
