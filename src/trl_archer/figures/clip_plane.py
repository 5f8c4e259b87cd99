"""Old against new token probability, with the clip range of each role."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .style import NOMINAL, ROLES, NotedFigure, Theme, add_notes, get_theme, legend, new_figure, own_style, title
from .token_table import token_table

if TYPE_CHECKING:
    from pandas import DataFrame

_MOST_TOKENS = 4000  # unclipped tokens drawn per role
_MOST_CLIPPED = 20_000  # clipped tokens drawn in total
_DELTA: dict[str, Any] = {"linewidth": 1, "linestyle": (0, (4, 2))}
_LOGPS = ["old_per_token_logps", "per_token_logps"]
_LOWEST = 1e-3  # of the logarithmic axes, unless tokens are lower


@own_style
def plot_clip_plane(settings: Any, records: TokenRecords | None = None, theme: str = "light") -> NotedFigure:
    """
    Clip ranges in the plane of old and new token probability, on linear and logarithmic axes, and the tokens of a run.

    Between the two lines of its role, a token has the gradient of the surrogate. Outside, it has a gradient only toward
    the range: the upper line clips tokens with positive advantage, the lower line those with negative advantage.

    Args:
        settings (`Mapping` or [`ArcherGRPOConfig`]): Settings with the clip ranges, such as `records.settings`.
        records ([`TokenRecords`], *optional*):
            Tokens to draw: up to 20,000 clipped ones and up to 4,000 others of each role.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If the settings lack the clip ranges.
    """
    colors = get_theme(theme)
    settings = settings if isinstance(settings, Mapping) else asdict(settings.constraints)
    bounds, delta = {role: _ratios(settings, role) for role in ROLES}, settings.get("delta")
    figure, axes = new_figure(colors, 1, 2, height=4.1, compress=True)
    tokens, notes, _ = (None, [], "") if records is None else token_table(records)
    archers = {"surrogate": "clip", "clip_range": "roles"}
    for name, value in archers.items():
        if settings.get(name, value) != value:
            notes.append(f"The run has {name}={settings[name]!r}, which clips other tokens than the ranges drawn here.")
    lowest = _LOWEST if tokens is None else _lowest_decade(tokens)
    for ax, name, start in ((axes[0, 0], "Linear", 0.0), (axes[0, 1], "Logarithmic", lowest)):
        title(ax, name, colors.ink)
        ax.set_aspect("equal")
        ax.grid(False)
        _label_clipping(ax, colors)
        ax.set_xlabel("old token probability, $\\pi_{old}$")
        ax.set_ylabel("new token probability, $\\pi_\\theta$")
        _draw_ranges(ax, bounds, delta, start, colors)
    linear, logarithmic = axes[0]
    linear.set(xlim=(0, 1), ylim=(0, 1))
    logarithmic.set(xscale="log", yscale="log", xlim=(lowest, 1.5), ylim=(lowest, 1.5))
    for axis in (logarithmic.xaxis, logarithmic.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_formatter(NullFormatter())

    shown: dict[str, Any] = {
        f"{role}: ratio {low:.3g} to {high:.3g}": Patch(facecolor=colors.role(role), alpha=0.4, linewidth=0)
        for role, (low, high) in bounds.items()
    }
    if delta is not None:
        shown[f"dual clip: ratio {delta:.3g}, negative advantage"] = Line2D([], [], color=colors.muted, **_DELTA)
    if tokens is not None:
        notes += _notes_on(tokens, lowest)
        _draw_tokens(linear, tokens, [], colors)
        shown |= _draw_tokens(logarithmic, tokens, notes, colors)
    shown["ratio 1"] = Line2D([], [], color=colors.muted, **NOMINAL)
    where = {"loc": "outside upper left", "ncols": 3, "columnspacing": 1.2, "handlelength": 1.5}
    legend(figure, list(shown.values()), list(shown), colors, **where)
    add_notes(figure, notes, colors)
    return figure


def _ratios(settings: Mapping[str, Any], role: str) -> tuple[float, float]:
    """Lowest and highest ratio within the clip range of a role."""
    if role not in settings:
        raise ValueError(f"settings have no {role!r}; pass an ArcherGRPOConfig or the settings of token records.")
    return 1 - settings[role]["epsilon_low"], 1 + settings[role]["epsilon_high"]


def _label_clipping(ax: Axes, colors: Theme) -> None:
    box = {"facecolor": colors.background, "linewidth": 0, "pad": 1.5}
    look: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 7, "color": colors.muted, "bbox": box}
    ax.text(0.03, 0.97, "clipped\nif advantage > 0", ha="left", va="top", **look)
    ax.text(0.97, 0.03, "clipped\nif advantage < 0", ha="right", va="bottom", **look)


def _draw_ranges(
    ax: Axes, bounds: dict[str, tuple[float, float]], delta: float | None, start: float, colors: Theme
) -> None:
    """Wedges between the bounds, the narrower on top. Their lines end where the new probability reaches 1."""
    old = np.geomspace(start, 1, 400) if start else np.linspace(0, 1, 401)

    def draw_line(ratio: float, **look: Any) -> None:
        end = min(1, 1 / ratio) if ratio else 1
        ax.plot([start, end], [ratio * start, ratio * end], **look)

    for role, (low, high) in sorted(bounds.items(), key=lambda item: item[1][0] - item[1][1]):
        ends = low * old, np.minimum(high * old, 1)
        ax.fill_between(old, *ends, color=colors.background, linewidth=0, zorder=1)
        ax.fill_between(old, *ends, color=colors.role(role), alpha=0.25, linewidth=0, zorder=1)
        for ratio in (low, high):
            draw_line(ratio, color=colors.role(role), linewidth=1.1)
    draw_line(1, color=colors.muted, **NOMINAL)
    if delta is not None:
        draw_line(delta, color=colors.muted, **_DELTA)


def _lowest_decade(tokens: "DataFrame") -> float:
    """A power of ten below 99.9% of the tokens, from 1e-10 to 1e-3."""
    if tokens.empty:
        return _LOWEST
    rare = np.quantile(np.exp(tokens[_LOGPS].min(axis=1)), 0.001)
    return float(np.clip(10.0 ** np.floor(np.log10(max(rare, 1e-10))), 1e-10, _LOWEST))


def _notes_on(tokens: "DataFrame", lowest: float) -> list[str]:
    notes = []
    below = (np.exp(tokens[_LOGPS]) < lowest).any(axis=1).sum()
    if below:
        notes.append(
            f"{below:,} of {len(tokens):,} tokens have a probability below {lowest:g} and are off the logarithmic axes"
        )
    if tokens.gate.between(0, 1, inclusive="neither").any():
        notes.append(
            "The gate is graded: colors show the larger weight, and clip ranges lie between those of the two roles."
        )
    return notes


def _draw_tokens(ax: Axes, tokens: "DataFrame", notes: list[str], colors: Theme) -> dict[str, Line2D]:
    """
    Scatters the tokens, notes those that are not drawn, and returns legend handles by label.

    Both roles are drawn together in random order, because the last one drawn would hide the other. Clipped tokens
    are few and matter most, so they are on top.
    """
    old, new = np.exp(tokens[_LOGPS].to_numpy().T)
    gate, clipped = tokens.gate.to_numpy(), (tokens.clipped_low | tokens.clipped_high).to_numpy()
    generator = np.random.default_rng(0)
    others = []
    handles = {}
    for role, member in (("reasoning", gate > 0.5), ("knowledge", gate <= 0.5)):
        unclipped = np.flatnonzero(member & ~clipped)
        others.append(_sample(unclipped, _MOST_TOKENS, generator))
        if len(others[-1]) < len(unclipped):
            drawn = f"{len(others[-1]):,} of {len(unclipped):,}"
            notes.append(f"{drawn} unclipped {role} tokens are drawn, a random sample")
        label = f"{member.sum():,} {role} tokens"
        handles[label] = Line2D([], [], linestyle="", marker="o", markersize=3, color=colors.role(role))
    stopped = _sample(np.flatnonzero(clipped), _MOST_CLIPPED, generator)
    dots = {"s": 3.5, "alpha": 0.4, "linewidth": 0}
    diamonds = {"s": 13, "marker": "D", "linewidth": 0.6, "edgecolors": colors.ink}
    for indices, look in ((np.concatenate(others), dots), (stopped, diamonds)):
        shuffled = generator.permutation(indices)
        faces = np.where(gate[shuffled] > 0.5, colors.reasoning, colors.knowledge)
        ax.scatter(old[shuffled], new[shuffled], c=faces.tolist(), rasterized=True, zorder=3, **look)
    label = f"{clipped.sum():,} clipped tokens" + (f", {len(stopped):,} drawn" if len(stopped) < clipped.sum() else "")
    handles[label] = Line2D(
        [], [], linestyle="", marker="D", markersize=4, color=colors.background, mec=colors.ink, mew=0.6
    )
    return handles


def _sample(indices: NDArray[np.int64], most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return indices if len(indices) <= most else generator.choice(indices, most, replace=False)
