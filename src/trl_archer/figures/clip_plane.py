"""The plane of old and new token probability, with the clip range of each role."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .finite_tokens import finite_tokens
from .style import NOMINAL, ROLES, NotedFigure, Theme, add_notes, get_theme, legend, new_figure, own_defaults, title

_FIELDS = {
    "knowledge": ("epsilon", "epsilon_high"),
    "reasoning": ("epsilon_reasoning", "epsilon_reasoning_high"),
}
_MOST_TOKENS = 4000  # drawn per role of those that are not clipped
_MOST_CLIPPED = 20_000  # drawn in all

Floats = NDArray[np.float64]


def clip_bounds(settings: Any, role: str) -> tuple[float, float]:
    """
    Lowest and highest ratio of a role that the clip range leaves alone.

    Args:
        settings (`Mapping` or [`ArcherGRPOConfig`]): Holder of `epsilon`, `epsilon_high` and so on.
        role (`str`): `"reasoning"` or `"knowledge"`.

    Returns:
        `tuple[float, float]`: 1 - epsilon and 1 + epsilon_high; the latter is `None` for as much as the former.

    Raises:
        ValueError: If the settings do not hold the range.

    Example:

    ```python
    >>> clip_bounds({"epsilon_reasoning": 0.5, "epsilon_reasoning_high": 0.75}, "reasoning")
    (0.5, 1.75)

    ```
    """
    low_field, high_field = _FIELDS[role]
    low, high = _setting(settings, low_field), _setting(settings, high_field)
    if low is None:
        raise ValueError(f"settings have no {low_field}; pass an ArcherGRPOConfig or the settings of token records.")
    return 1 - low, 1 + (low if high is None else high)


def _setting(settings: Any, field: str) -> float | None:
    return settings.get(field) if isinstance(settings, Mapping) else getattr(settings, field, None)


@own_defaults()
def plot_clip_plane(settings: Any, records: TokenRecords | None = None, theme: str = "light") -> NotedFigure:
    """
    Where the clip ranges let a token's probability go, on linear and logarithmic axes, and where a run's tokens went.

    Between its two lines a role's tokens have the gradient of the surrogate. Outside they have it only if it leads
    back: the upper line clips tokens of positive advantage, the lower one those of negative advantage.

    Args:
        settings (`Mapping` or [`ArcherGRPOConfig`]): Holder of the clip ranges, such as `records.settings`.
        records ([`TokenRecords`], *optional*): Tokens to draw: the clipped ones, and up to 4,000 others of each role.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` tell what is missing.

    Raises:
        ValueError: If the settings do not hold the clip ranges.
    """
    colours = get_theme(theme)
    bounds = {role: clip_bounds(settings, role) for role in ROLES}
    delta = _setting(settings, "delta")
    figure, axes = new_figure(colours, 1, 2, height=4.1, compress=True)
    linear, logarithmic = axes[0]
    tokens: _Tokens | None = None
    left_out: list[str] = []
    if records is not None:
        finite, left_out, _ = finite_tokens(records)
        tokens = _tokens(finite)
    lowest = 1e-3 if tokens is None else tokens.lowest_decade()
    for ax, name, start in ((linear, "Linear", 0.0), (logarithmic, "Logarithmic", lowest)):
        title(ax, name, colours.ink)
        ax.set_aspect("equal")
        ax.grid(False)
        _say_where_it_clips(ax, colours)
        ax.set_xlabel("old probability of the token, $\\pi_{old}$")
        ax.set_ylabel("new probability of the token, $\\pi_\\theta$")
        _draw_ranges(ax, bounds, delta, start, colours)
    linear.set(xlim=(0, 1), ylim=(0, 1))
    logarithmic.set(xscale="log", yscale="log", xlim=(lowest, 1.5), ylim=(lowest, 1.5))
    for axis in (logarithmic.xaxis, logarithmic.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_formatter(NullFormatter())

    handles: list[Any] = []
    labels = []
    for role, (low, high) in bounds.items():
        handles.append(Patch(facecolor=colours.role(role), alpha=0.4, linewidth=0))
        labels.append(f"{role}: ratio {low:.3g} to {high:.3g}")
    if delta is not None:
        handles.append(Line2D([], [], color=colours.muted, linestyle=(0, (4, 2)), linewidth=1))
        labels.append(f"dual clip: ratio {delta:.3g}, negative advantage")
    if tokens is not None:
        marks, names = tokens.draw(logarithmic, figure, colours)
        handles, labels = handles + marks, labels + names
    handles.append(Line2D([], [], color=colours.muted, **NOMINAL))
    labels.append("ratio 1")
    legend(figure, handles, labels, colours, loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.5)
    add_notes(figure, left_out, colours)
    return figure


def _say_where_it_clips(ax: Axes, colours: Theme) -> None:
    box = {"facecolor": colours.background, "linewidth": 0, "pad": 1.5}
    for place, sign, horizontal, vertical in ((0.03, ">", "left", "top"), (0.97, "<", "right", "bottom")):
        ax.text(
            *(place, 1 - place, f"clipped\nif advantage {sign} 0"),
            transform=ax.transAxes,
            ha=horizontal,
            va=vertical,
            fontsize=7,
            color=colours.muted,
            bbox=box,
        )


def _draw_ranges(
    ax: Axes, bounds: dict[str, tuple[float, float]], delta: float | None, start: float, colours: Theme
) -> None:
    """Wedges between the bounds, the narrower on top; their lines end where the new probability would pass 1."""
    old = np.geomspace(start, 1, 400) if start else np.linspace(0, 1, 401)
    for role, (low, high) in sorted(bounds.items(), key=lambda item: item[1][0] - item[1][1]):
        colour = colours.role(role)
        ends = low * old, np.minimum(high * old, 1)
        ax.fill_between(old, *ends, color=colours.background, linewidth=0, zorder=1)
        ax.fill_between(old, *ends, color=colour, alpha=0.25, linewidth=0, zorder=1)
        for ratio in (low, high):
            end = min(1, 1 / ratio) if ratio else 1
            ax.plot([start, end], [ratio * start, ratio * end], color=colour, linewidth=1.1)
    ax.plot([start, 1], [start, 1], color=colours.muted, **NOMINAL)
    if delta is not None:
        end = min(1, 1 / delta)
        ax.plot([start, end], [delta * start, delta * end], color=colours.muted, linewidth=1, linestyle=(0, (4, 2)))


class _Tokens:
    """Probabilities, roles and fates of the tokens that count."""

    def __init__(
        self, old: Floats, new: Floats, reasoning: NDArray[np.bool_], clipped: NDArray[np.bool_], graded: bool
    ):
        self.old, self.new, self.reasoning, self.clipped, self.graded = old, new, reasoning, clipped, graded

    def lowest_decade(self) -> float:
        """A power of ten below all tokens but the rarest thousandth; three decades at least, ten at most."""
        if not len(self.old):
            return 1e-3
        rare = np.quantile(np.minimum(self.old, self.new), 0.001)
        return float(np.clip(10.0 ** np.floor(np.log10(max(rare, 1e-10))), 1e-10, 1e-3))

    def draw(self, ax: Axes, figure: NotedFigure, colours: Theme) -> tuple[list[Any], list[str]]:
        """
        Scatters the tokens; returns handles and labels for the legend, and leaves notes on the figure.

        The roles are drawn in one go and in random order, or the one drawn last would hide the other; clipped tokens,
        which are few and what the figure is about, lie on top.
        """
        self._note(ax.get_xlim()[0], figure)
        generator = np.random.default_rng(0)
        roles = {"reasoning": self.reasoning, "knowledge": ~self.reasoning}
        moving = []
        for role, member in roles.items():
            unclipped = np.flatnonzero(member & ~self.clipped)
            moving.append(_some(unclipped, _MOST_TOKENS, generator))
            if len(moving[-1]) < len(unclipped):
                drawn = f"{len(moving[-1]):,} of {len(unclipped):,}"
                figure.notes.append(f"{drawn} unclipped {role} tokens are drawn, chosen at random")
        stopped = _some(np.flatnonzero(self.clipped), _MOST_CLIPPED, generator)
        dots = {"s": 3.5, "alpha": 0.4, "linewidth": 0}
        diamonds = {"s": 13, "marker": "D", "linewidth": 0.6, "edgecolors": colours.ink}
        for indices, look in ((np.concatenate(moving), dots), (stopped, diamonds)):
            shuffled = generator.permutation(indices)
            faces = np.where(self.reasoning[shuffled], colours.reasoning, colours.knowledge)
            ax.scatter(self.old[shuffled], self.new[shuffled], c=faces.tolist(), rasterized=True, zorder=3, **look)

        handles = [Line2D([], [], linestyle="", marker="o", markersize=3, color=colours.role(role)) for role in roles]
        labels = [f"{member.sum():,} {role} tokens" for role, member in roles.items()]
        handles.append(
            Line2D([], [], linestyle="", marker="D", markersize=4, color=colours.background, mec=colours.ink, mew=0.6)
        )
        clipped = int(self.clipped.sum())
        labels.append(f"{clipped:,} clipped tokens" + (f", {len(stopped):,} drawn" if len(stopped) < clipped else ""))
        return handles, labels

    def _note(self, lowest: float, figure: NotedFigure) -> None:
        below = int(((self.old < lowest) | (self.new < lowest)).sum())
        if below:
            figure.notes.append(
                f"{below:,} of {len(self.old):,} tokens have a probability below {lowest:g}, off the axes"
            )
        if self.graded:
            figure.notes.append(
                "The gate is graded: tokens are coloured by their larger weight, and their ranges lie between the two."
            )


def _some(indices: NDArray[np.int64], most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return indices if len(indices) <= most else generator.choice(indices, most, replace=False)


def _tokens(records: TokenRecords) -> _Tokens:
    def column(name: str, dtype: Any) -> Any:
        parts = [np.asarray(getattr(r, name), dtype=dtype)[r.mask] for r in records.completions]
        return np.concatenate([np.empty(0, dtype=dtype), *parts])

    gate = column("gate", np.float64)
    return _Tokens(
        old=np.exp(column("old_per_token_logps", np.float64)),
        new=np.exp(column("per_token_logps", np.float64)),
        reasoning=gate > 0.5,
        clipped=column("clipped_low", np.bool_) | column("clipped_high", np.bool_),
        graded=bool(((gate > 0) & (gate < 1)).any()),
    )
