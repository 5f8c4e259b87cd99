"""Lines of metrics over steps: smoothing, seeds combined, gaps kept open."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .logs import RunLog

_MARKERS = 8  # on a line that has any

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]


def smooth(steps: Steps, values: Floats, bandwidth: float) -> Floats:
    """
    Mean over neighboring steps with Gaussian weights of standard deviation `bandwidth`, in steps; 0 changes nothing.
    Gaps (NaN) have no weight and remain gaps.
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


def mean_and_range(curves: Sequence[tuple[Steps, Floats]]) -> tuple[Steps, Floats]:
    """
    Steps of shape `(N,)` at which all curves have values, and their mean, minimum and maximum, of shape `(3, N)`.
    A curve has at least one finite value and is linear between its steps; NaN is a gap.
    """
    finite = [np.isfinite(values) for _, values in curves]
    start = max(steps[mask][0] for (steps, _), mask in zip(curves, finite, strict=True))
    end = min(steps[mask][-1] for (steps, _), mask in zip(curves, finite, strict=True))
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    table = np.empty((len(curves), len(grid)))
    for row, (steps, values), mask in zip(table, curves, finite, strict=True):
        row[:] = np.interp(grid, steps[mask], values[mask])
        row[np.isin(grid, steps[~mask])] = np.nan
    return grid, np.array([table.mean(axis=0), table.min(axis=0), table.max(axis=0)])


def draw(ax: Axes, seeds: Sequence[RunLog], metric: str, bandwidth: float, line: dict[str, Any]) -> bool:
    """
    Draws one metric of one run: a smoothed line and the raw values, or mean and range of several seeds. The look of the
    line may have a marker, for a few of its points. Returns whether there was a value to draw.
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


def notes_on(name: str, seeds: Sequence[RunLog], metrics: Sequence[str]) -> list[str]:
    """Notes on a run: its missing metrics and values, and how its seeds were combined."""
    notes = [note for seed in seeds for note in seed.notes]
    broken = {metric: sum(seed.broken(metric) for seed in seeds) for metric in metrics}
    having = {metric: sum(bool(np.isfinite(seed.series(metric)[1]).any()) for seed in seeds) for metric in metrics}
    begun = [seed for seed in seeds if len(seed.steps)]
    missing = [metric for metric in metrics if not having[metric] and not broken[metric]]
    if missing and begun:
        notes.append(f"{name}: no {'metric of this figure' if len(missing) == len(metrics) else ', '.join(missing)}")
    gaps = ", ".join(f"{count} in {metric}" for metric, count in broken.items() if count)
    if gaps:
        notes.append(f"{name}: non-finite values, shown as gaps: {gaps}")
    if len(begun) > 1:
        note = f"{name}: mean of {len(begun)} seeds, band from minimum to maximum"
        ends = sorted({int(seed.steps[-1]) for seed in begun})
        if len(ends) > 1:
            note += f"; they end at steps {', '.join(map(str, ends))}, the mean at the first"
        notes.append(note)
        partly = ", ".join(f"{metric} in {count}" for metric, count in having.items() if 0 < count < len(begun))
        if partly:
            notes.append(f"{name}: of {len(begun)} seeds, {partly}")
    return notes
