"""pass@k and avg@K of evaluations, with the uncertainty over problems."""

import textwrap
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from ..evaluation.estimators import pass_at_k
from .style import NotedFigure, add_notes, get_theme, legend_above, new_figure, own_defaults, percent, title

_LONGEST = 22  # characters of a line at the axis
_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percentiles

Floats = NDArray[np.float64]


class SampleCounts(NamedTuple):
    """
    Outcome of an evaluation.

    Attributes:
        correct (`Sequence[int]`): Correct samples of each problem.
        samples (`int`): Samples drawn of each problem.
    """

    correct: Sequence[int]
    samples: int


def pass_curve(counts: SampleCounts) -> tuple[list[int], Floats, Floats]:
    """
    pass@k at k = 1, 2, 4, ... and at all samples, with a 95 % interval.

    The interval is a percentile bootstrap over problems, 2,000 resamples, always of the same seed: it tells how far
    another set of such problems could lie, not how far another draw of samples could. pass@1 is avg@K.

    Args:
        counts ([`SampleCounts`]): Correct samples by problem.

    Returns:
        `tuple[list[int], np.ndarray, np.ndarray]`: the ks, pass@k of shape `(len(ks),)`, and lower and upper ends of
        shape `(2, len(ks))`.
    """
    n = counts.samples
    ks = sorted({2**power for power in range(n.bit_length()) if 2**power <= n} | {n})
    by_count = {c: [pass_at_k([[1] * c + [0] * (n - c)], k) for k in ks] for c in sorted(set(counts.correct))}
    table = np.array([by_count[c] for c in counts.correct])
    generator = np.random.default_rng(0)
    resamples = [table[generator.integers(len(table), size=len(table))].mean(axis=0) for _ in range(_RESAMPLES)]
    return ks, table.mean(axis=0), np.percentile(resamples, _INTERVAL, axis=0)


@own_defaults()
def plot_accuracy_curves(
    results: Mapping[str, SampleCounts | tuple[Sequence[int], int]], theme: str = "light"
) -> NotedFigure:
    """
    pass@k over k, and avg@K, of one or more models on the same problems.

    Bands and bars are 95 % intervals of a bootstrap over problems, see [`pass_curve`].

    Args:
        results (`Mapping[str, SampleCounts]`): Correct samples by problem and number of samples, by label.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` tell what to mind.

    Raises:
        ValueError: If there is no result, no problem, a count that is not a whole number in 0..samples, or a problem
            that could not be scored.
    """
    if not results:
        raise ValueError("results is empty; pass at least one label with its SampleCounts.")
    colours = get_theme(theme)
    checked = {label: check_counts(label, SampleCounts(*counts)) for label, counts in results.items()}
    ticks = [f"{textwrap.fill(label, _LONGEST)}\nK = {counts.samples}" for label, counts in checked.items()]
    lines = sum(tick.count("\n") + 1 for tick in ticks)
    figure, axes = new_figure(colours, 1, 2, height=max(3.0, 1 + 0.15 * lines), width_ratios=(1.5, 1))
    curve, means = axes[0]
    title(curve, "pass@k", colours.ink)
    curve.set_xlabel("k, samples per problem")
    curve.set_ylabel("share of problems solved")
    title(means, "avg@K", colours.ink)
    means.set_xlabel("share of samples that are right")
    handles = []
    for index, counts in enumerate(checked.values()):
        line = colours.run(index)
        ks, values, (low, high) = pass_curve(counts)
        curve.fill_between(ks, low, high, color=line["color"], alpha=0.15, linewidth=0)
        handles += curve.plot(ks, values, marker="o", markersize=3, linewidth=1.4, **line)
        error = [[values[0] - low[0]], [high[0] - values[0]]]
        means.errorbar(values[0], index, xerr=error, fmt="o", markersize=4.5, elinewidth=1.4, color=line["color"])
        means.annotate(
            f"{values[0]:.1%}",
            (values[0], index),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=colours.ink,
        )
    _scale(curve, means, checked)
    means.set_yticks(range(len(ticks)), ticks, parse_math=False)
    legend_above(figure, handles, list(checked), colours)
    add_notes(figure, _notes(checked), colours)
    return figure


def _scale(curve: Axes, means: Axes, results: Mapping[str, SampleCounts]) -> None:
    ks = sorted({k for counts in results.values() for k in pass_curve(counts)[0]})
    curve.set_xscale("log", base=2)
    curve.xaxis.set_major_locator(FixedLocator(ks))
    curve.xaxis.set_minor_locator(NullLocator())
    curve.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:.0f}"))
    percent(curve)
    percent(means, "x")
    means.margins(x=0.1)  # room for the numbers at the ends
    means.set_ylim(len(results) - 0.4, -0.6)
    means.grid(False, axis="y")
    means.tick_params(axis="y", length=0)


def _notes(results: Mapping[str, SampleCounts]) -> list[str]:
    problems = {label: len(counts.correct) for label, counts in results.items()}
    notes = ["Bands and bars: 95% intervals, bootstrap over problems."]
    if len(set(problems.values())) > 1:
        counted = ", ".join(f"{label} {count:,}" for label, count in problems.items())
        notes.append(f"The results are of different numbers of problems and do not compare: {counted}.")
    else:
        notes[0] += f" Problems: {next(iter(problems.values())):,}."
    return notes


def check_counts(label: str, counts: SampleCounts) -> SampleCounts:
    """
    Counts as whole numbers.

    Args:
        label (`str`): Name of the result.
        counts ([`SampleCounts`]): Its counts, maybe as an array.

    Returns:
        [`SampleCounts`]: the same.

    Raises:
        ValueError: If there is no problem, a count that is not a whole number in 0..samples, or a problem that could
            not be scored.
    """
    correct = list(counts.correct.tolist() if hasattr(counts.correct, "tolist") else counts.correct)
    if not correct:
        raise ValueError(f"{label!r} has no problems; score at least one.")
    if isinstance(counts.samples, bool) or not isinstance(counts.samples, Integral) or counts.samples < 1:
        raise ValueError(f"{label!r} has samples={counts.samples!r}; it must be a whole number of at least 1.")
    for index, count in enumerate(correct):
        if count is None:
            raise ValueError(
                f"{label!r} has None (not scorable) for problem {index}; drop the problem or score it again, an "
                "outcome that is not known does not count as 0."
            )
        if isinstance(count, bool) or not isinstance(count, Integral) or not 0 <= count <= counts.samples:
            raise ValueError(
                f"{label!r} has {count!r} correct samples for problem {index}; it must be a whole number in "
                f"0..{counts.samples}."
            )
    return SampleCounts([int(count) for count in correct], int(counts.samples))
