"""Old against new token probability, with the clip range of each role."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .finite_tokens import finite_tokens
from .style import NOMINAL, ROLES, NotedFigure, Theme, add_notes, get_theme, legend, new_figure, own_style, title

_MOST_TOKENS = 4000  # unclipped tokens drawn per role
_MOST_CLIPPED = 20_000  # clipped tokens drawn in total

Floats = NDArray[np.float64]


def clip_bounds(settings: Any, role: str) -> tuple[float, float]:
    """
    Lowest and highest ratio within the clip range of a role.

    Args:
        settings (`Mapping` or [`ArcherGRPOConfig`]): Settings of token records, or a configuration.
        role (`str`): `"reasoning"` or `"knowledge"`.

    Returns:
        `tuple[float, float]`: 1 - epsilon_low and 1 + epsilon_high.

    Raises:
        ValueError: If the settings lack the range.

    Example:

    ```python
    >>> clip_bounds({"reasoning": {"epsilon_low": 0.5, "epsilon_high": 0.75, "beta": 0.0}}, "reasoning")
    (0.5, 1.75)

    ```
    """
    constraint = _settings(settings).get(role)
    if constraint is None:
        raise ValueError(f"settings have no {role!r}; pass an ArcherGRPOConfig or the settings of token records.")
    return 1 - constraint["epsilon_low"], 1 + constraint["epsilon_high"]


def _settings(settings: Any) -> Mapping[str, Any]:
    return settings if isinstance(settings, Mapping) else asdict(settings.constraints)


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
    bounds = {role: clip_bounds(settings, role) for role in ROLES}
    delta = _settings(settings).get("delta")
    figure, axes = new_figure(colors, 1, 2, height=4.1, compress=True)
    linear, logarithmic = axes[0]
    tokens: _Tokens | None = None
    left_out: list[str] = []
    if records is not None:
        finite, left_out, _ = finite_tokens(records)
        tokens = _tokens(finite)
    lowest = 1e-3 if tokens is None else tokens.lowest_decade()
    for ax, name, start in ((linear, "Linear", 0.0), (logarithmic, "Logarithmic", lowest)):
        title(ax, name, colors.ink)
        ax.set_aspect("equal")
        ax.grid(False)
        _label_clipping(ax, colors)
        ax.set_xlabel("old token probability, $\\pi_{old}$")
        ax.set_ylabel("new token probability, $\\pi_\\theta$")
        _draw_ranges(ax, bounds, delta, start, colors)
    linear.set(xlim=(0, 1), ylim=(0, 1))
    logarithmic.set(xscale="log", yscale="log", xlim=(lowest, 1.5), ylim=(lowest, 1.5))
    for axis in (logarithmic.xaxis, logarithmic.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_formatter(NullFormatter())

    handles: list[Any] = []
    labels = []
    for role, (low, high) in bounds.items():
        handles.append(Patch(facecolor=colors.role(role), alpha=0.4, linewidth=0))
        labels.append(f"{role}: ratio {low:.3g} to {high:.3g}")
    if delta is not None:
        handles.append(Line2D([], [], color=colors.muted, linestyle=(0, (4, 2)), linewidth=1))
        labels.append(f"dual clip: ratio {delta:.3g}, negative advantage")
    if tokens is not None:
        marks, names = tokens.draw(logarithmic, figure, colors)
        handles, labels = handles + marks, labels + names
    handles.append(Line2D([], [], color=colors.muted, **NOMINAL))
    labels.append("ratio 1")
    legend(figure, handles, labels, colors, loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.5)
    add_notes(figure, left_out, colors)
    return figure


def _label_clipping(ax: Axes, colors: Theme) -> None:
    box = {"facecolor": colors.background, "linewidth": 0, "pad": 1.5}
    for place, sign, horizontal, vertical in ((0.03, ">", "left", "top"), (0.97, "<", "right", "bottom")):
        ax.text(
            *(place, 1 - place, f"clipped\nif advantage {sign} 0"),
            transform=ax.transAxes,
            ha=horizontal,
            va=vertical,
            fontsize=7,
            color=colors.muted,
            bbox=box,
        )


def _draw_ranges(
    ax: Axes, bounds: dict[str, tuple[float, float]], delta: float | None, start: float, colors: Theme
) -> None:
    """Wedges between the bounds, the narrower on top. Their lines end where the new probability reaches 1."""
    old = np.geomspace(start, 1, 400) if start else np.linspace(0, 1, 401)
    for role, (low, high) in sorted(bounds.items(), key=lambda item: item[1][0] - item[1][1]):
        color = colors.role(role)
        ends = low * old, np.minimum(high * old, 1)
        ax.fill_between(old, *ends, color=colors.background, linewidth=0, zorder=1)
        ax.fill_between(old, *ends, color=color, alpha=0.25, linewidth=0, zorder=1)
        for ratio in (low, high):
            end = min(1, 1 / ratio) if ratio else 1
            ax.plot([start, end], [ratio * start, ratio * end], color=color, linewidth=1.1)
    ax.plot([start, 1], [start, 1], color=colors.muted, **NOMINAL)
    if delta is not None:
        end = min(1, 1 / delta)
        ax.plot([start, end], [delta * start, delta * end], color=colors.muted, linewidth=1, linestyle=(0, (4, 2)))


class _Tokens:
    """Probabilities, roles and clipping of the tokens in the loss."""

    def __init__(
        self, old: Floats, new: Floats, reasoning: NDArray[np.bool_], clipped: NDArray[np.bool_], graded: bool
    ):
        self.old, self.new, self.reasoning, self.clipped, self.graded = old, new, reasoning, clipped, graded

    def lowest_decade(self) -> float:
        """A power of ten below 99.9% of the tokens, from 1e-10 to 1e-3."""
        if not len(self.old):
            return 1e-3
        rare = np.quantile(np.minimum(self.old, self.new), 0.001)
        return float(np.clip(10.0 ** np.floor(np.log10(max(rare, 1e-10))), 1e-10, 1e-3))

    def draw(self, ax: Axes, figure: NotedFigure, colors: Theme) -> tuple[list[Any], list[str]]:
        """
        Scatters the tokens and adds notes to the figure. Returns handles and labels for the legend.

        Both roles are drawn together in random order, because the last one drawn would hide the other. Clipped tokens
        are few and matter most, so they are on top.
        """
        self._note(ax.get_xlim()[0], figure)
        generator = np.random.default_rng(0)
        roles = {"reasoning": self.reasoning, "knowledge": ~self.reasoning}
        others = []
        for role, member in roles.items():
            unclipped = np.flatnonzero(member & ~self.clipped)
            others.append(_sample(unclipped, _MOST_TOKENS, generator))
            if len(others[-1]) < len(unclipped):
                drawn = f"{len(others[-1]):,} of {len(unclipped):,}"
                figure.notes.append(f"{drawn} unclipped {role} tokens are drawn, a random sample")
        clipped = _sample(np.flatnonzero(self.clipped), _MOST_CLIPPED, generator)
        dots = {"s": 3.5, "alpha": 0.4, "linewidth": 0}
        diamonds = {"s": 13, "marker": "D", "linewidth": 0.6, "edgecolors": colors.ink}
        for indices, look in ((np.concatenate(others), dots), (clipped, diamonds)):
            shuffled = generator.permutation(indices)
            faces = np.where(self.reasoning[shuffled], colors.reasoning, colors.knowledge)
            ax.scatter(self.old[shuffled], self.new[shuffled], c=faces.tolist(), rasterized=True, zorder=3, **look)

        handles = [Line2D([], [], linestyle="", marker="o", markersize=3, color=colors.role(role)) for role in roles]
        labels = [f"{member.sum():,} {role} tokens" for role, member in roles.items()]
        handles.append(
            Line2D([], [], linestyle="", marker="D", markersize=4, color=colors.background, mec=colors.ink, mew=0.6)
        )
        total = int(self.clipped.sum())
        labels.append(f"{total:,} clipped tokens" + (f", {len(clipped):,} drawn" if len(clipped) < total else ""))
        return handles, labels

    def _note(self, lowest: float, figure: NotedFigure) -> None:
        below = int(((self.old < lowest) | (self.new < lowest)).sum())
        if below:
            figure.notes.append(
                f"{below:,} of {len(self.old):,} tokens have a probability below {lowest:g} and are off the axes"
            )
        if self.graded:
            figure.notes.append(
                "The gate is graded: colors show the larger weight, and clip ranges lie between those of the two roles."
            )


def _sample(indices: NDArray[np.int64], most: int, generator: np.random.Generator) -> NDArray[np.int64]:
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
