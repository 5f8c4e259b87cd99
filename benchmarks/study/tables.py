"""Tables of docs/evidence.md, from results/study.json."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trl_archer.evaluation.comparison import t_interval

from ..environment import load
from ..markdown import source, table
from .plan import COUNTDOWN_ONLY, SEEDS
from .tasks import TASKS, K

FALL = 0.05  # of an accuracy from its highest value in a run: loss of coverage, or collapse
PARTS = ("comparison", "variants", "archer-batch")  # whose methods are compared with GRPO

Row = dict[str, Any]
Runs = dict[str, dict[int, Row]]  # method, seed


def runs_of(task: str, *parts: str) -> Runs:
    """The finished runs of some parts of a task."""
    found: Runs = {}
    for row in load("study")["runs"]:
        if row["task"] == task and row["part"] in parts:
            found.setdefault(row["method"], {})[row["seed"]] = row
    return found


def last(row: Row, name: str) -> float | None:
    """A measure at the end of a run."""
    return row["curves"][name][-1] if name in row["curves"] else None


def best(row: Row, name: str) -> float:
    """A measure at the evaluation with the highest validation accuracy, the first of equals."""
    validation = row["curves"]["validation avg"]
    return row["curves"][name][validation.index(max(validation))]


def has_fallen(row: Row, name: str) -> bool:
    """Whether an accuracy ends clearly below its highest value in the run."""
    return max(row["curves"][name]) - row["curves"][name][-1] >= FALL


def difference(runs: Runs, method: str, measure: Callable[[Row], float | None], baseline: str = "grpo") -> str:
    """The difference of a method to the baseline, paired by seed, in points with its 95% interval."""
    seeds = sorted(runs[method].keys() & runs.get(baseline, {}).keys())
    pairs = [(measure(runs[method][seed]), measure(runs[baseline][seed])) for seed in seeds]
    values = [100 * (one - other) for one, other in pairs if one is not None and other is not None]
    if method == baseline or not values:
        return ""
    ends = t_interval(values)
    return f"{statistics.fmean(values):+.1f}" + (f", {ends[0]:+.1f} to {ends[1]:+.1f}" if ends else "")


def _mean(runs: Mapping[int, Row], measure: Callable[[Row], float | None], scale: float = 1.0) -> str:
    values = [value for row in runs.values() if (value := measure(row)) is not None]
    return f"{scale * statistics.fmean(values):.{1 if scale == 100 else 2}f}" if values else ""


def _share(runs: Mapping[int, Row], name: str) -> str:
    return f"{sum(has_fallen(row, name) for row in runs.values())} of {len(runs)}"


def accuracy(task: str) -> str:
    """Accuracy of every method: last and best, differences to GRPO, and falls."""
    runs = runs_of(task, *PARTS)
    start = runs_of(task, "warm-start")["warm-start"]
    rows = [["warm start", "", _mean(start, lambda row: last(row, "avg"), 100), "", ""]]
    rows[0] += [_mean(start, lambda row: last(row, f"pass@{K}"), 100), "", "", ""]
    for method, own in runs.items():
        rows.append(
            [
                f"`{method}`",
                str(len(own)),
                _mean(own, lambda row: last(row, "avg"), 100),
                difference(runs, method, lambda row: last(row, "avg")),
                _mean(own, lambda row: best(row, "avg"), 100),
                _mean(own, lambda row: last(row, f"pass@{K}"), 100),
                difference(runs, method, lambda row: last(row, f"pass@{K}")),
                _share(own, "avg"),
                _share(own, f"pass@{K}"),
            ]
        )
    heads = ["method", "seeds", f"avg@{K}, last (%)", "difference to `grpo`", "best (%)", f"pass@{K}, last (%)"]
    return table([*heads, "difference to `grpo`", "collapsed", "lost coverage"], rows)


def dynamics(task: str) -> str:
    """What the methods do to entropy, KL and clipping, as means over the last ninth of the runs."""
    columns = {
        "entropy": ("entropy", 1.0),
        "reasoning": ("entropy/reasoning", 1.0),
        "KL, reasoning": ("kl/reasoning", 1.0),
        "KL, knowledge": ("kl/knowledge", 1.0),
        "clipped (%)": ("clip_ratio/region_mean", 100.0),
        "clipped, reasoning (%)": ("clip_ratio/reasoning", 100.0),
        "clipped, knowledge (%)": ("clip_ratio/knowledge", 100.0),
        "repetition (%)": ("completions/repetition", 100.0),
        "tokens": ("completions/mean_length", 1.0),
    }
    rows = []
    for method, own in runs_of(task, *PARTS).items():
        rows.append([f"`{method}`", *(_mean(own, _logged(name), scale) for name, scale in columns.values())])
    return table(["method", *columns], rows)


def _logged(name: str) -> Callable[[Row], float | None]:
    """A logged measure at the end; a clip share is the sum of both ends of the range."""

    def measure(row: Row) -> float | None:
        if name in row["curves"] or not name.startswith("clip_ratio"):
            return last(row, name)
        ends = [last(row, f"{name}/{end}_mean") for end in ("low", "high")]
        return sum(end for end in ends if end is not None) if any(end is not None for end in ends) else None

    return measure


def facts() -> str:
    """Which facts survive, and whether the skill reaches goods that RL does not use."""
    runs = runs_of("shop", *PARTS)
    start = runs_of("shop", "warm-start")["warm-start"]
    names = {"prices of used goods (%)": "facts-used", "prices of unused goods (%)": "facts-unused"}
    names["problems with unused goods (%)"] = "unused"
    rows = []
    for method, own in {"warm start": start, **runs}.items():
        label = method if method == "warm start" else f"`{method}`"
        cells = [_mean(own, lambda row, name=name: last(row, name), 100) for name in names.values()]
        gained = "" if method == "warm start" else difference(runs, method, lambda row: last(row, "facts-unused"))
        rows.append([label, *cells[:2], gained, cells[2]])
    heads = list(names)
    return table(["method", *heads[:2], "difference to `grpo`", heads[2]], rows)


def calibration() -> str:
    """The candidates of learning rate and KL weight, with their validation accuracy; the chosen ones in bold."""
    rows = []
    for task, choices in load("study")["chosen"].items():
        for part in ("learning-rate", "kl"):
            runs = runs_of(task, part)
            for method in dict.fromkeys(name.split()[0] for name in runs):
                scores = {
                    name.split()[1]: 100 * statistics.fmean(last(row, "validation avg") or 0.0 for row in own.values())
                    for name, own in runs.items()
                    if name.split()[0] == method
                }
                chosen = f"{choices[part.replace('-', '_')][method]:g}"
                cells = [f"**{x}: {y:.1f}**" if x == chosen else f"{x}: {y:.1f}" for x, y in scores.items()]
                rows.append([task, f"`{method}`", part.replace("kl", "KL weight").replace("-", " "), ", ".join(cells)])
    return table(["task", "method", "", "candidates: avg@8 (%)"], rows)


def sensitivity() -> str:
    """Archer with one value changed, on countdown."""
    changed = runs_of("countdown", "sensitivity")
    runs = {**changed, "archer": runs_of("countdown", "comparison").get("archer", {})}
    rows = []
    for method in ("archer", *changed):
        own = {seed: row for seed, row in runs[method].items() if seed < SEEDS["sensitivity"]}
        rows.append(
            [
                f"`{method}`",
                str(len(own)),
                _mean(own, lambda row: last(row, "avg"), 100),
                difference(runs, method, lambda row: last(row, "avg"), "archer"),
                _mean(own, lambda row: last(row, f"pass@{K}"), 100),
                _mean(own, lambda row: last(row, "entropy/reasoning")),
            ]
        )
    heads = ["", "seeds", f"avg@{K}, last (%)", "difference to `archer`", f"pass@{K}, last (%)", "entropy, reasoning"]
    return table(heads, rows)


def higher_rates() -> str:
    """avg@16 on countdown after half the updates, by learning rate; the lowest rate is that of the comparison."""
    raised, usual = runs_of("countdown", "higher-rates"), runs_of("countdown", "comparison")
    step = next(iter(next(iter(raised.values())).values()))["steps"][-1]
    rows = []
    for method in dict.fromkeys(name.split()[0] for name in raised):
        own = {seed: usual[method][seed] for seed in range(SEEDS["higher-rates"]) if seed in usual[method]}
        cells = [_spread([row["curves"]["avg"][row["steps"].index(step)] for row in own.values()])]
        cells += [
            _spread([row["curves"]["avg"][-1] for row in runs.values()])
            for name, runs in raised.items()
            if name.split()[0] == method
        ]
        rows.append([f"`{method}`", *cells])
    rate = load("study")["chosen"]["countdown"]["learning_rate"]["grpo"]
    rates = [f"{rate:g}", *dict.fromkeys(name.split()[1] for name in raised)]
    return table([f"avg@{K} after {step} updates (%)", *rates], rows)


def _spread(values: list[float]) -> str:
    """Mean, lowest and highest in percent."""
    low, mean, high = (100 * value for value in (min(values), statistics.fmean(values), max(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def compared_tasks() -> list[str]:
    """The tasks on which methods have been compared."""
    return [task for task in TASKS if runs_of(task, "comparison")]


def progress() -> str:
    """What has been run of the protocol, and from where the numbers come."""
    result, done, open_parts = load("study"), [], []
    for task in TASKS:
        for part in SEEDS:
            if task != "countdown" and part in COUNTDOWN_ONLY:
                continue
            seeds = {seed for own in runs_of(task, part).values() for seed in own}
            if seeds:
                done.append(f"{task}, {part}: {len(seeds)} of {SEEDS[part]} seeds")
            else:
                open_parts.append(f"{task}, {part}")
    text = f"Run so far: {'; '.join(done)}."
    if open_parts:
        text += f" Not run yet: {'; '.join(open_parts)}."
    return f"{text}\n\n{source(result, 'study', '../')}"


def summary() -> str:
    """The primary outcome of the protocol in a sentence."""
    runs = runs_of("countdown", "comparison")
    means = {method: _mean(runs[method], lambda row: last(row, "avg"), 100) for method in ("grpo", "archer")}
    gained = difference(runs, "archer", lambda row: last(row, "avg"))
    start = _mean(runs_of("countdown", "warm-start")["warm-start"], lambda row: last(row, "avg"), 100)
    weight = load("study")["chosen"]["countdown"]["kl"]["archer"]
    return (
        f"After 900 updates on countdown, avg@{K} is {means['grpo']}% with GRPO and {means['archer']}% with Archer "
        f"({start}% before training). The difference over {len(runs['archer'])} seeds and its 95% interval, in points: "
        f"{gained}. Archer's KL weight was chosen: {weight:g}."
    )


def places() -> Iterator[tuple[str, Callable[[], str]]]:
    """The marked places of docs/evidence.md."""
    yield "study_progress", progress
    yield "study_calibration", calibration
    for task in compared_tasks():
        yield f"study_{task}_accuracy", lambda task=task: accuracy(task)
        yield f"study_{task}_dynamics", lambda task=task: dynamics(task)
    if "shop" in compared_tasks():
        yield "study_facts", facts
    if runs_of("countdown", "higher-rates"):
        yield "study_higher_rates", higher_rates
    if runs_of("countdown", "sensitivity"):
        yield "study_sensitivity", sensitivity
