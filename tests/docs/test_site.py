"""
The check of the built documentation finds what is broken, and pictures follow its switch. `make docs` runs both on the
real one.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_site, pictures = _hook("check_site"), _hook("pictures")

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
        ('<a href="nowhere.html">', "a.html leads to nowhere.html, which does not exist"),
        ('<a href="#nowhere">', "a.html leads to #nowhere, which has no such anchor"),
        ('<a href="b/c%20d.html#here">', "a.html leads to b/c%20d.html#here, which has no such anchor"),
        ('<img src="nowhere.png">', "a.html leads to nowhere.png, which does not exist"),
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


def test_a_picture_becomes_an_image_for_each_scheme() -> None:
    source = '<source media="(prefers-color-scheme: dark)" srcset="d.png">'
    page = f'<p>\n<picture>\n  {source}\n  <img alt="what it shows" src="l.png" width="800">\n</picture>\n</p>'
    images = [f'<img alt="what it shows" src="{path}" width="800">' for path in ("l.png#only-light", "d.png#only-dark")]
    assert pictures.on_page_content(page) == f"<p>\n{''.join(images)}\n</p>"
