"""Figures are legible and reproducible, and cost nothing unless they are drawn."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import print_figure
from matplotlib.colors import to_rgb
from matplotlib.image import imread

import trl_archer.figures as figures
from trl_archer.figures import plot_clip_plane, plot_entropy_spread, plot_frequent_tokens, save
from trl_archer.figures.style import THEMES, add_notes, get_theme, legend, legend_above, new_figure

from ..helpers.records import SETTINGS, make_records


def test_runs_beyond_the_colors_have_other_line_styles() -> None:
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
    assert b"Software" not in png.read_bytes()  # the version of matplotlib
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
def test_files_are_reproducible_whatever_the_user_has_set(tmp_path: Path, vector: str) -> None:
    written = []
    for name, size in (("a", 8.0), ("b", 30.0)):
        with matplotlib.rc_context({"font.size": size, "axes.facecolor": "red", "lines.linewidth": size}):
            for plot in (plot_entropy_spread, plot_frequent_tokens):
                files = save(plot(make_records(), theme="dark"), tmp_path / name / plot.__name__, vector=vector)
                written.append([file.read_bytes() for file in files])
            assert matplotlib.rcParams["font.size"] == size
    assert written[:2] == written[2:]


def test_notes_are_kept_and_the_first_are_shown() -> None:
    colors = THEMES["light"]
    figure, _ = new_figure(colors, 1, 1, height=2)
    add_notes(figure, [f"note {i}" for i in range(8)] + ["note 0"], colors)
    assert figure.notes == [f"note {i}" for i in range(8)]
    assert figure.get_supxlabel() == "\n".join(
        [f"note {i}" for i in range(6)] + ["and 2 more, see `notes` of the figure"]
    )
    assert figure.get_figheight() > 2.5  # the axes keep their size
    height = figure.get_figheight()
    add_notes(figure, ["note 1", "a later note"], colors)
    assert figure.notes[8:] == ["a later note"]
    assert figure.get_figheight() == pytest.approx(height)


def test_labels_are_literal(tmp_path: Path) -> None:
    colors = THEMES["light"]
    figure, axes = new_figure(colors, 1, 1, height=2)
    names = ["_private", "costs $5 and $\\frac", "a_b"]
    box = legend(axes[0, 0], [axes[0, 0].plot([0, 1])[0] for _ in names], names, colors)
    assert [text.get_text() for text in box.get_texts()] == names
    save(figure, tmp_path / "a")  # raises on unbalanced math


def test_legends_fit_the_page() -> None:
    colors = THEMES["light"]
    for labels in (["a", "b"], ["reasoning tokens", "knowledge tokens", "archer"], ["W" * 30] * 5):
        figure, axes = new_figure(colors, 1, 1, height=3)
        handles = [axes[0, 0].plot([0, 1])[0] for _ in labels]
        legend_above(figure, handles, labels, colors)
        figure.draw_without_rendering()
        (box,) = figure.legends
        assert box.get_window_extent().x1 < figure.bbox.x1
        assert len({round(text.get_window_extent().x0) for text in box.get_texts()}) == {2: 2, 3: 3, 5: 2}[len(labels)]


def test_notebooks_show_figures() -> None:
    """Without pyplot by the figure's own method, with pyplot by IPython's printer, for which notebooks set options."""
    figure = plot_clip_plane(SETTINGS)
    assert DisplayFormatter().format(figure)[0]["image/png"].startswith(b"\x89PNG")
    assert print_figure(figure).startswith(b"\x89PNG")


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
        "role = {'epsilon_low': 0.2, 'epsilon_high': 0.5}\n"
        "figure = plot_clip_plane({'knowledge': role, 'reasoning': role})\nfigure._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    assert run_python(code) == "False False\n"


def test_without_matplotlib_all_but_drawing_works() -> None:
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom trl_archer.figures import read_run, write_token_view\n"
        "try:\n    from trl_archer.figures import plot_constraints\nexcept ImportError as error:\n    print(error)"
    )
    assert run_python(code) == "plot_constraints needs matplotlib. Run `pip install 'trl-archer[plots]'`.\n"


@pytest.mark.parametrize("name", figures.__all__)
def test_public_names_exist(name: str) -> None:
    value: Any = getattr(figures, name)
    assert value.__name__ == name
    assert value.__doc__
