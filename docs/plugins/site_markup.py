"""
A Markdown extension for what GitHub shows by itself and a static site does not.

- Formulas become MathML. Browsers draw it without scripts, fonts or a network.
- A `<picture>` follows the system's color scheme. The site has its own switch, so both images are written and the theme
  hides one.
- A link to a notebook leads to its page on the site.
- A link to another file outside `docs/` becomes the path of the file, because the file is not part of the site.
"""

import html
import re
from pathlib import Path
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor
from markdown.treeprocessors import Treeprocessor

_DOCS = Path(__file__).parents[1]
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)"[^>]*>\s*(<img [^>]*>)\s*</picture>')


def as_mathml(match: re.Match[str]) -> str:
    element, bracket, latex = match.groups()
    display = "block" if bracket == "[" else "inline"
    return f'<{element} class="formula">{convert(html.unescape(latex), display=display)}</{element}>'


def as_images(match: re.Match[str]) -> str:
    dark, light = match.groups()
    image = re.sub(r'src="([^"]*)"', r'src="\1#only-light"', light)
    return image + re.sub(r'src="[^"]*"', f'src="{dark}#only-dark"', light)


class _Replacements(Postprocessor):
    def run(self, text: str) -> str:
        return _PICTURE.sub(as_images, _FORMULA.sub(as_mathml, text))


class _RepositoryPaths(Treeprocessor):
    def run(self, root: Element) -> None:
        for link in root.iter("a"):
            path = link.get("href", "").partition("#")[0]
            if path.startswith("../notebooks/") and path.endswith(".ipynb"):
                link.set("href", f"notebook_{Path(path).stem}.html")
            elif path.startswith("../") and (_DOCS / path).exists():
                link.tag = "span"
                link.attrib = {"class": "repository-path", "title": path.removeprefix("../")}


class SiteMarkup(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Python-Markdown's name)
        md.postprocessors.register(_Replacements(md), "site_replacements", 0)
        md.treeprocessors.register(_RepositoryPaths(md), "repository_paths", 1)


def makeExtension(**kwargs: str) -> SiteMarkup:  # noqa: N802
    return SiteMarkup(**kwargs)
