"""Metrics over the training steps: the paper's training dynamics, and the effect of the constraints."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from .lines import draw, notes_on
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
    _Panel("Response length", "completions/mean_length", "tokens per completion", kind="length"),
    _Panel("Repetition", "completions/repetition", "repeated 20-grams", kind="share"),
    _Panel("Entropy, all tokens", "entropy", "nats per token"),
    _Panel("Entropy, reasoning", "entropy/reasoning", "nats per token", "reasoning"),
    _Panel("Entropy, knowledge", "entropy/knowledge", "nats per token", "knowledge"),
)
_CONSTRAINTS = (
    _Panel("Clipped at the lower end", "clip_ratio/{role}/low_mean", "share of role's tokens", kind="share"),
    _Panel("Clipped at the upper end", "clip_ratio/{role}/high_mean", "share of role's tokens", kind="share"),
    _Panel("KL from the reference", "kl/{role}", "nats per token"),
    _Panel("Entropy threshold", "archer/entropy_threshold", "nats, mean"),
    _Panel("Reasoning tokens", "archer/reasoning_fraction", "share of all tokens", kind="share"),
    _Panel("Dropped groups", "archer/dropped_groups", "groups per rollout", kind="count"),
)


class _Runs(NamedTuple):
    """Seeds by name, and the standard deviation in steps of the Gaussian that smooths their lines."""

    seeds: dict[str, list[RunLog]]
    bandwidth: float

    @property
    def all(self) -> list[RunLog]:
        return [seed for seeds in self.seeds.values() for seed in seeds]


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
            1/50 of the longest run, or 0 if logs are more than twice as far apart.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If there are no runs, or `smoothing` is negative.
    """
    colors, grouped = get_theme(theme), _group(runs, smoothing)
    looks = [colors.run(index) for index in range(len(grouped.seeds))]
    figure, axes = new_figure(colors, 2, 3, height=4.0)
    for ax, panel in zip(axes.flat, _DYNAMICS, strict=True):
        _draw_panel(ax, panel, grouped, [{panel.metric: look} for look in looks], colors)
    if len(looks) > 1:
        handles = [Line2D([], [], linewidth=1.5, **look) for look in looks]
        legend_above(figure, handles, list(grouped.seeds), colors)
    add_notes(figure, _notes(grouped, [panel.metric for panel in _DYNAMICS]), colors)
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
            1/50 of the longest run, or 0 if logs are more than twice as far apart.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If there are no runs or more than four, `smoothing` is negative or `entropy_quantile` outside
            (0, 1).
    """
    colors, grouped = get_theme(theme), _group(runs, smoothing)
    styles = LINE_STYLES[: len(grouped.seeds)]
    if len(grouped.seeds) > len(styles):
        raise ValueError(f"plot_constraints draws up to {len(styles)} runs, got {len(grouped.seeds)}; pass fewer.")
    if entropy_quantile is not None and not 0 < entropy_quantile < 1:
        raise ValueError(f"entropy_quantile={entropy_quantile} is outside (0, 1); pass the value of the runs.")
    figure, axes = new_figure(colors, 2, 3, height=4.0)
    places = dict(zip((panel.metric for panel in _CONSTRAINTS), axes.flat, strict=True))
    if entropy_quantile is not None:
        places["archer/reasoning_fraction"].axhline(1 - entropy_quantile, color=colors.muted, **NOMINAL)
    metrics: list[str] = []
    for ax, panel in zip(axes.flat, _CONSTRAINTS, strict=True):
        looks = {panel.metric.format(role=role): colors.role_line(role) for role in ROLES}
        if len(looks) == 1:  # not by role
            looks = {panel.metric: {"color": colors.ink}}
        lines = [{metric: look | {"linestyle": style} for metric, look in looks.items()} for style in styles]
        _draw_panel(ax, panel, grouped, lines, colors)
        metrics += looks
    notes = _notes(grouped, metrics) + _scale_kl(places["kl/{role}"], grouped)

    handles = [Line2D([], [], linewidth=1.5, markersize=3, **colors.role_line(role)) for role in ROLES]
    labels = [f"{role} tokens" for role in ROLES]
    if len(styles) > 1:
        handles += [Line2D([], [], linewidth=1.5, color=colors.ink, linestyle=style) for style in styles]
        labels += grouped.seeds
    if entropy_quantile is not None:
        handles.append(Line2D([], [], color=colors.muted, **NOMINAL))
        labels.append(nominal_share(entropy_quantile))
    legend_above(figure, handles, labels, colors)
    add_notes(figure, notes, colors)
    return figure


def _group(runs: RunLog | Sequence[RunLog], smoothing: float | None) -> _Runs:
    runs = [runs] if isinstance(runs, RunLog) else list(runs)
    if not runs:
        raise ValueError("runs is empty; pass at least one RunLog, see `read_run`.")
    if smoothing is None:
        smoothing = _default_smoothing(runs)
    if not smoothing >= 0:
        raise ValueError(f"smoothing={smoothing} must be 0 (none) or a positive number of steps.")
    return _Runs({run.name: [seed for seed in runs if seed.name == run.name] for run in runs}, smoothing)


def _default_smoothing(runs: Sequence[RunLog]) -> float:
    """1/50 of the longest run. 0 for short runs, and for logs so far apart that a step's neighbors have no weight."""
    longest = max(int(run.steps[-1] - run.steps[0]) if len(run.steps) else 0 for run in runs)
    apart = max(float(np.median(np.diff(run.steps))) if len(run.steps) > 1 else 0.0 for run in runs)
    return longest / 50 if longest >= 50 and longest / 50 >= apart / 2 else 0.0


