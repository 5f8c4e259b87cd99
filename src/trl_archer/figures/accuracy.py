"""pass@k and avg@K of evaluations, with confidence intervals over problems."""

import textwrap
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from ..evaluation.estimators import pass_at_k
from .style import NotedFigure, add_notes, get_theme, legend_above, new_figure, own_style, percent, title

_LONGEST = 22  # characters of a line at the axis
_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percentiles

Floats = NDArray[np.float64]


class SampleCounts(NamedTuple):
    """
    Result of an evaluation.

    Attributes:
        correct (`Sequence[int]`): Number of correct samples for each problem.
        samples (`int`): Number of samples per problem.
    """

    correct: Sequence[int]
    samples: int


def pass_curve(counts: SampleCounts) -> tuple[list[int], Floats, Floats]:
    """
    Each k (1, 2, 4, ... and the number of samples), pass@k, and the ends of its 95% interval, of shape `(2, len(ks))`.
    pass@1 is avg@K.

    The intervals are a percentile bootstrap over problems with 2,000 resamples and a fixed seed. They measure the
    uncertainty over problems, not over samples.
    """
    n = counts.samples
    ks = sorted({2**power for power in range(n.bit_length())} | {n})
    by_count = {c: [pass_at_k([[1] * c + [0] * (n - c)], k) for k in ks] for c in sorted(set(counts.correct))}
    table = np.array([by_count[c] for c in counts.correct])
    generator = np.random.default_rng(0)
    resamples = [table[generator.integers(len(table), size=len(table))].mean(axis=0) for _ in range(_RESAMPLES)]
    return ks, table.mean(axis=0), np.percentile(resamples, _INTERVAL, axis=0)


@own_style
def plot_accuracy_curves(
    results: Mapping[str, SampleCounts | tuple[Sequence[int], int]], theme: str = "light"
) -> NotedFigure:
    """
    pass@k over k and avg@K of one or more models on the same problems.

    Bands and bars are 95% intervals: a percentile bootstrap over problems with 2,000 resamples and a fixed seed.

    Args:
        results (`Mapping[str, SampleCounts]`): Result of each model, by label.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` explain the intervals.

    Raises:
        ValueError: If there is no result or no problem, a count is not an integer in 0..samples, or a problem could
            not be scored.
    """
    if not results:
        raise ValueError("results is empty; pass at least one label with its SampleCounts.")
    colors = get_theme(theme)
    checked = {label: check_counts(label, SampleCounts(*counts)) for label, counts in results.items()}
    ticks = [f"{textwrap.fill(label, _LONGEST)}\nK = {counts.samples}" for label, counts in checked.items()]
    lines = sum(tick.count("\n") + 1 for tick in ticks)
    figure, axes = new_figure(colors, 1, 2, height=max(3.0, 1 + 0.15 * lines), width_ratios=(1.5, 1))
    curve, means = axes[0]
    title(curve, "pass@k", colors.ink)
    curve.set_xlabel("k, samples per problem")
    curve.set_ylabel("share of problems solved")
    title(means, "avg@K", colors.ink)
    means.set_xlabel("share of correct samples")
    handles = []
    places: set[int] = set()
    for index, counts in enumerate(checked.values()):
        line = colors.run(index)
        ks, values, (low, high) = pass_curve(counts)
        places.update(ks)
        curve.fill_between(ks, low, high, color=line["color"], alpha=0.15, linewidth=0)
        handles += curve.plot(ks, values, marker="o", markersize=3, linewidth=1.4, **line)
        mean, error = values[0], [[values[0] - low[0]], [high[0] - values[0]]]
        means.errorbar(mean, index, xerr=error, fmt="o", markersize=4.5, elinewidth=1.4, color=line["color"])
        above = {"textcoords": "offset points", "ha": "center", "fontsize": 7, "color": colors.ink}
        means.annotate(f"{mean:.1%}", (mean, index), (0, 5), **above)
    _scale(curve, means, sorted(places), ticks)
    legend_above(figure, handles, list(checked), colors)
    add_notes(figure, _notes(checked), colors)
    return figure


def _scale(curve: Axes, means: Axes, ks: list[int], results: list[str]) -> None:
    curve.set_xscale("log", base=2)
    curve.xaxis.set_major_locator(FixedLocator(ks))
    curve.xaxis.set_minor_locator(NullLocator())
    curve.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:.0f}"))
    percent(curve)
    percent(means, "x")
    means.margins(x=0.1)  # room for the annotations
    means.set_ylim(len(results) - 0.4, -0.6)
    means.grid(False, axis="y")
    means.tick_params(axis="y", length=0)
    means.set_yticks(range(len(results)), results, parse_math=False)


def _notes(results: Mapping[str, SampleCounts]) -> list[str]:
    problems = {label: len(counts.correct) for label, counts in results.items()}
    note = "Bands and bars: 95% intervals, bootstrap over problems."
    if len(set(problems.values())) == 1:
        return [f"{note} Problems: {next(iter(problems.values())):,}."]
    counted = ", ".join(f"{label} {count:,}" for label, count in problems.items())
    return [note, f"The results have different numbers of problems and cannot be compared: {counted}."]


def check_counts(label: str, counts: SampleCounts) -> SampleCounts:
    """The counts of a result as integers, from a list or an array. Refuses those that are not counts of samples."""
    correct: list[Any] = list(counts.correct.tolist() if hasattr(counts.correct, "tolist") else counts.correct)
    if not correct:
        raise ValueError(f"{label!r} has no problems; score at least one.")
    if not _is_count(counts.samples) or counts.samples < 1:
        raise ValueError(f"{label!r} has samples={counts.samples!r}; it must be an integer of at least 1.")
    for index, count in enumerate(correct):
        if count is None:
            raise ValueError(
                f"{label!r} has None (not scorable) for problem {index}; drop the problem or score it again. An "
                "unknown outcome does not count as 0."
            )
        if not _is_count(count) or not 0 <= count <= counts.samples:
            raise ValueError(
                f"{label!r} has {count!r} correct samples for problem {index}; it must be an integer in "
                f"0..{counts.samples}."
            )
    return SampleCounts([int(count) for count in correct], int(counts.samples))


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
