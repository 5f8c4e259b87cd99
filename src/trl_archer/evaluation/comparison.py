"""Compares methods on the same problems: differences with intervals, and what follows from them."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from .estimators import pass_probability
from .records import Estimate, ProblemRecord, estimate, t_quantile
from .report import Report, read_records

_SAMPLING = ("temperature", "top_p", "max_new_tokens", "prompt_template", "verifier")


class Method(NamedTuple):
    """The evaluations of one method, one per training seed."""

    name: str
    reports: Sequence[Report]


class Difference(NamedTuple):
    """
    Second method minus first, on one benchmark.

    Attributes:
        benchmark (`str`): Name of the benchmark.
        names (`tuple[str, str]`): First and second method.
        k (`int`): The largest k of both, for pass@k.
        values (`tuple[Estimate, Estimate]`): avg@K of each method, mean over seeds.
        avg, passed (`Estimate`): Differences of avg@K and pass@k. Their intervals are over problems.
        over_seeds (`tuple[float, float]`, *optional*): 95% interval over training seeds (t, paired); `None` for one.
        seeds (`int`): Training seeds of each method.
        left_out (`int`): Problems without a scored sample in some run.
    """

    benchmark: str
    names: tuple[str, str]
    k: int
    values: tuple[Estimate, Estimate]
    avg: Estimate
    passed: Estimate
    over_seeds: tuple[float, float] | None
    seeds: int
    left_out: int


def compare(first: Method, second: Method) -> list[Difference]:
    """
    Compares two methods, paired by problem and by training seed.

    Args:
        first ([`Method`]): The baseline.
        second ([`Method`]): The method to compare with it, with the same training seeds in the same order.

    Returns:
        `list[Difference]`: One per benchmark that all reports have.

    Raises:
        ValueError: If the reports cannot be compared: other problems, other sampling, other numbers of seeds, or no
            common benchmark.
    """
    if len(first.reports) != len(second.reports):
        raise ValueError(
            f"{first.name} has {len(first.reports)} training seeds and {second.name} {len(second.reports)}. Seeds are "
            "compared in pairs: give both the same ones, in the same order."
        )
    reports = [*first.reports, *second.reports]
    names = [name for name in reports[0]["benchmarks"] if all(name in report["benchmarks"] for report in reports)]
    if not names:
        raise ValueError(f"{first.name} and {second.name} have no benchmark in common. Evaluate both on the same ones.")
    return [_compare(first, second, name) for name in names]


def _compare(first: Method, second: Method, name: str) -> Difference:
    results = [[report["benchmarks"][name] for report in method.reports] for method in (first, second)]
    reference = results[0][0]
    for method, rows in zip((first, second), results, strict=True):
        for row in rows:
            _check_same(name, method.name, reference, row)
    runs = [[{record.id: record for record in read_records(row)} for row in rows] for rows in results]
    every = [run for rows in runs for run in rows]
    ids = [id for id in every[0] if all(id in run and run[id].scored for run in every)]
    if not ids:
        raise ValueError(f"{name}: no problem has a scored sample in every run of {first.name} and {second.name}.")
    k = min(run[id].scored for run in every for id in ids)
    ours = [[[_accuracy(run[id]) for id in ids] for run in rows] for rows in runs]  # method, seed, problem
    means = [[fmean(column) for column in zip(*seeds, strict=True)] for seeds in ours]
    solved = [
        [fmean(pass_probability(run[id].scored, run[id].correct, k) for run in rows) for id in ids] for rows in runs
    ]
    by_seed = [fmean(b) - fmean(a) for a, b in zip(*ours, strict=True)]
    return Difference(
        benchmark=name,
        names=(first.name, second.name),
        k=k,
        values=(estimate(means[0]), estimate(means[1])),
        avg=estimate([b - a for a, b in zip(*means, strict=True)]),
        passed=estimate([b - a for a, b in zip(*solved, strict=True)]),
        over_seeds=t_interval(by_seed),
        seeds=len(by_seed),
        left_out=len(every[0]) - len(ids),
    )


def _accuracy(record: ProblemRecord) -> float:
    return record.correct / record.scored


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% t interval of a mean; `None` for one value."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    margin = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - margin, mean + margin


def _check_same(name: str, method: str, reference: dict[str, Any], result: dict[str, Any]) -> None:
    if result["data"] != reference["data"]:
        raise ValueError(
            f"{name}: {method} was evaluated on other problems ({result['data']['problems']}, fingerprint "
            f"{result['data']['fingerprint']}) than the first run ({reference['data']['problems']}, "
            f"{reference['data']['fingerprint']}). Evaluate all runs on the same data."
        )
    for key in _SAMPLING:
        if result["settings"][key] != reference["settings"][key]:
            raise ValueError(
                f"{name}: {method} was evaluated with {key}={result['settings'][key]!r}, the first run with "
                f"{reference['settings'][key]!r}. Evaluate all runs with the same settings."
            )


def conclude(difference: Difference) -> str:
    """One plain sentence or two on what can and cannot be concluded from a difference of avg@K."""
    first, second = difference.names
    avg, seeds = difference.avg, difference.over_seeds
    head = f"{difference.benchmark}: {second} minus {first} is {_points(avg.value)} points of avg@K"
    if avg.low is None or avg.high is None:
        return f"{head}. One problem allows no conclusion."
    problems, runs = _excludes_zero((avg.low, avg.high)), seeds is not None and _excludes_zero(seeds)
    if seeds is None:
        verdict = (
            "These two checkpoints differ on problems like these" if problems else "These two checkpoints may be equal"
        )
        return f"{head}. {verdict}. With one training seed, nothing can be concluded about the methods."
    if problems and runs:
        better = second if avg.value > 0 else first
        return f"{head}. {better} is better, on problems like these and over training seeds."
    if problems:
        return (
            f"{head}. These checkpoints differ, but {difference.seeds} training seeds vary too much to attribute it to "
            "the method. Train more seeds."
        )
    if runs:
        return (
            f"{head}. It recurs in all training seeds on these {avg.problems} problems, which are too few to conclude "
            "that it holds for others."
        )
    largest = max(abs(end) for end in (avg.low, avg.high, *seeds))
    return f"{head}. No difference is shown; one of up to {100 * largest:.1f} points is not excluded."


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def render_comparison(differences: Sequence[Difference]) -> str:
    """The differences as a table in Markdown, followed by what can be concluded."""
    rows = [
        "| benchmark | methods | problems | seeds | avg@K (%) | difference | 95% over problems | 95% over seeds "
        "| pass@k difference | 95% over problems |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for x in differences:
        first, second = x.values
        cells = (
            *(x.benchmark, f"{x.names[0]} to {x.names[1]}", f"{x.avg.problems:,}", str(x.seeds)),
            *(f"{100 * first.value:.1f} to {100 * second.value:.1f}", _points(x.avg.value)),
            *(_interval((x.avg.low, x.avg.high)), _interval(x.over_seeds)),
            *(f"{_points(x.passed.value)} (k = {x.k})", _interval((x.passed.low, x.passed.high))),
        )
        rows.append(f"| {' | '.join(cells)} |")
    notes = [conclude(x) for x in differences]
    notes += [
        f"{x.benchmark}: {x.left_out:,} problems have no scored sample in some run and are left out."
        for x in differences
        if x.left_out
    ]
    if len(differences) > 1:
        notes.append(
            f"Of {len(differences)} intervals, one in 20 excludes 0 by chance. Decide beforehand which one counts."
        )
    return "\n".join(rows) + "\n\n" + "\n\n".join(notes) + "\n"


def _interval(ends: tuple[float | None, float | None] | None) -> str:
    if ends is None or ends[0] is None or ends[1] is None:
        return ""
    return f"{_points(ends[0])} to {_points(ends[1])}"
