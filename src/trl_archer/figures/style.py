"""Shared by all figures: colors, type sizes, legends, notes and reproducible files."""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 7.2  # inches: two columns of a paper, printed without scaling
_FONT_SIZE = 8.0
_NOTE_SIZE = 6.5
_NOTES_SHOWN = 6
_LONGEST_LABEL = 60  # characters of a line
NOMINAL: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1, 2))}  # a reference value, dotted
ROLES = ("reasoning", "knowledge")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)))

# Decorator: Matplotlib's defaults and ours, whatever the user has set; the user's settings come back afterwards
own_style = matplotlib.style.context(
    {"font.size": _FONT_SIZE, "pdf.fonttype": 42, "svg.hashsalt": "trl-archer"}, after_reset=True
)


@dataclass(frozen=True)
class Theme:
    """
    Colors of a figure. A panel colors its lines either by role or by run.

    Computed once for both themes: contrast with the background (WCAG 2) is at least 3.4 for roles and runs and at least
    5.6 for text. The closest pair of roles or of runs is 50 apart in CIELAB, 39 with protanopia or deuteranopia in the
    light theme and 31 in the dark one (Machado et al. 2009, severity 1).
    """

    background: str
    ink: str
    muted: str
    grid: str
    reasoning: str
    knowledge: str
    runs: tuple[str, ...]

    def role(self, role: str) -> str:
        return self.reasoning if role == "reasoning" else self.knowledge

    def role_line(self, role: str) -> dict[str, Any]:
        """Line of a role. Knowledge has square markers, for print without color."""
        return {"color": self.role(role)} | ({"marker": "s"} if role == "knowledge" else {})

    def run(self, index: int) -> dict[str, Any]:
        """Line of a run by its index: the colors first, then the same colors with other line styles."""
        style, color = divmod(index, len(self.runs))
        return {"color": self.runs[color], "linestyle": LINE_STYLES[style % len(LINE_STYLES)]}


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


class NotedFigure(Figure):
    """A figure with notes about its data. A notebook shows it without pyplot."""

    notes: list[str]

    @own_style
    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=130)
        return buffer.getvalue()


def get_theme(theme: str) -> Theme:
    if theme not in THEMES:
        raise ValueError(f"theme={theme!r} is unknown; pass one of {', '.join(THEMES)}.")
    return THEMES[theme]


def new_figure(
    colors: Theme, rows: int, columns: int, height: float, compress: bool = False, **subplots: Any
) -> tuple[NotedFigure, Any]:
    """
    An empty figure as wide as a page, `height` inches high, and its styled axes, an array of shape `(rows, columns)`.
    With `compress`, axes of fixed aspect ratio move together.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0.05, hspace=0.05, compress=compress)
    figure = NotedFigure(figsize=(WIDTH, height), layout=layout, facecolor=colors.background)
    figure.notes = []
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    for ax in axes.flat:
        _style(ax, colors)
    return figure, axes


def _style(ax: Axes, colors: Theme) -> None:
    ax.set(facecolor=colors.background, axisbelow=True)
    ax.grid(True, color=colors.grid, linewidth=0.6)
    ax.tick_params(which="both", color=colors.muted, labelcolor=colors.ink, labelsize=7, width=0.6)
    ax.tick_params(which="major", length=3)
    ax.tick_params(which="minor", length=1.5)
    for side, spine in ax.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=colors.muted, linewidth=0.7)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=colors.ink, fontsize=_FONT_SIZE - 0.5)
        axis.get_offset_text().set(color=colors.muted, fontsize=7)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def title(ax: Axes, text: str, color: str) -> None:
    """Sets the title of a panel, left-aligned."""
    ax.set_title(text, loc="left", fontsize=_FONT_SIZE + 0.5, fontweight="bold", color=color, parse_math=False)


def percent(ax: Axes, axis: str = "y") -> None:
    """Labels the ticks in percent; the data remain fractions."""
    (ax.yaxis if axis == "y" else ax.xaxis).set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g}%"))


def legend(
    owner: Figure | Axes, handles: Sequence[Artist], labels: Sequence[str], colors: Theme, **where: Any
) -> Legend:
    """A legend without a frame. Labels are literal, including a leading underscore and `$`."""
    box = owner.legend(handles, [str(index) for index in range(len(labels))], frameon=False, fontsize=7.5, **where)
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False, color=colors.ink)
    return box


def legend_above(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], colors: Theme) -> None:
    """A legend above the axes with as many columns as fit. The figure grows with each additional line."""
    wrapped = [textwrap.fill(label, _LONGEST_LABEL) for label in labels]
    longest = max(len(line) for label in wrapped for line in label.splitlines())
    columns = min(len(labels), max(1, int(WIDTH * 72 / (48 + 4.3 * longest))))
    rows = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in wrapped)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * 0.16)
    legend(figure, handles, wrapped, colors, loc="outside upper left", ncols=columns)


def nominal_share(entropy_quantile: float) -> str:
    """Label of the line at the share of reasoning tokens that an entropy quantile rho implies."""
    return f"nominal, 1 - rho: {100 * (1 - entropy_quantile):.4g}%"


def empty_panel(ax: Axes, reason: str, colors: Theme) -> None:
    """States in an empty panel why it is empty."""
    ax.text(0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center", color=colors.muted, parse_math=False)
    ax.set(xticks=[], yticks=[])


@own_style
def add_notes(figure: NotedFigure, notes: Sequence[str], colors: Theme) -> None:
    """Adds to `figure.notes` and shows the first few notes below the axes. The figure grows to hold them."""
    figure.notes += [note for note in dict.fromkeys(notes) if note not in figure.notes]
    if not figure.notes:
        return
    shown = figure.notes[:_NOTES_SHOWN]
    if len(figure.notes) > len(shown):
        shown.append(f"and {len(figure.notes) - len(shown)} more, see `notes` of the figure")
    columns = int(WIDTH * 72 / (0.5 * _NOTE_SIZE))
    lines = [line for note in shown for line in textwrap.wrap(note, columns, subsequent_indent="  ")]
    more = len(lines) - len(figure.get_supxlabel().splitlines())
    figure.set_figheight(figure.get_figheight() + more * 1.5 * _NOTE_SIZE / 72)
    figure.supxlabel(
        "\n".join(lines), x=0.01, ha="left", fontsize=_NOTE_SIZE, color=colors.muted, linespacing=1.3, parse_math=False
    )


@own_style
def save(figure: Figure, path: str | Path, vector: str = "svg", dpi: int = 200) -> tuple[Path, Path]:
    """
    Writes a figure as PNG and as vector graphics. The same figure always gives the same bytes.

    Args:
        figure ([`~matplotlib.figure.Figure`]): The figure.
        path (`str` or `Path`): Target; a suffix of `.png`, `.svg` or `.pdf` is replaced. Missing folders are created.
        vector (`str`, *optional*, defaults to `"svg"`): Format of the vector graphics, `"svg"` or `"pdf"`.
        dpi (`int`, *optional*, defaults to `200`): Resolution of the PNG and of scattered points in the vector file.

    Returns:
        `tuple[Path, Path]`: the PNG and the vector file.

    Raises:
        ValueError: If `vector` is another format.
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
