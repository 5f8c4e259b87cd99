"""Lines of metrics over steps: smoothing, seeds combined, gaps kept open."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .logs import RunLog

_MARKERS = 8  # on a line that has any

Floats = NDArray[np.float64]


def group_by_name(runs: RunLog | Sequence[RunLog]) -> dict[str, list[RunLog]]:
    """
    Groups the seeds of each run, in the order of the runs.

    Args:
        runs ([`RunLog`] or `Sequence[RunLog]`): The runs. Runs with the same name are seeds of one run.

    Returns:
        `dict[str, list[RunLog]]`: seeds by name.

    Raises:
        ValueError: If there are no runs.
    """
    runs = [runs] if isinstance(runs, RunLog) else list(runs)
    if not runs:
        raise ValueError("runs is empty; pass at least one RunLog, see `read_run`.")
    return {run.name: [seed for seed in runs if seed.name == run.name] for run in runs}


def smooth(steps: NDArray[np.int64], values: Floats, bandwidth: float) -> Floats:
    """
    Gaussian-weighted mean over neighboring steps. Gaps have no weight and remain gaps.

    Args:
        steps (`np.ndarray` of shape `(N,)`): Steps, ascending.
        values (`np.ndarray` of shape `(N,)`): Values; NaN is a gap.
        bandwidth (`float`): Standard deviation of the weights in steps; 0 returns the values unchanged.

    Returns:
        `np.ndarray` of shape `(N,)`: the smoothed values.
    """
    if bandwidth == 0:
        return values
    smoothed = np.full(len(values), np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    steps, values = steps[finite], values[finite]
    first = np.searchsorted(steps, steps - 3 * bandwidth)
    last = np.searchsorted(steps, steps + 3 * bandwidth, side="right")
    for index, (begin, end) in enumerate(zip(first, last, strict=True)):
        weights = np.exp(-0.5 * ((steps[begin:end] - steps[index]) / bandwidth) ** 2)
        smoothed[finite[index]] = weights @ values[begin:end] / weights.sum()
    return smoothed


def mean_and_range(curves: Sequence[tuple[NDArray[np.int64], Floats]]) -> tuple[NDArray[np.int64], Floats]:
    """
    Mean, minimum and maximum of several curves over their common range of steps.

    Args:
        curves (`Sequence` of `tuple`): Steps and values of each. A curve is linear between its steps; NaN is a gap.

    Returns:
        `tuple`: steps of shape `(N,)`, and mean, minimum and maximum as an array of shape `(3, N)`.
    """
    finite = [np.isfinite(values) for _, values in curves]
    if not all(mask.any() for mask in finite):
        return np.empty(0, dtype=np.int64), np.empty((3, 0))
    start = max(steps[mask][0] for (steps, _), mask in zip(curves, finite, strict=True))
    end = min(steps[mask][-1] for (steps, _), mask in zip(curves, finite, strict=True))
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    table = np.array([_at(grid, steps, values, mask) for (steps, values), mask in zip(curves, finite, strict=True)])
    return grid, np.array([table.mean(axis=0), table.min(axis=0), table.max(axis=0)])


def _at(grid: NDArray[np.int64], steps: NDArray[np.int64], values: Floats, finite: NDArray[np.bool_]) -> Floats:
    result = np.interp(grid, steps[finite], values[finite])
    result[np.isin(grid, steps[~finite])] = np.nan
    return result


def default_bandwidth(runs: Sequence[RunLog]) -> float:
    """1/50 of the longest run, in steps; 0 if that is less than one step."""
    spans = [int(run.steps[-1] - run.steps[0]) for run in runs if len(run.steps)]
    longest = max(spans, default=0)
    return longest / 50 if longest >= 50 else 0.0


def draw(ax: Axes, seeds: Sequence[RunLog], metric: str, bandwidth: float, line: dict[str, Any]) -> bool:
    """
    Draws one metric of one run: a smoothed line and the raw values, or mean and range of several seeds.

    Args:
        ax ([`~matplotlib.axes.Axes`]): Axes to draw on.
        seeds (`Sequence[RunLog]`): Seeds of the run.
        metric (`str`): Name of the metric.
        bandwidth (`float`): Bandwidth of the smoothing, in steps; 0 draws the raw values.
        line (`dict`): Color and style of the line, and the marker for a few of its points.

    Returns:
        `bool`: Whether there was a value to draw.
    """
    raw = [seed.series(metric) for seed in seeds]
    raw = [(steps, values) for steps, values in raw if np.isfinite(values).any()]
    if not raw:
        return False
    curves = [(steps, smooth(steps, values, bandwidth)) for steps, values in raw]
    if len(curves) > 1 or bandwidth:
        for steps, values in curves if len(curves) > 1 else raw:
            ax.plot(steps, values, color=line["color"], alpha=0.3, linewidth=0.6, **_marker(values))
    steps, values = curves[0]
    if len(curves) > 1:
        steps, (values, lowest, highest) = mean_and_range(curves)
        ax.fill_between(steps, lowest, highest, color=line["color"], alpha=0.2, linewidth=0)
    ax.plot(steps, values, linewidth=1.5, solid_capstyle="round", **line | _marker(values, line.get("marker")))
    return True


def _marker(values: Floats, marker: str | None = None) -> dict[str, Any]:
    """A marker at isolated values, and the line's own marker at a few points."""
    finite = np.isfinite(np.concatenate([[np.nan], values, [np.nan]]))
    places = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:])
    if marker:
        places = np.union1d(places, np.arange(0, len(values), max(1, len(values) // _MARKERS)))
    shape = {"marker": marker, "markersize": 3} if marker else {"marker": ".", "markersize": 4}
    return shape | {"markevery": places.tolist()} if len(places) else {}


def label_steps(ax: Axes, runs: Sequence[RunLog]) -> None:
    """Sets up the axis of optimizer steps, the same for all panels of a figure."""
    steps = np.concatenate([run.steps for run in runs])
    if len(steps):
        margin = max(0.02 * (steps.max() - steps.min()), 0.5)
        ax.set_xlim(steps.min() - margin, steps.max() + margin)
    ax.set_xlabel("optimizer step")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))


def notes_on(groups: dict[str, list[RunLog]], metrics: Sequence[str], bandwidth: float) -> list[str]:
    """
    Notes on how the lines were made and on missing values.

    Args:
        groups (`dict[str, list[RunLog]]`): Seeds by run.
        metrics (`Sequence[str]`): Metrics of the figure.
        bandwidth (`float`): Bandwidth of the smoothing, in steps.

    Returns:
        `list[str]`: The notes.
    """
    notes = []
    if bandwidth:
        several = any(len(seeds) > 1 for seeds in groups.values())
        what = "seeds or raw values" if several else "raw values"
        notes.append(f"Lines: Gaussian mean, sigma {bandwidth:.3g} steps. Pale: {what}.")
    for name, seeds in groups.items():
        notes += [note for seed in seeds for note in seed.notes]
        broken = {metric: sum(seed.broken.get(metric, 0) for seed in seeds) for metric in metrics}
        having = {m: sum(bool(np.isfinite(seed.series(m)[1]).any()) for seed in seeds) for m in metrics}
        missing = [metric for metric in metrics if not having[metric] and not broken[metric]]
        if missing and any(len(seed.steps) for seed in seeds):
            all_missing = len(missing) == len(metrics)
            notes.append(f"{name}: no {'metric of this figure' if all_missing else ', '.join(missing)}")
        gaps = ", ".join(f"{count} in {metric}" for metric, count in broken.items() if count)
        if gaps:
            notes.append(f"{name}: non-finite values, shown as gaps: {gaps}")
        notes += _notes_on_seeds(name, [seed for seed in seeds if len(seed.steps)], having)
    return notes


def _notes_on_seeds(name: str, seeds: Sequence[RunLog], having: dict[str, int]) -> list[str]:
    if len(seeds) < 2:
        return []
    partly = ", ".join(f"{metric} in {count}" for metric, count in having.items() if 0 < count < len(seeds))
    note = f"{name}: mean of {len(seeds)} seeds, band from minimum to maximum"
    ends = sorted({int(seed.steps[-1]) for seed in seeds})
    if len(ends) > 1:
        note += f"; they end at steps {', '.join(map(str, ends))}, the mean at the first"
    return [note] + ([f"{name}: of {len(seeds)} seeds, {partly}"] if partly else [])
