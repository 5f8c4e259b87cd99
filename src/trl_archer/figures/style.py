"""What all figures have in common: colours, type sizes, notes, and files that are the same when made again."""

import base64
import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 7.2  # inches, two columns of a paper, so that type is printed at its size
_FONT_SIZE = 8.0
_NOTE_SIZE = 6.5
_NOTES_SHOWN = 6
_LONGEST_LABEL = 60  # characters of a line
NOMINAL: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1, 2))}  # a value to compare with, dotted
ROLES = ("reasoning", "knowledge")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)))


@dataclass(frozen=True)
class Theme:
    """
    Colours of a figure, which stand out from its background. The two roles are told apart with red-green blindness, and
    so are runs; a panel colours its lines by one or the other.
    """

    background: str
    ink: str
    muted: str
    grid: str
    reasoning: str
    knowledge: str
    runs: tuple[str, ...]

    def role(self, role: str) -> str:
        """Colour of `"reasoning"` or `"knowledge"`."""
        return self.reasoning if role == "reasoning" else self.knowledge

    def role_line(self, role: str) -> dict[str, Any]:
        """Line of a role: in its colour and, for print without colours, knowledge with squares on it."""
        return {"color": self.role(role)} | ({"marker": "s"} if role == "knowledge" else {})

    def run(self, index: int) -> dict[str, Any]:
        """Line of a run by its place: colours first, then the same colours in other line styles."""
        colours = len(self.runs)
        return {
            "color": self.runs[index % colours],
            "linestyle": LINE_STYLES[index // colours % len(LINE_STYLES)],
        }


THEMES = {
    "light": Theme(
        background="#ffffff",
        ink="#1c1c20",
        muted="#66666f",
        grid="#e6e6ea",
        reasoning="#d55e00",
        knowledge="#0072b2",
        runs=("#1c1c20", "#169c7b", "#9b5fc0", "#6b3f00"),
    ),
    "dark": Theme(
        background="#14161a",
        ink="#ececf0",
        muted="#a2a2ad",
        grid="#2b2e35",
        reasoning="#ff8a3d",
        knowledge="#5ab4ee",
        runs=("#f4f4f0", "#2fb08a", "#9a70ff", "#f3e27a"),
    ),
}


@contextmanager
def own_defaults() -> Iterator[None]:
    """Matplotlib's defaults instead of what the user has set, which is put back; also a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": _FONT_SIZE, "svg.hashsalt": "trl-archer", "pdf.fonttype": 42})
        yield


class NotedFigure(Figure):
    """A figure that says what it could not draw, and shows itself in a notebook without pyplot."""

    notes: list[str]
    notes_height = 0.0  # inches

    def _ipython_display_(self) -> None:
        # IPython asks for this first; all else gives way to its own printer of figures, once pyplot was used
        shown = {"image/png": base64.b64encode(self._repr_png_()).decode(), "text/plain": repr(self)}
        import_module("IPython.display").display(shown, raw=True)

    @own_defaults()
    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=130)
        return buffer.getvalue()


def get_theme(theme: str) -> Theme:
    """
    Looks up a theme.

    Args:
        theme (`str`): `"light"` or `"dark"`.

    Returns:
        [`Theme`]: its colours.

    Raises:
        ValueError: If there is no such theme.
    """
    if theme not in THEMES:
        raise ValueError(f"theme={theme!r} is unknown; pass one of {', '.join(THEMES)}.")
    return THEMES[theme]


def new_figure(
    colours: Theme, rows: int, columns: int, height: float, compress: bool = False, **subplots: Any
) -> tuple[NotedFigure, Any]:
    """
    An empty figure of a page's width with styled axes.

    Args:
        colours ([`Theme`]): Its colours.
        rows (`int`): Rows of axes.
        columns (`int`): Columns of axes.
        height (`float`): Height in inches.
        compress (`bool`, *optional*, defaults to `False`): Whether axes of fixed shape move together.
        subplots: Passed on to [`~matplotlib.figure.Figure.subplots`].

    Returns:
        `tuple[NotedFigure, np.ndarray]`: the figure, and its axes as an array of shape `(rows, columns)`.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0.05, hspace=0.05, compress=compress)
    figure = NotedFigure(figsize=(WIDTH, height), layout=layout, facecolor=colours.background)
    figure.notes = []
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    for ax in axes.flat:
        _style(ax, colours)
    return figure, axes


