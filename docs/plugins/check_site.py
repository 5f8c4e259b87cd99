"""
Checks a built site: links and anchors lead somewhere, nothing loads from elsewhere, and the API reference is complete.

Zensical checks the links of Markdown. This reads the HTML, so it also sees images, raw HTML and the theme. Links to
other sites are not followed.

python docs/plugins/check_site.py site
"""

import ast
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "link": "href"}
_LOADED_BY_STYLES = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//")
_NOT_LOADED = ("canonical", "next", "prev")  # values of `rel` that load nothing


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
        if url and values.get("rel") not in _NOT_LOADED:
            self.loaded.append(url)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


def public_names(source: Path) -> Iterator[str]:
    """Dotted paths of everything in an `__all__` below a source folder, without dunder names."""
    for path in sorted(source.rglob("*.py")):
        module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                yield from (f"{module}.{name}" for name in names if not name.startswith("__"))


def problems(site: Path, source: Path | None = None) -> Iterator[str]:
    """
    Finds what is wrong with a built site.

    Args:
        site (`Path`): Folder of the site.
        source (`Path`, *optional*): Folder of the packages whose public names need an anchor.

    Returns:
        `Iterator[str]`: Problems, one line each.
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
            if not target.is_file() or not target.is_relative_to(site):
                yield f"{name} links to {url}, which does not exist"
            elif target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].names:
                yield f"{name} links to {url}, which has no such anchor"
    for path in sorted(site.rglob("*.css")):
        if _LOADED_BY_STYLES.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads from elsewhere"
    anchors = {name for page in pages.values() for name in page.names}
    for name in public_names(source) if source else ():
        if name not in anchors:
            yield f"{name} is public but on no page of the API reference"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).resolve(), Path(__file__).parents[2] / "src"))
    sys.exit("\n".join(["The site is broken:", *found]) if found else 0)
