"""Figures are legible, made again the same, and cost nothing to those who do not draw."""

import base64
import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

import trl_archer.figures as figures
from trl_archer.figures import plot_clip_plane, plot_entropy_spread, plot_frequent_tokens, save
from trl_archer.figures.style import THEMES, add_notes, columns_for, get_theme, legend, new_figure

from ..records.test_parquet import SETTINGS, make_records

# From linear RGB, the colours that people without one kind of cone see (Machado et al. 2009, severity 1)
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(left: str, right: str) -> float:
    """Contrast ratio of WCAG 2."""
    dark, bright = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (left, right))
    return (bright + 0.05) / (dark + 0.05)


def lab(colour: str, vision: str) -> np.ndarray:
    relative = TO_XYZ @ np.clip(VISION[vision] @ linear(colour), 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
def test_colours_stand_out_from_the_background(theme: str) -> None:
    colours = THEMES[theme]
    for colour in (colours.reasoning, colours.knowledge, *colours.runs):
        assert contrast(colour, colours.background) >= 3  # WCAG 2 for graphics
    for colour in (colours.ink, colours.muted):
        assert contrast(colour, colours.background) >= 4.5  # for text


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES)
def test_colours_are_told_apart(theme: str, vision: str) -> None:
    colours = THEMES[theme]
    for group in ((colours.reasoning, colours.knowledge), colours.runs):
        for left, right in itertools.combinations(group, 2):
            assert np.linalg.norm(lab(left, vision) - lab(right, vision)) >= 25


def test_runs_beyond_the_colours_have_other_lines() -> None:
    lines = [THEMES["light"].run(index) for index in range(16)]
    assert len({(line["color"], line["linestyle"]) for line in lines}) == 16


def test_unknown_theme() -> None:
    with pytest.raises(ValueError, match="theme='sepia' is unknown; pass one of light, dark"):
        get_theme("sepia")


@pytest.mark.parametrize("theme", THEMES)
def test_saved_files_show_something_on_the_background(tmp_path: Path, theme: str) -> None:
    png, svg = save(plot_clip_plane(SETTINGS, make_records(), theme=theme), tmp_path / "new" / "plane.png")
    assert (png, svg) == (tmp_path / "new" / "plane.png", tmp_path / "new" / "plane.svg")
    pixels = imread(png)[:, :, :3]
    background = np.array(to_rgb(THEMES[theme].background))
    np.testing.assert_allclose(pixels[0, 0], background, atol=1e-6)
    differing = (np.abs(pixels - background) > 0.02).any(axis=2).mean()
    assert 0.05 < differing < 0.9
    assert b"Software" not in png.read_bytes()  # nor the version of matplotlib
    assert THEMES[theme].reasoning in svg.read_text()
    assert THEMES[theme].knowledge in svg.read_text()


