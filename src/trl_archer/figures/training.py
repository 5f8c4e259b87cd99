"""Metrics of training over its steps: the paper's training dynamics, and what the constraints do."""

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
    get_theme,
    legend_above,
    new_figure,
    nominal_share,
    nothing,
    own_defaults,
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


@own_defaults()
def plot_training_dynamics(
    runs: RunLog | Sequence[RunLog], smoothing: float | None = None, theme: str = "light"
) -> NotedFigure:
    """
    Reward, response length, repetition and entropy of runs over their steps, the paper's four signs of health.

    Args:
        runs ([`RunLog`] or `Sequence[RunLog]`): Runs; those of one name are seeds of one run, drawn as mean and range.
        smoothing (`float`, *optional*):
            Standard deviation, in steps, of the Gaussian that smooths the lines; 0 draws what was logged. A fiftieth
            of the longest run if `None`.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` tell what is missing.

    Raises:
        ValueError: If there are no runs, or `smoothing` is negative.
    """
    colours, groups = get_theme(theme), group_by_name(runs)
    bandwidth = _bandwidth(smoothing, groups)
    figure, axes = new_figure(colours, 2, 3, height=4.0)
    for ax, panel in zip(axes.flat, _DYNAMICS, strict=True):
        lines = [colours.run(index) for index in range(len(groups))]
        drawn = [
            draw(ax, seeds, panel.metric, bandwidth, line) for seeds, line in zip(groups.values(), lines, strict=True)
        ]
        _frame(ax, panel, groups, any(drawn), colours)
    if len(groups) > 1:
        handles = [Line2D([], [], linewidth=1.5, **line) for line in lines]
        legend_above(figure, handles, list(groups), colours)
    add_notes(figure, notes_on(groups, [panel.metric for panel in _DYNAMICS], bandwidth), colours)
    return figure


@own_defaults()
def plot_constraints(
    runs: RunLog | Sequence[RunLog],
    entropy_quantile: float | None = None,
    smoothing: float | None = None,
    theme: str = "light",
) -> NotedFigure:
    """
    What the constraints do over the steps: clipped tokens and KL by role, threshold, reasoning share, dropped groups.

    Roles are told apart by colour and squares on the lines of knowledge, runs by line style.

    Args:
        runs ([`RunLog`] or `Sequence[RunLog]`): Up to four runs; those of one name are seeds of one run.
        entropy_quantile (`float`, *optional*): The runs' rho, for a line at the nominal reasoning share, 1 - rho.
        smoothing (`float`, *optional*):
            Standard deviation, in steps, of the Gaussian that smooths the lines; 0 draws what was logged. A fiftieth
            of the longest run if `None`.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` tell what is missing.

    Raises:
        ValueError: If there are no runs or more than four, `smoothing` is negative or `entropy_quantile` outside
            (0, 1).
    """
    colours, groups = get_theme(theme), group_by_name(runs)
    bandwidth = _bandwidth(smoothing, groups)
    if len(groups) > len(LINE_STYLES):
        raise ValueError(f"plot_constraints tells up to {len(LINE_STYLES)} runs apart, got {len(groups)}; pass fewer.")
    if entropy_quantile is not None and not 0 < entropy_quantile < 1:
        raise ValueError(f"entropy_quantile={entropy_quantile} is outside (0, 1); pass the value of the runs.")
    figure, axes = new_figure(colours, 2, 3, height=4.0)
    for ax, panel in zip(axes[0], _BY_ROLE, strict=True):
        lines = {panel.metric.format(role=role): colours.role_line(role) for role in ROLES}
        _frame(ax, panel, groups, _draw_runs(ax, groups, lines, bandwidth), colours)
    for ax, panel in zip(axes[1], _OVER_ALL, strict=True):
        if panel.metric == "archer/reasoning_fraction" and entropy_quantile is not None:
            ax.axhline(1 - entropy_quantile, color=colours.muted, **NOMINAL)
        _frame(ax, panel, groups, _draw_runs(ax, groups, {panel.metric: {"color": colours.ink}}, bandwidth), colours)
    notes = _scale_kl(axes[0, 2], groups)
    _legend_of_constraints(figure, list(groups), entropy_quantile, colours)

    metrics = [p.metric.format(role=role) for p in _BY_ROLE for role in ROLES] + [p.metric for p in _OVER_ALL]
    add_notes(figure, notes_on(groups, metrics, bandwidth) + notes, colours)
    return figure


def _bandwidth(smoothing: float | None, groups: dict[str, list[RunLog]]) -> float:
    if smoothing is None:
        return default_bandwidth([seed for seeds in groups.values() for seed in seeds])
    if not smoothing >= 0:
        raise ValueError(f"smoothing={smoothing} must be 0 (none) or a positive number of steps.")
    return smoothing


def _frame(ax: Axes, panel: _Panel, groups: dict[str, list[RunLog]], has_lines: bool, colours: Theme) -> None:
    title(ax, panel.title, colours.ink if panel.role is None else colours.role(panel.role))
    ax.set_ylabel(panel.unit)
    label_steps(ax, [seed for seeds in groups.values() for seed in seeds])
    if not has_lines:
        names = {panel.metric.format(role=role) for role in ROLES}
        logged = any(name in seed.metrics for seeds in groups.values() for seed in seeds for name in names)
        nothing(ax, "no finite value" if logged else "not logged", colours)
        return
    if panel.kind:
        top = 1.1 * ax.dataLim.ymax or 1
        ax.set_ylim(-0.03 * top, top)  # a line at 0 stays clear of the axis
    if panel.kind == "share":
        percent(ax)
    elif panel.kind == "count":
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _draw_runs(ax: Axes, groups: dict[str, list[RunLog]], lines: dict[str, dict[str, Any]], bandwidth: float) -> bool:
    """Draws metrics in their colours, runs in their line styles; tells whether there was anything to draw."""
    drawn = [
        draw(ax, seeds, metric, bandwidth, line | {"linestyle": style})
        for seeds, style in zip(groups.values(), LINE_STYLES, strict=False)
        for metric, line in lines.items()
    ]
    return any(drawn)


def _scale_kl(ax: Axes, groups: dict[str, list[RunLog]]) -> list[str]:
    """KL spans orders of magnitude between the roles; a logarithmic axis has no place for 0, where it starts."""
    values = [seed.series(f"kl/{role}")[1] for seeds in groups.values() for seed in seeds for role in ROLES]
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    if not (finite > 0).any():
        return []
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_minor_locator(NullLocator())
    hidden = int((finite <= 0).sum())
    return [f"KL: {hidden} of {len(finite)} values are 0 or below, off the logarithmic axis"] if hidden else []


def _legend_of_constraints(
    figure: NotedFigure, names: list[str], entropy_quantile: float | None, colours: Theme
) -> None:
    handles = [Line2D([], [], linewidth=1.5, markersize=3, **colours.role_line(role)) for role in ROLES]
    labels = [f"{role} tokens" for role in ROLES]
    if len(names) > 1:
        handles += [
            Line2D([], [], linewidth=1.5, color=colours.ink, linestyle=style)
            for style, _ in zip(LINE_STYLES, names, strict=False)
        ]
        labels += names
    if entropy_quantile is not None:
        handles.append(Line2D([], [], color=colours.muted, **NOMINAL))
        labels.append(nominal_share(entropy_quantile))
    legend_above(figure, handles, labels, colours)
