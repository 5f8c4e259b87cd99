"""
Pages for the files of the repository that the documentation links to.

Links such as `../src/trl_archer/options.py` lead to the file on GitHub and in a clone. The site gets a page for each
such file or folder, at the version that it was built from, so that its links work offline as well.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]+)?\)")
_FENCE = "~" * 12  # longer than any in a file
_NOT_SHOWN = ("__pycache__", ".ipynb_checkpoints")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for every file outside of `docs/` that a page links to, and for those that these link to."""
    docs = Path(config.docs_dir)
    todo = [path for file in files.documentation_pages() for path in _outside(docs, file.src_uri, file.content_string)]
    while todo:
        path = todo.pop()
        if files.get_file_from_path(_page_of(path)) is None:
            text, linked = _content(docs, path)
            page = File.generated(config, _page_of(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(page)
            todo += linked
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Leads the links of a page to these pages."""
    if page.file.generated_by is not None:  # done when it was made
        return markdown
    return _led_to_pages(Path(config.docs_dir), page.file.src_uri, page.file.src_uri, markdown)


def _page_of(path: str) -> str:
    return f"files/{path}.md"


def _resolve(docs: Path, uri: str, target: str) -> str | None:
    """Path in the repository of what a link leads to, if that exists there outside of `docs/`."""
    root = docs.parent
    path = Path(os.path.normpath(docs / posixpath.dirname(uri) / target))
    inside = path.is_relative_to(root) and path != root and not path.is_relative_to(docs)
    return path.relative_to(root).as_posix() if inside and path.exists() else None


def _outside(docs: Path, uri: str, markdown: str) -> Iterator[str]:
    for match in _LINK.finditer(markdown):
        path = _resolve(docs, uri, match[1])
        if path is not None:
            yield path


def _led_to_pages(docs: Path, uri: str, page: str, markdown: str) -> str:
    """Text written at `uri`, seen from `docs/`, with its links as they are from another page."""
    return _LINK.sub(partial(_link, docs, uri, page), markdown)


def _link(docs: Path, uri: str, page: str, match: re.Match[str]) -> str:
    path = _resolve(docs, uri, match[1])
    here = posixpath.dirname(page)
    if path is not None:
        return f"]({posixpath.relpath(_page_of(path), here)}{match[2] or ''})"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(uri), match[1]))
    return f"]({posixpath.relpath(target, here)}{match[2] or ''})"


def _content(docs: Path, path: str) -> tuple[str, list[str]]:
    """Text of the page of a file or folder, and the files that it leads to."""
    page, source = _page_of(path), docs.parent / path
    head = f"---\nsearch:\n  exclude: true\ntitle: {source.name}\n---\n\n"
    if source.is_dir():
        names = sorted(child.name for child in source.iterdir() if child.name not in _NOT_SHOWN)
        paths = [posixpath.join(path, name) for name in names]
        here = posixpath.dirname(page)
        lines = [f"- [`{name}`]({posixpath.relpath(_page_of(p), here)})" for name, p in zip(names, paths, strict=True)]
        return f"{head}# `{path}/`\n\n" + "\n".join(lines) + "\n", paths
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"{head}# `{path}`\n\n{source.stat().st_size:,} bytes, not text.\n", []
    if source.suffix == ".md":
        uri = posixpath.join("..", path)
        return head + _led_to_pages(docs, uri, page, text), list(_outside(docs, uri, text))
    language = {".py": "python", ".yaml": "yaml", ".json": "json"}.get(source.suffix, "text")
    return f"{head}# `{path}`\n\n{_FENCE}{language}\n{text}\n{_FENCE}\n", []