def test_kinds_of_vector_graphics(tmp_path: Path) -> None:
    figure = plot_clip_plane(SETTINGS)
    png, pdf = save(figure, tmp_path / "v1.0", vector="pdf")
    assert (png.name, pdf.name) == ("v1.0.png", "v1.0.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    with pytest.raises(ValueError, match="vector='eps' is unknown; pass 'svg' or 'pdf'"):
        save(figure, tmp_path / "a", vector="eps")


@pytest.mark.parametrize("vector", ["svg", "pdf"])
def test_files_are_the_same_when_made_again(tmp_path: Path, vector: str) -> None:
    written = []
    for name, size in (("a", 8.0), ("b", 30.0)):
        with matplotlib.rc_context({"font.size": size, "axes.facecolor": "red", "lines.linewidth": size}):
            for plot in (plot_entropy_spread, plot_frequent_tokens):
                files = save(plot(make_records(), theme="dark"), tmp_path / name / plot.__name__, vector=vector)
                written.append([file.read_bytes() for file in files])
            assert matplotlib.rcParams["font.size"] == size
    assert written[:2] == written[2:]


def test_notes_are_kept_and_the_first_are_shown() -> None:
    colours = THEMES["light"]
    figure, _ = new_figure(colours, 1, 1, height=2)
    add_notes(figure, [f"note {i}" for i in range(8)] + ["note 0"], colours)
    assert figure.notes == [f"note {i}" for i in range(8)]
    assert figure.get_supxlabel() == "\n".join(
        [f"note {i}" for i in range(6)] + ["and 2 more, see `notes` of the figure"]
    )
    assert figure.get_figheight() > 2.5  # the axes keep their room
    height = figure.get_figheight()
    add_notes(figure, ["note 1", "a later note"], colours)
    assert figure.notes[8:] == ["a later note"]
    assert figure.get_figheight() == pytest.approx(height)


def test_labels_are_shown_as_they_are(tmp_path: Path) -> None:
    colours = THEMES["light"]
    figure, axes = new_figure(colours, 1, 1, height=2)
    names = ["_private", "costs $5 and $\\frac", "a_b"]
    made = legend(axes[0, 0], [axes[0, 0].plot([0, 1])[0] for _ in names], names, colours)
    assert [text.get_text() for text in made.get_texts()] == names
    save(figure, tmp_path / "a")  # unbalanced mathematics would raise here


def test_legends_fit_the_page() -> None:
    colours = THEMES["light"]
    for labels in (["a", "b"], ["reasoning tokens", "knowledge tokens", "archer"], ["W" * 30] * 5):
        figure, axes = new_figure(colours, 1, 1, height=3)
        handles = [axes[0, 0].plot([0, 1])[0] for _ in labels]
        made = legend(figure, handles, labels, colours, loc="outside upper left", ncols=columns_for(labels))
        figure.draw_without_rendering()
        extent = made.get_window_extent()
        assert extent.x1 < figure.bbox.x1
        assert columns_for(labels) == {2: 2, 3: 3, 5: 2}[len(labels)]


def test_figures_show_themselves_in_notebooks() -> None:
    assert plot_clip_plane(SETTINGS)._repr_png_().startswith(b"\x89PNG")


def test_notebooks_show_the_same_after_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once pyplot was used, IPython has a printer of its own for all of matplotlib's figures."""
    formatter = DisplayFormatter()
    formatter.ipython_display_formatter.enabled = True  # as in a kernel
    formatter.formatters["image/png"].for_type(Figure, lambda figure: b"not ours")
    assert formatter.format(Figure())[0]["image/png"] == b"not ours"
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    figure = plot_clip_plane(SETTINGS)
    png = figure._repr_png_()
    assert formatter.format(figure) == ({}, {})
    (bundle,) = shown
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as ours, Image.open(io.BytesIO(png)) as same:
        assert ours.size == same.size
    assert bundle["text/plain"].startswith("<NotedFigure size")


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_imports_stay_light() -> None:
    code = (
        "import sys, trl_archer, trl_archer.figures, trl_archer.records.parquet, trl_archer.figures.logs\n"
        "print([m for m in ('matplotlib', 'torch', 'transformers', 'trl', 'pandas') if m in sys.modules])"
    )
    assert run_python(code) == "[]\n"


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys\nfrom trl_archer.figures import plot_clip_plane\n"
        "figure = plot_clip_plane({'epsilon': 0.2, 'epsilon_reasoning': 0.5})\nfigure._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    assert run_python(code) == "False False\n"


def test_without_matplotlib_all_but_drawing_works() -> None:
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom trl_archer.figures import read_run, write_token_view\n"
        "try:\n    from trl_archer.figures import plot_constraints\nexcept ImportError as error:\n    print(error)"
    )
    assert run_python(code) == "plot_constraints needs matplotlib; `pip install trl-archer[plots]` to draw.\n"


@pytest.mark.parametrize("name", figures.__all__)
def test_public_names_exist(name: str) -> None:
    value: Any = getattr(figures, name)
    assert value.__name__ == name
    assert value.__doc__
