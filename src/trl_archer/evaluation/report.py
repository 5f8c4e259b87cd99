"""The report of an evaluation: one JSON file with counts and settings, and a table beside the paper's numbers."""

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._files import whole_file
from .benchmarks import PRESETS, LoadedBenchmark
from .paper import paper_results
from .records import Estimate, ProblemRecord, summarize

REPORT = "report.json"
REPORTS = "evaluations"  # of a run: those while training, in a folder for each step
FORMAT = 1
_LIBRARIES = ("datasets", "inspect-ai", "math-verify", "peft", "torch", "transformers", "trl", "trl-archer", "vllm")

Report = dict[str, Any]


def build_report(
    settings: Mapping[str, Any], results: Iterable[tuple[LoadedBenchmark, Sequence[ProblemRecord]]]
) -> Report:
    """
    Builds the report of an evaluation.

    Args:
        settings (`Mapping`): What was evaluated and how, such as the model, its digest and the seed.
        results (`Iterable[tuple[LoadedBenchmark, Sequence[ProblemRecord]]]`): Each benchmark with its counts.

    Returns:
        `dict`: `settings`, `versions` and for each benchmark its settings, the fingerprint of its data, the summary and
        the counts of each problem. It holds JSON types only.
    """
    report = {
        "format": FORMAT,
        "settings": dict(settings),
        "versions": {"python": platform.python_version(), **installed_versions(_LIBRARIES)},
        "benchmarks": {
            loaded.benchmark.name: {
                "settings": loaded.benchmark.as_dict(),
                "data": {"problems": len(loaded.problems), "fingerprint": loaded.fingerprint},
                "summary": _as_json(summarize(records)),
                "problems": [asdict(record) for record in records],
            }
            for loaded, records in results
        },
    }
    return json.loads(json.dumps(report, default=str))


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the libraries that are installed."""
    versions = {}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _as_json(summary: dict[str, Any]) -> dict[str, Any]:
    pass_at = {str(k): value._asdict() for k, value in summary["pass_at"].items()}
    return {**summary, "avg": summary["avg"]._asdict(), "pass_at": pass_at}


def write_report(report: Report, folder: str | Path) -> None:
    """Writes `report.json` and `report.md` into a folder."""
    for name, text in ((REPORT, json.dumps(report, indent=1) + "\n"), ("report.md", render(report))):
        with whole_file(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_report(path: str | Path) -> Report:
    """
    Reads a report.

    Args:
        path (`str` or `Path`): The file, its folder, or a run: its `evaluation` folder, or the last evaluation while
            training in `evaluations`.

    Raises:
        ValueError: If there is no report, or the file is not one.
    """
    path = Path(path)
    last = list_reports(path)[-1:]
    found = [x for x in (path, path / REPORT, path / "evaluation" / REPORT, *last) if x.is_file()]
    if not found:
        raise ValueError(
            f"There is no evaluation in {str(path)!r}. Evaluate it with `trl-archer eval --model {path} --benchmarks "
            "NAME`, or train with eval_benchmarks."
        )
    try:
        report = json.loads(found[0].read_text(encoding="utf-8"))
        if report["format"] != FORMAT:
            raise ValueError(f"its format is {report['format']!r}, and this version reads {FORMAT}")
        for result in report["benchmarks"].values():
            read_records(result)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{found[0]} is not a report of an evaluation ({type(error).__name__}: {error}).") from None
    return report


def list_reports(run: Path) -> list[Path]:
    """The reports that a run wrote while training, in the order of steps. Their setting `step` is the step."""
    return sorted(run.glob(f"{REPORTS}/step-*/{REPORT}"))


def read_records(result: Mapping[str, Any]) -> list[ProblemRecord]:
    """The counts of a benchmark in a report."""
    return [ProblemRecord(**row) for row in result["problems"]]


def render(report: Report) -> str:
    """The report as Markdown."""
    rows = [
        "| benchmark | problems | K | avg@K (%) | standard error | 95% interval | pass@K (%) | 95% interval "
        "| not scorable | failed | truncated | tokens |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in report["benchmarks"].items():
        summary = result["summary"]
        avg = Estimate(**summary["avg"])
        last = Estimate(**summary["pass_at"][max(summary["pass_at"], key=int)])
        stderr = "" if avg.stderr is None else f"{100 * avg.stderr:.2f}"
        cells = (
            *(name, f"{summary['problems']:,}", str(summary["samples"])),
            *(f"{100 * avg.value:.1f}", stderr, _interval(avg), f"{100 * last.value:.1f}", _interval(last)),
            *(f"{summary['not_scorable']:,}", f"{summary['failed']:,}", f"{summary['truncated']:.1%}"),
            f"{summary['mean_tokens']:,.0f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    parts = [f"# {report['settings'].get('model', 'Evaluation')}", "\n".join(rows), *_notes(report), *_paper(report)]
    return "\n\n".join(parts) + "\n"


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"  # type: ignore[operator]


def _notes(report: Report) -> list[str]:
    notes = [
        "avg@K is the accuracy of one sample. Standard errors are clustered by problem, and intervals are a bootstrap "
        "over problems. Neither includes the variation between training seeds."
    ]
    for name, result in report["benchmarks"].items():
        summary, k = result["summary"], str(result["summary"]["samples"])
        if summary["not_scorable"] or summary["failed"]:
            low, high = summary["bounds"]
            counted = summary["pass_at"].get(k, {"problems": 0})["problems"]
            notes.append(
                f"{name}: {summary['not_scorable'] + summary['failed']:,} samples have no verdict and are left out, "
                f"with them {summary['left_out']:,} whole problems. Were they all wrong or all right, avg@K would be "
                f"{low:.1%} or {high:.1%}. {counted:,} problems have K scored samples."
            )
    return notes


def _paper(report: Report) -> list[str]:
    names = [name for name in report["benchmarks"] if name in PRESETS]
    if not names:
        return []
    rows = [f"| avg@K/pass@K (%) | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    ours, differing = [], []
    for name in names:
        result = report["benchmarks"][name]
        summary, preset = result["summary"], PRESETS[name].as_dict()
        last = summary["pass_at"][max(summary["pass_at"], key=int)]["value"]
        ours.append(f"{100 * summary['avg']['value']:.1f}/{100 * last:.1f}")
        differing += [
            f"{name}: {key} is {result['settings'][key]}, not {preset[key]}"
            for key in ("k", "temperature", "top_p", "max_new_tokens", "dataset")
            if result["settings"][key] != preset[key]
        ]
    rows.append(f"| **this model** | {' | '.join(ours)} |")
    for model, row in paper_results().items():
        if any(name in row for name in names):
            cells = ["/".join(f"{value:g}" for value in row[name]) if name in row else "" for name in names]
            rows.append(f"| {model} | {' | '.join(cells)} |")
    note = "The other rows are from Wang et al. 2025. Prompts and verifiers differ from theirs in details."
    if differing:
        note += f" Settings that differ from the paper's: {'; '.join(differing)}."
    return ["\n".join(rows), note]
