"""Metrics over the training steps: the paper's training dynamics, and the effect of the constraints."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from .lines import default_bandwidth, draw, group_by_name, label_steps, notes_on
from .logs import RunLog
from .style import (
    LINE_STYLES,
    NOMINAL,
    ROLES,
    NotedFigure,
    Theme,
    add_notes,
    empty_panel,
    get_theme,
    legend_above,
    new_figure,
    nominal_share,
    own_style,
    percent,
    title,
)


class _Panel(NamedTuple):
    title: str
    metric: str
    unit: str
    role: str | None = None
    kind: str = ""


_DYNAMICS = (
    _Panel("Reward", "reward", "mean reward"),
    _Panel("Response length", "completions/mean_length", "tokens per completion"),
    _Panel("Repetition", "completions/repetition", "repeated 20-grams", kind="share"),
    _Panel("Entropy, all tokens", "entropy", "nats per token"),
    _Panel("Entropy, reasoning", "entropy/reasoning", "nats per token", "reasoning"),
    _Panel("Entropy, knowledge", "entropy/knowledge", "nats per token", "knowledge"),
)
_BY_ROLE = (
    _Panel("Clipped at the lower end", "clip_ratio/{role}/low_mean", "share of role's tokens", kind="share"),
    _Panel("Clipped at the upper end", "clip_ratio/{role}/high_mean", "share of role's tokens", kind="share"),
    _Panel("KL from the reference", "kl/{role}", "nats per token"),
)
_OVER_ALL = (
    _Panel("Entropy threshold", "archer/entropy_threshold", "nats, mean"),
    _Panel("Reasoning tokens", "archer/reasoning_fraction", "share of all tokens", kind="share"),
    _Panel("Dropped groups", "archer/dropped_groups", "groups per rollout", kind="count"),
)


@own_style
def plot_training_dynamics(
    runs: RunLog | Sequence[RunLog], smoothing: float | None = None, theme: str = "light"
) -> NotedFigure:
    """
    Reward, response length, repetition and entropy of runs over their steps, the paper's training dynamics.

    Args:
        runs ([`RunLog`] or `Sequence[RunLog]`): Runs. Seeds of one run have the same name.
        smoothing (`float`, *optional*):
            Standard deviation, in steps, of the Gaussian that smooths the lines. 0 draws the logged values, `None` uses
            1/50 of the longest run.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If there are no runs, or `smoothing` is negative.
    """
    colors, groups = get_theme(theme), group_by_name(runs)
    bandwidth = _bandwidth(smoothing, groups)
    figure, axes = new_figure(colors, 2, 3, height=4.0)
    for ax, panel in zip(axes.flat, _DYNAMICS, strict=True):
        lines = [colors.run(index) for index in range(len(groups))]
        drawn = [
            draw(ax, seeds, panel.metric, bandwidth, line) for seeds, line in zip(groups.values(), lines, strict=True)
        ]
        _frame(ax, panel, groups, any(drawn), colors)
    if len(groups) > 1:
        handles = [Line2D([], [], linewidth=1.5, **line) for line in lines]
        legend_above(figure, handles, list(groups), colors)
    add_notes(figure, notes_on(groups, [panel.metric for panel in _DYNAMICS], bandwidth), colors)
    return figure


@own_style
def plot_constraints(
    runs: RunLog | Sequence[RunLog],
    entropy_quantile: float | None = None,
    smoothing: float | None = None,
    theme: str = "light",
) -> NotedFigure:
    """
    Clipped tokens and KL by role, entropy threshold, share of reasoning tokens and dropped groups over the steps.

    Color and marker show the role, line style the run.

    Args:
        runs ([`RunLog`] or `Sequence[RunLog]`): Up to four runs. Seeds of one run have the same name.
        entropy_quantile (`float`, *optional*): The runs' rho, for a line at the nominal reasoning share, 1 - rho.
        smoothing (`float`, *optional*):
            Standard deviation, in steps, of the Gaussian that smooths the lines. 0 draws the logged values, `None` uses
            1/50 of the longest run.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If there are no runs or more than four, `smoothing` is negative or `entropy_quantile` outside
            (0, 1).
    """
    colors, groups = get_theme(theme), group_by_name(runs)
    bandwidth = _bandwidth(smoothing, groups)
    if len(groups) > len(LINE_STYLES):
        raise ValueError(f"plot_constraints draws up to {len(LINE_STYLES)} runs, got {len(groups)}; pass fewer.")
    if entropy_quantile is not None and not 0 < entropy_quantile < 1:
        raise ValueError(f"entropy_quantile={entropy_quantile} is outside (0, 1); pass the value of the runs.")
    figure, axes = new_figure(colors, 2, 3, height=4.0)
    for ax, panel in zip(axes[0], _BY_ROLE, strict=True):
        lines = {panel.metric.format(role=role): colors.role_line(role) for role in ROLES}
        _frame(ax, panel, groups, _draw_runs(ax, groups, lines, bandwidth), colors)
    for ax, panel in zip(axes[1], _OVER_ALL, strict=True):
        if panel.metric == "archer/reasoning_fraction" and entropy_quantile is not None:
            ax.axhline(1 - entropy_quantile, color=colors.muted, **NOMINAL)
        _frame(ax, panel, groups, _draw_runs(ax, groups, {panel.metric: {"color": colors.ink}}, bandwidth), colors)
    notes = _scale_kl(axes[0, 2], groups)
    _legend_of_constraints(figure, list(groups), entropy_quantile, colors)

    metrics = [p.metric.format(role=role) for p in _BY_ROLE for role in ROLES] + [p.metric for p in _OVER_ALL]
    add_notes(figure, notes_on(groups, metrics, bandwidth) + notes, colors)
    return figure


def _bandwidth(smoothing: float | None, groups: dict[str, list[RunLog]]) -> float:
    if smoothing is None:
        return default_bandwidth([seed for seeds in groups.values() for seed in seeds])
    if not smoothing >= 0:
        raise ValueError(f"smoothing={smoothing} must be 0 (none) or a positive number of steps.")
    return smoothing


def _frame(ax: Axes, panel: _Panel, groups: dict[str, list[RunLog]], has_lines: bool, colors: Theme) -> None:
    title(ax, panel.title, colors.ink if panel.role is None else colors.role(panel.role))
    ax.set_ylabel(panel.unit)
    label_steps(ax, [seed for seeds in groups.values() for seed in seeds])
    if not has_lines:
        names = {panel.metric.format(role=role) for role in ROLES}
        logged = any(name in seed.metrics for seeds in groups.values() for seed in seeds for name in names)
        empty_panel(ax, "no finite value" if logged else "not logged", colors)
        return
    if panel.kind:
        top = 1.1 * ax.dataLim.ymax or 1
        ax.set_ylim(-0.03 * top, top)  # keeps a line at 0 visible
    if panel.kind == "share":
        percent(ax)
    elif panel.kind == "count":
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _draw_runs(ax: Axes, groups: dict[str, list[RunLog]], lines: dict[str, dict[str, Any]], bandwidth: float) -> bool:
    """Draws each metric in its color and each run in its line style. Returns whether there was a value to draw."""
    drawn = [
        draw(ax, seeds, metric, bandwidth, line | {"linestyle": style})
        for seeds, style in zip(groups.values(), LINE_STYLES, strict=False)
        for metric, line in lines.items()
    ]
    return any(drawn)


def _scale_kl(ax: Axes, groups: dict[str, list[RunLog]]) -> list[str]:
    """The roles' KL differ by orders of magnitude, so the axis is logarithmic. It cannot show 0, the first value."""
    values = [seed.series(f"kl/{role}")[1] for seeds in groups.values() for seed in seeds for role in ROLES]
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    if not (finite > 0).any():
        return []
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_minor_locator(NullLocator())
    hidden = int((finite <= 0).sum())
    return [f"KL: {hidden} of {len(finite)} values are 0 or below and off the logarithmic axis"] if hidden else []


def _legend_of_constraints(
    figure: NotedFigure, names: list[str], entropy_quantile: float | None, colors: Theme
) -> None:
    handles = [Line2D([], [], linewidth=1.5, markersize=3, **colors.role_line(role)) for role in ROLES]
    labels = [f"{role} tokens" for role in ROLES]
    if len(names) > 1:
        handles += [
            Line2D([], [], linewidth=1.5, color=colors.ink, linestyle=style)
            for style, _ in zip(LINE_STYLES, names, strict=False)
        ]
        labels += names
    if entropy_quantile is not None:
        handles.append(Line2D([], [], color=colors.muted, **NOMINAL))
        labels.append(nominal_share(entropy_quantile))
    legend_above(figure, handles, labels, colors)
