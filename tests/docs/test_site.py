"""The plugins of the documentation. `make docs` runs them on the real site."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def plugin(name: str, *needs: str) -> ModuleType:
    for package in needs:
        pytest.importorskip(package, reason="`make docs` installs it")
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "plugins" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_site = plugin("check_site")

PAGE = (
    '<link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/">'
    '<h2 id="here">Here</h2><a href="#here">up</a><a href="b/c%20d.html#there">over</a><a href="b/">folder</a>'
    '<a href="https://example.org/x">out</a><a href="mailto:a@example.org">mail</a><img src="data:image/png;base64,">'
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b" / "c d.html").write_text('<a id="there" href="../a.html">back</a>')
    (tmp_path / "b" / "index.html").write_text("<p>")
    (tmp_path / "style.css").write_text("a { background: url(x.png) } b { background: url('data:image/svg+xml,') }")
    return tmp_path


def test_a_sound_site_passes(site: Path) -> None:
    assert list(check_site.problems(site)) == []


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ('<a href="nowhere.html">', "a.html links to nowhere.html, which does not exist"),
        ('<a href="#nowhere">', "a.html links to #nowhere, which has no such anchor"),
        ('<a href="b/c%20d.html#here">', "a.html links to b/c%20d.html#here, which has no such anchor"),
        ('<img src="nowhere.png">', "a.html links to nowhere.png, which does not exist"),
        ('<script src="https://example.org/x.js">', "a.html loads https://example.org/x.js from elsewhere"),
        ('<script src="//example.org/x.js">', "a.html loads //example.org/x.js from elsewhere"),
        ('<link rel="preconnect" href="https://example.org">', "a.html loads https://example.org from elsewhere"),
    ],
)
def test_what_is_broken_is_named(site: Path, broken: str, problem: str) -> None:
    (site / "a.html").write_text(PAGE + broken)
    assert list(check_site.problems(site)) == [problem]


@pytest.mark.parametrize(
    "style", ["@import 'x.css';", "a { src: url(//example.org/f) }", "a { src: url('https://e') }"]
)
def test_style_sheets_load_nothing_from_elsewhere(site: Path, style: str) -> None:
    (site / "style.css").write_text(style)
    assert list(check_site.problems(site)) == ["style.css loads from elsewhere"]


def test_links_out_of_the_site_are_broken(site: Path) -> None:
    assert list(check_site.problems(site / "b")) == ["c d.html links to ../a.html, which does not exist"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__all__ = ["first", "__version__"]\n')
    (package / "module.py").write_text('__all__ = ["second"]\n')
    return tmp_path / "src"


def test_public_names_need_an_anchor(site: Path, source: Path) -> None:
    (site / "a.html").write_text(PAGE + '<h2 id="package.first">')
    problem = "package.module.second is public but on no page of the API reference"
    assert list(check_site.problems(site, source)) == [problem]


def test_every_public_module_is_on_a_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.name in nav]
    documented = set(re.findall(r"^::: ([\w.]+)$", "\n".join(page.read_text() for page in pages), re.M))
    modules = {name.rpartition(".")[0] for name in check_site.public_names(ROOT / "src")}
    assert documented >= modules | {"trl_archer.objective"}


def test_every_page_is_in_the_navigation() -> None:
    nav = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    notebooks = {f"notebook_{path.stem}.md" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert nav == {page.name for page in (ROOT / "docs").glob("*.md")} | notebooks


# Markup


def rendered(text: str) -> str:
    markup = plugin("site_markup", "latex2mathml", "pymdownx")
    markdown = pytest.importorskip("markdown")
    extensions = [markup.makeExtension(), "pymdownx.arithmatex", "md_in_html"]
    return markdown.markdown(text, extensions=extensions, extension_configs={"pymdownx.arithmatex": {"generic": True}})


def test_a_picture_becomes_an_image_for_each_scheme() -> None:
    source = '<source media="(prefers-color-scheme: dark)" srcset="d.png">'
    page = f'<picture>\n  {source}\n  <img alt="what it shows" src="l.png" width="800">\n</picture>'
    images = [f'<img alt="what it shows" src="{path}" width="800">' for path in ("l.png#only-light", "d.png#only-dark")]
    assert rendered(page) == f"<p>{''.join(images)}</p>"


def test_a_formula_becomes_mathml() -> None:
    assert re.fullmatch(
        r'<p>Let <span class="formula"><math .*display="inline">.*</math></span>\.</p>', rendered("Let $x$.")
    )
    assert re.fullmatch(r'<div class="formula"><math .*display="block">.*</math></div>', rendered("$$x$$"))


def test_a_link_to_a_file_of_the_repository_becomes_its_path() -> None:
    path = '<span class="repository-path" title="examples/quickstart.py">quickstart.py</span>'
    assert rendered("[quickstart.py](../examples/quickstart.py)") == f"<p>{path}</p>"
    notebook = "../notebooks/01_archer_in_ten_minutes.ipynb"
    assert rendered(f"[x]({notebook})") == '<p><a href="notebook_01_archer_in_ten_minutes.html">x</a></p>'
    assert rendered("[x](../nowhere.py)") == '<p><a href="../nowhere.py">x</a></p>'


def test_notebooks_become_pages() -> None:
    """Text, code and outputs; nothing that ends a block of HTML early."""
    pages = plugin("notebook_pages")
    made = pages.page(
        {
            "cells": [
                {"cell_type": "markdown", "source": ["# A\n", "[x](../docs/faq.md#y)"]},
                {
                    "cell_type": "code",
                    "source": ["print('```')"],
                    "outputs": [
                        {"output_type": "stream", "text": ["1 < 2\n"]},
                        {"data": {"image/png": "AAAA\n", "text/plain": "<Figure>"}},
                        {"data": {"text/html": ["<div>a\n", "\n", "b</div>"]}},
                    ],
                },
            ]
        }
    )
    text, code, printed, picture, framed = made.strip().split("\n\n")
    assert text == "# A\n[x](faq.md#y)"
    assert code == "````python\nprint('```')\n````"
    assert printed == '<pre class="output">1 &lt; 2</pre>'
    assert 'src="data:image/png;base64,AAAA"' in picture
    assert framed == "<div>a&#10;b</div>"
    assert len(list(pages.pages())) == 4


# Docstrings

DOCSTRING = """
Scores [`Thing`] for [`~trl.GRPOTrainer`].

Args:
    > Parameters that control the first

    a (`Tensor` of shape `(B, T)`): The first: see (`b`): below.
    b, c (`int`, *optional*, defaults to `1`):
        The others.

Returns:
    `Tensor` of shape `(B,)`: Scores:
    - of `a`

Example:

```python
>>> score(1)
2

```
"""
CONVERTED = """
Scores [`Thing`][package.Thing] for `GRPOTrainer`.

Args:
    a (Tensor of shape (B, T) ): The first: see (`b`): below.
    b (int):
    c (int):
        The others.

Returns:
    Tensor of shape (B,) : Scores:

    - of `a`

**Example:**

```pycon
>>> score(1)
2
```"""


def test_docstrings_become_google_style() -> None:
    docstrings = plugin("hf_docstrings", "griffe")
    lines = docstrings.converted(DOCSTRING, {"Thing": "package.Thing"}).splitlines()
    assert [line.rstrip() for line in lines] == CONVERTED.splitlines()
