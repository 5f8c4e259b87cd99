"""Draws a comparison: avg@K, pass@k over k, and learning curves with the range over training seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..evaluation.comparison import Method
from ..evaluation.estimators import pass_probability
from ..evaluation.records import Estimate, estimate
from ..evaluation.report import read_records
from ..figures.lines import draw
from ..figures.logs import RunLog, read_run
from ..figures.style import (
    NotedFigure,
    add_notes,
    get_theme,
    legend_above,
    new_figure,
    own_style,
    percent,
    title,
)


@own_style
def plot_comparison(
    methods: Sequence[Method], paths: Mapping[str, Sequence[Path]], theme: str = "light"
) -> NotedFigure:
    """
    avg@K and pass@k of each method, and its learning curves where its runs have logged any. One row per benchmark.

    Args:
        methods (`Sequence[Method]`): The methods.
        paths (`Mapping[str, Sequence[Path]]`): The runs of each method, for their learning curves.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.
    """
    colors = get_theme(theme)
    names = [name for name in methods[0].reports[0]["benchmarks"] if all(_has(method, name) for method in methods)]
    logs = {method.name: _logs(method.name, paths[method.name]) for method in methods}
    figure, axes = new_figure(colors, len(names), 3, height=1 + 2.1 * len(names), width_ratios=(1, 1.2, 1.2))
    handles: list[Any] = []
    for name, (means, curve, learning) in zip(names, axes, strict=True):
        title(means, f"{name}: avg@K", colors.ink)
        title(curve, "pass@k", colors.ink)
        title(learning, "avg@K while training", colors.ink)
        curve.set_xlabel("k, samples per problem")
        learning.set_xlabel("optimizer step")
        for index, method in enumerate(methods):
            line = colors.run(index)
            ks, values = _pass_curve(method, name)
            drawn = curve.plot(ks, [x.value for x in values], marker="o", markersize=3, linewidth=1.4, **line)
            if values[0].low is not None:
                lows, highs = ([getattr(x, end) for x in values] for end in ("low", "high"))
                curve.fill_between(ks, lows, highs, color=line["color"], alpha=0.15, linewidth=0)
                avg = values[0]
                error = [[avg.value - lows[0]], [highs[0] - avg.value]]
                means.errorbar(avg.value, index, xerr=error, fmt="o", markersize=4.5, color=line["color"])
            k = method.reports[0]["benchmarks"][name]["settings"]["k"]
            draw(learning, logs[method.name], f"eval_{name}/avg@{k}", 0, line)
            handles += drawn if len(handles) < len(methods) else []
        curve.set_xscale("log", base=2)
        curve.xaxis.set_major_locator(FixedLocator(ks))
        curve.xaxis.set_minor_locator(NullLocator())
        curve.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:.0f}"))
        percent(curve)
        percent(learning)
        percent(means, "x")
        means.set_yticks(range(len(methods)), [method.name for method in methods], parse_math=False)
        means.set_ylim(len(methods) - 0.4, -0.6)
    legend_above(figure, handles, [method.name for method in methods], colors)
    note = "Bars and bands of avg@K and pass@k: 95% over problems, mean over training seeds. Learning curves: mean and "
    add_notes(figure, [f"{note}range over training seeds."], colors)
    return figure


def _has(method: Method, name: str) -> bool:
    return all(name in report["benchmarks"] for report in method.reports)


def _pass_curve(method: Method, name: str) -> tuple[list[int], list[Estimate]]:
    """k = 1, 2, 4, ... and the largest, with pass@k of each, mean over training seeds. pass@1 is avg@K."""
    runs = [read_records(report["benchmarks"][name]) for report in method.reports]
    problems = [records for records in zip(*runs, strict=True) if all(record.scored for record in records)]
    most = min(record.scored for records in problems for record in records)
    ks = sorted({2**power for power in range(most.bit_length())} | {most})
    return ks, [
        estimate([fmean(pass_probability(x.scored, x.correct, k) for x in records) for records in problems]) for k in ks
    ]


def _logs(name: str, paths: Sequence[Path]) -> list[RunLog]:
    """The logs of the runs that have any. A report alone has none."""
    found = []
    for path in paths:
        try:
            found.append(read_run(path, name))
        except (ValueError, ImportError):
            continue
    return found
