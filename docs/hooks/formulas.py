"""Formulas as MathML, made when the site is built: browsers draw it without scripts, fonts or a network."""

import html
import re
from pathlib import Path
from typing import Any

import matplotlib
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# What pymdownx.arithmatex makes of $...$ and $$...$$
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)

# Braces and sums stretch with a font that has a table for mathematics. Browsers use the system's; for systems without
# one there is matplotlib's, which stylesheets/site.css names last.
_FONT = "assets/fonts/DejaVuSerif.ttf"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the font."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / Path(_FONT).name
    files.append(File.generated(config, _FONT, abs_src_path=str(font)))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Replaces every formula of a page."""
    return _FORMULA.sub(_as_mathml, content)


def _as_mathml(match: re.Match[str]) -> str:
    element, bracket, latex = match.groups()
    display = "block" if bracket == "[" else "inline"
    return f'<{element} class="formula">{convert(html.unescape(latex), display=display)}</{element}>'