def _draw_panel(ax: Axes, panel: _Panel, runs: _Runs, lines: list[dict[str, dict[str, Any]]], colors: Theme) -> None:
    """Draws metrics, each with its look, for each run."""
    drawn = [
        draw(ax, seeds, metric, runs.bandwidth, look)
        for seeds, looks in zip(runs.seeds.values(), lines, strict=True)
        for metric, look in looks.items()
    ]
    title(ax, panel.title, colors.role(panel.role) if panel.role else colors.ink)
    ax.set_ylabel(panel.unit)
    ax.set_xlabel("optimizer step")
    steps = np.concatenate([seed.steps for seed in runs.all])
    if len(steps):
        margin = max(0.02 * (steps.max() - steps.min()), 0.5)
        ax.set_xlim(steps.min() - margin, steps.max() + margin)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))
    if not any(drawn):
        logged = any(metric in seed.metrics for seed in runs.all for metric in lines[0])
        empty_panel(ax, "no finite value" if logged else "not logged", colors)
        return
    if panel.kind == "length":
        _widen(ax)
    elif panel.kind:
        top = 1.1 * ax.dataLim.ymax or 1
        ax.set_ylim(-0.03 * top, top)  # keeps a line at 0 visible
    if panel.kind == "share":
        percent(ax)
    elif panel.kind == "count":
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _widen(ax: Axes) -> None:
    """Lets the axis span at least a tenth of the largest value, so that small changes look small."""
    low, high = ax.dataLim.ymin, ax.dataLim.ymax
    if high - low < 0.1 * high:
        ax.set_ylim((low + high) / 2 - 0.055 * high, (low + high) / 2 + 0.055 * high)


def _scale_kl(ax: Axes, runs: _Runs) -> list[str]:
    """The roles' KL differ by orders of magnitude, so the axis is logarithmic. It cannot show 0, the first value."""
    values = np.concatenate([seed.series(f"kl/{role}")[1] for seed in runs.all for role in ROLES])
    values = values[np.isfinite(values)]
    if not (values > 0).any():
        return []
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_minor_locator(NullLocator())
    hidden = int((values <= 0).sum())
    return [f"KL: {hidden} of {len(values)} values are 0 or below and off the logarithmic axis"] if hidden else []


def _notes(runs: _Runs, metrics: Sequence[str]) -> list[str]:
    several = [len(seeds) > 1 for seeds in runs.seeds.values()]
    pale = "seeds" if all(several) else "seeds or raw values" if any(several) else "raw values"
    notes = [f"Lines: Gaussian mean, sigma {runs.bandwidth:.3g} steps. Pale: {pale}."] if runs.bandwidth else []
    return notes + [note for name, seeds in runs.seeds.items() for note in notes_on(name, seeds, metrics)]
