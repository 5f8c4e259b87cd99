"""
What a built site must hold: every link leads somewhere, anchors included, and no page loads anything from elsewhere.

MkDocs checks the links of Markdown; this looks at what came out, images, raw HTML and themes included. Links to other
sites are not followed.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "link": "href"}
_LOADED_BY_STYLES = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//")
_WITHOUT_EFFECT = ("canonical", "next", "prev")  # `rel` of links that load nothing


class _Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.names.update(name for key in ("id", "name") if (name := values.get(key)))
        url = values.get(_LOADED.get(tag, ""))
        if url and values.get("rel") not in _WITHOUT_EFFECT:
            self.loaded.append(url)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


def problems(site: Path) -> Iterator[str]:
    """
    Looks through a built site.

    Args:
        site (`Path`): Its folder.

    Returns:
        `Iterator[str]`: What is wrong, one line each.
    """
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        name = path.relative_to(site)
        for url in page.loaded:
            if urlsplit(url).netloc:
                yield f"{name} loads {url} from elsewhere"
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{name} leads to {url}, which does not exist"
            elif target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].names:
                yield f"{name} leads to {url}, which has no such anchor"
    for path in sorted(site.rglob("*.css")):
        if _LOADED_BY_STYLES.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads from elsewhere"


def on_post_build(config: Any, **_: Any) -> None:
    """Fails the build, with all that is wrong."""
    from mkdocs.exceptions import PluginError

    found = list(problems(Path(config.site_dir).resolve()))
    if found:
        raise PluginError("\n".join(["The site is broken:", *found]))
