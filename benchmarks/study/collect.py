"""Reads finished runs into rows of numbers, small enough to commit."""

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from trl_archer.evaluation.report import Report, list_reports, read_records, read_report
from trl_archer.figures.logs import RunLog, read_run

from .tasks import TASKS

# Means over the steps since the last evaluation
LOGGED = (
    *("reward", "entropy", "entropy/reasoning", "entropy/knowledge", "kl/reasoning", "kl/knowledge", "kl"),
    *(f"clip_ratio/{role}/{side}_mean" for role in ("reasoning", "knowledge") for side in ("low", "high")),
    *("clip_ratio/region_mean", "log_ratio/max", "archer/reasoning_fraction", "archer/dropped_groups"),
    *("completions/repetition", "completions/mean_length", "completions/clipped_ratio"),
)
PASS_AT = (1, 2, 4, 8, 16)
DIGITS = 5


def collect(folder: Path, task: str) -> dict[str, Any]:
    """
    The curves of one run: every measure at every evaluation.

    Returns:
        `dict`: `steps`, `curves` (measure to values), and `digest` of the counts of each problem at the end, which a
        repeated run must reproduce.
    """
    reports = [read_report(path) for path in list_reports(folder)]
    steps = [report["settings"]["step"] for report in reports]
    curves: dict[str, list[float | None]] = {}
    for report in reports:
        for name, value in _measures(report, task).items():
            curves.setdefault(name, []).append(round(value, DIGITS))
    log = read_run(folder)
    for name in LOGGED:
        if name in log.metrics:
            curves[name] = [_mean(log, name, *ends) for ends in zip([0, *steps], steps, strict=False)]
    return {"steps": steps, "curves": curves, "digest": _digest(reports[-1])}


def _digest(report: Report) -> str:
    """SHA-256 of the counts of each problem in a report."""
    problems = {name: result["problems"] for name, result in report["benchmarks"].items()}
    return hashlib.sha256(json.dumps(problems, sort_keys=True).encode()).hexdigest()[:16]


def _measures(report: Report, task: str) -> dict[str, float]:
    found = {}
    for name, result in report["benchmarks"].items():
        summary = result["summary"]
        if name in ("greedy", *TASKS[task].extra()):
            found[name] = summary["avg"]["value"]
            continue
        label = "" if name == "test" else f"{name} "
        found[f"{label}avg"] = summary["avg"]["value"]
        found |= {f"{label}pass@{k}": x["value"] for k, x in summary["pass_at"].items() if int(k) in PASS_AT[1:]}
        found[f"{label}solved"] = fmean(record.correct > 0 for record in read_records(result))
        found[f"{label}truncated"] = summary["truncated"]
    return found


def _mean(log: RunLog, name: str, after: int, until: int) -> float | None:
    values = [x for step, x in log.metrics[name].items() if after < step <= until and x is not None]
    return round(fmean(values), DIGITS) if values else None