def _style(ax: Axes, colours: Theme) -> None:
    ax.set_facecolor(colours.background)
    ax.set_axisbelow(True)
    ax.grid(True, color=colours.grid, linewidth=0.6)
    ax.tick_params(which="both", color=colours.muted, labelcolor=colours.ink, labelsize=7, width=0.6)
    ax.tick_params(which="major", length=3)
    ax.tick_params(which="minor", length=1.5)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.muted)
        spine.set_linewidth(0.7)
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(colours.ink)
        text.set_fontsize(_FONT_SIZE - 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    for text in (ax.xaxis.get_offset_text(), ax.yaxis.get_offset_text()):
        text.set_color(colours.muted)
        text.set_fontsize(7)


def title(ax: Axes, text: str, colour: str) -> None:
    """Names a panel, on its left."""
    ax.set_title(text, loc="left", fontsize=_FONT_SIZE + 0.5, fontweight="bold", color=colour, parse_math=False)


def percent(ax: Axes, axis: str = "y") -> None:
    """Writes shares as percent on the ticks; the data stay shares."""
    (ax.yaxis if axis == "y" else ax.xaxis).set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g}%"))


def legend(
    owner: Figure | Axes, handles: Sequence[Artist], labels: Sequence[str], colours: Theme, **where: Any
) -> Legend:
    """A legend without a frame. Labels are shown as they are, a leading underscore or a `$` in them included."""
    made = owner.legend(handles, [str(index) for index in range(len(labels))], frameon=False, fontsize=7.5, **where)
    for text, label in zip(made.get_texts(), labels, strict=True):
        text.set_text(label)
        text.set_parse_math(False)
        text.set_color(colours.ink)
    return made


def legend_above(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], colours: Theme) -> None:
    """A legend above the axes, in as many columns as fit; the figure grows by its further lines."""
    wrapped = [textwrap.fill(label, _LONGEST_LABEL) for label in labels]
    columns = columns_for([line for label in wrapped for line in label.splitlines()])
    columns = min(columns, len(labels))
    rows = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in wrapped)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * 0.16)
    legend(figure, handles, wrapped, colours, loc="outside upper left", ncols=columns)


def columns_for(labels: Sequence[str]) -> int:
    """How many columns of a legend fit above the axes."""
    longest = max(len(label) for label in labels)
    return min(len(labels), max(1, int(WIDTH * 72 / (48 + 4.3 * longest))))


def nominal_share(entropy_quantile: float) -> str:
    """Label of the line at the share of reasoning tokens that an entropy quantile rho stands for."""
    return f"nominal, 1 - rho: {100 * (1 - entropy_quantile):.4g}%"


def nothing(ax: Axes, text: str, colours: Theme) -> None:
    """Says in the middle of an empty panel why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=colours.muted, parse_math=False)
    ax.set_xticks([])
    ax.set_yticks([])


@own_defaults()
def add_notes(figure: NotedFigure, notes: Sequence[str], colours: Theme) -> None:
    """
    Keeps all notes in `figure.notes` and puts the first few below the axes, in small type, on room of their own. More
    may be added later.
    """
    figure.notes += [note for note in dict.fromkeys(notes) if note not in figure.notes]
    if not figure.notes:
        return
    shown = figure.notes[:_NOTES_SHOWN]
    if len(figure.notes) > len(shown):
        shown.append(f"and {len(figure.notes) - len(shown)} more, see `notes` of the figure")
    columns = int(WIDTH * 72 / (0.5 * _NOTE_SIZE))
    lines = [line for note in shown for line in textwrap.wrap(note, columns, subsequent_indent="  ")]
    height = len(lines) * 1.5 * _NOTE_SIZE / 72
    figure.set_figheight(figure.get_figheight() + height - figure.notes_height)
    figure.notes_height = height
    figure.supxlabel(
        "\n".join(lines), x=0.01, ha="left", fontsize=_NOTE_SIZE, color=colours.muted, linespacing=1.3, parse_math=False
    )


@own_defaults()
def save(figure: Figure, path: str | Path, vector: str = "svg", dpi: int = 200) -> tuple[Path, Path]:
    """
    Writes a figure as PNG and, beside it, as vector graphics. The same figure gives the same bytes every time.

    Args:
        figure ([`~matplotlib.figure.Figure`]): The figure.
        path (`str` or `Path`): Where to; a suffix of `.png`, `.svg` or `.pdf` is replaced. Folders are made.
        vector (`str`, *optional*, defaults to `"svg"`): Kind of the vector graphics, `"svg"` or `"pdf"`.
        dpi (`int`, *optional*, defaults to `200`): Pixels per inch of the PNG, and of scattered points in the other.

    Returns:
        `tuple[Path, Path]`: the PNG and the vector file.

    Raises:
        ValueError: If `vector` is of another kind.
    """
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if vector not in dates:
        raise ValueError(f"vector={vector!r} is unknown; pass 'svg' or 'pdf'.")
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".png", ".svg", ".pdf") else path
    stem.parent.mkdir(parents=True, exist_ok=True)
    raster, drawing = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", vector))
    figure.savefig(raster, dpi=dpi, metadata={"Software": None})
    figure.savefig(drawing, dpi=dpi, metadata=dates[vector])
    return raster, drawing
