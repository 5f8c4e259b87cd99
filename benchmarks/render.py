"""Fills the marked places of README and docs from committed results, tested files and configuration classes.

python -m benchmarks.render            writes
python -m benchmarks.render --check    fails if a file would change
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import reference
from .environment import load
from .gpu import tables as gpu
from .markdown import source, table
from .scaling.tables import PLACES as SCALING
from .study import tables as study

ROOT = Path(__file__).parent.parent


def from_readme(name: str) -> str:
    """The content of a marked place of README, to repeat on another page."""
    _, _, rest = (ROOT / "README.md").read_text().partition(f"<!-- begin: {name} -->\n")
    return rest.partition(f"\n<!-- end: {name} -->")[0]


def quickstart() -> str:
    return f"```python\n{(ROOT / 'examples' / 'quickstart.py').read_text()}```"


def playground() -> str:
    result = load("playground")
    runs = result["runs"]
    titles = {"archer": "Archer, its default loss", "grpo": "TRL's GRPO, its default loss"}

    def values(method: str, key: str, when: str = "after") -> list[float]:
        return [run[when][key] for run in runs if run["method"] == method]

    def cell(numbers: list[float]) -> str:
        return f"{statistics.mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"

    rows = [
        [title, str(len(values(method, "avg_at_k"))), *(cell(values(method, k)) for k in ("avg_at_k", "pass_at_k"))]
        for method, title in titles.items()
    ]
    before = runs[0]["before"]
    rows.insert(0, ["warm start", "", f"{before['avg_at_k']:.3f}", f"{before['pass_at_k']:.3f}"])
    return (
        f"Countdown, {runs[0]['problems']} held-out problems, {runs[0]['steps']} steps, "
        "mean over seeds (lowest to highest):\n\n"
        f"{table(['', 'seeds', 'avg@8', 'pass@8'], rows)}\n\n{source(result, 'playground', '../')}"
    )


def shown() -> str:
    result = load("update_phase")
    ragged = [
        case["time_ratio"]
        for name, case in result["cases"].items()
        if case["mean_length_of_longest"] < 1 and "dropped" not in name
    ]
    rows = [
        [
            "With equal values for both roles and `mask_zero_std_groups=False`, loss and gradient equal those of TRL's "
            "GRPO to 1e-6, for `dapo`, `grpo`, `bnpo` and `dr_grpo`.",
            "[test_equals_grpo.py](tests/trainer/test_equals_grpo.py)",
        ],
        [
            "A run killed with `kill -9` resumes bit-for-bit, even in the middle of a rollout's updates.",
            "[test_resume.py](tests/grpo/test_resume.py)",
        ],
        [
            f"When completion lengths differ, the update phase takes {min(ragged):.2f} to {max(ragged):.2f} times as "
            "long as TRL's on a CPU.",
            "[update_phase.json](benchmarks/results/update_phase.json), [performance](docs/performance.md)",
        ],
    ]
    return table(["result", "evidence"], rows)


def ablation() -> str:
    result = load("ablation")
    runs = result["runs"]

    def scores(variant: str) -> dict[int, float]:
        return {run["seed"]: run["after"]["avg_at_k"] for run in runs if run["variant"] == variant}

    reference, rows = scores("Archer"), []
    for name in dict.fromkeys(run["variant"] for run in runs):
        config = next(run["config"] for run in runs if run["variant"] == name)
        values = scores(name)
        gains = [value - reference[seed] for seed, value in values.items()]
        margin = statistics.stdev(gains) / len(gains) ** 0.5
        difference = "" if name == "Archer" else f"{statistics.mean(gains):+.3f} ± {margin:.3f}"
        settings = ", ".join(f"`{field}={value}`" for field, value in config.items())
        rows.append([name, settings, f"{statistics.mean(values.values()):.3f}", difference])
    header = ["", "settings", "avg@8", "difference to Archer, same seed (mean ± standard error)"]
    return f"{len(reference)} seeds:\n\n{table(header, rows)}\n\n{source(result, 'ablation', '../')}"


def playground_entropies() -> str:
    runs = [run for run in load("playground")["runs"] if run["method"] == "archer"]

    def sentence(role: str) -> str:
        before, after = runs[0]["before"], sorted(run["after"][f"entropy_{role}"] for run in runs)
        return (
            f"`entropy/{role}` from {before[f'entropy_{role}']:.2g} to between {after[0]:.2g} and {after[-1]:.2g} nats"
        )

    return (
        f"In {runs[0]['steps']} steps, {len(runs)} seeds, on held-out problems: {sentence('reasoning')}; "
        f"{sentence('knowledge')}."
    )


def compute_loss() -> str:
    result = load("compute_loss")
    rows = []
    for name, shape in result["shapes"].items():
        geometry = shape["shape"]
        low, high = shape["time_ratio_quartiles"]
        rows.append(
            [
                name,
                f"{geometry['rows']} x {geometry['completion']}",
                f"{geometry['vocabulary']:,}",
                f"{shape['time_ratio']:.3f} ({low:.3f} to {high:.3f})",
                f"{shape['memory_ratio']:.4f}",
            ]
        )
    header = [
        "shape",
        "completions x tokens",
        "vocabulary",
        "time, Archer / TRL, median (quartiles)",
        "peak memory, Archer / TRL",
    ]
    return f"{table(header, rows)}\n\n{source(result, 'compute_loss', '../')}"


def update_phase() -> str:
    result = load("update_phase")
    rows = [
        [
            name,
            f"{case['mean_length_of_longest']:.0%}",
            f"{case['time_ratio']:.2f} ({case['time_ratio_range'][0]:.2f} to {case['time_ratio_range'][1]:.2f})",
            f"{case['memory_ratio']:.3f}",
            f"{case['gradient_difference']:.0e}",
        ]
        for name, case in result["cases"].items()
    ]
    header = [
        *("lengths of the completions", "mean length / longest", "time, Archer / TRL, median (range)"),
        "peak memory, Archer / TRL",
        "largest relative gradient difference",
    ]
    return f"{table(header, rows)}\n\n{source(result, 'update_phase', '../')}"


def breakdown() -> str:
    result = load("step_breakdown")
    rows = [[piece, f"{share:.1%}"] for piece, share in result["shares"].items()]
    return f"{table(['piece', 'share of the time'], rows)}\n\n{source(result, 'step_breakdown', '../')}"


def floor() -> str:
    least = load("step_breakdown")["update_phase"]
    return (
        f"On log-normal lengths the update phase takes {least['seconds']:.1f} s for {least['real_tokens']:,} real "
        f"tokens. The matrix products alone need {least['floor_seconds']:.1f} s at the "
        f"{least['gflops_per_second']:.0f} GFLOP/s that the machine reaches on these shapes. The update phase takes "
        f"{least['times_the_floor']:.1f} times this floor, which excludes attention, norms, activations, entropies and "
        "the remaining padding."
    )


def example_run() -> str:
    return source(load("example_run"), "example_run", "../")


def rewards() -> str:
    result = load("rewards")
    math, slow = result["math"], result["math"]["slow"]
    rows = [
        [name, f"{case['runs_per_second']:.0f}", f"{case['overhead_ms']:.0f} ms"]
        for name, case in result["code"].items()
    ]
    ours, theirs = (f"{math['seconds'][name]:.1f} s" for name in ("math_reward", "accuracy_reward"))
    return (
        f"Math: {math['completions']:,} completions of {math['characters']:,.0f} characters (median) take {ours} on "
        f"{math['workers']} workers. TRL's `accuracy_reward` takes {theirs}, {math['speedup']:.1f} times as long; "
        f"{math['different']} verdicts differ. With {slow['items']} answers whose grading never ends, each stopped "
        f"after {slow['limit']:g} s, it takes {slow['seconds']:.0f} s.\n\n"
        f"Code: programs that print a number, on {math['workers']} workers:\n\n"
        f"{table(['isolation', 'runs per second', 'overhead of a run, median'], rows)}\n\n"
        f"{source(result, 'rewards', '../')}"
    )


def math_golds() -> str:
    result = load("math_golds")
    rows = [
        [
            name,
            f"{case['golds']:,}",
            f"{case['gradable']:,}",
            *(f"{case['right'][reward]:,}" for reward in ("math_reward", "accuracy_reward")),
        ]
        for name, case in result["data"].items()
    ]
    heads = ["data set", "golds", "gradable", "right themselves", "right themselves, `accuracy_reward`"]
    return f"{table(heads, rows)}\n\n{source(result, 'math_golds', '../')}"


def math_hedges() -> str:
    hedges = load("math_golds")["hedges"]
    ours, theirs = (hedges[name] for name in ("math_reward", "accuracy_reward"))
    return (
        f"Of {hedges['answers']} such answers, each to {hedges['golds']} golds, `math_reward` accepts "
        f"{ours['wrongly_right']} that differ from the gold. TRL's `accuracy_reward` accepts "
        f"{theirs['wrongly_right']}, from {theirs['answers']} different answers."
    )


def methods() -> str:
    """Cost and playground results of each preset."""
    result = load("methods")
    rows = []
    for name in dict.fromkeys(run["preset"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["preset"] == name]
        after = [run["after"]["avg_at_k"] for run in runs]
        entropy = statistics.mean(run["after"]["entropy_reasoning"] for run in runs)
        ratios = result["time"].get(name, {})
        times = [f"{ratios[shape]['time_ratio']:.2f}" if ratios else "" for shape in ("short", "long")]
        spread = f" ({min(after):.3f} to {max(after):.3f})" if len(after) > 1 else ""
        rows.append([f"`{name}`", *times, f"{statistics.mean(after):.3f}{spread}", f"{entropy:.2f}"])
    before, seeds = result["runs"][0]["before"], len({run["seed"] for run in result["runs"]})
    titles = ["preset", "time, short responses", "time, long responses", "avg@8", "entropy of reasoning tokens"]
    return (
        "Time is that of loss and backward pass, over Archer's. avg@8 is measured on the playground, on "
        f"{result['problems']} held-out problems, after {result['steps']} updates with {seeds} "
        f"seed{'s' if seeds > 1 else ''}. Before training it is {before['avg_at_k']:.3f}, and the entropy of reasoning "
        f"tokens is {before['entropy_reasoning']:.2f} nats. All runs make one pass over a rollout in four updates, "
        "except `opefo`, which samples before each update.\n\n"
        f"{table(titles, rows)}\n\n{source(result, 'methods', '../')}"
    )


def evaluation_report() -> str:
    result = load("evaluation_report")
    report, compare, log = (f"{result['seconds'][name]:.1f} s" for name in ("report", "compare", "log"))
    return (
        f"For {result['problems']:,} problems with {result['samples']} samples each, the report takes {report} of one "
        f"core and {result['peak_mib']:,.0f} MiB, and `compare` takes {compare}. Samples are counted as they are read. "
        f"Counting a log of Inspect with 20,000 samples takes {log}: `trl-archer eval` starts a new log after as many "
        f"samples, counts each one when it is complete, and stores the counts.\n\n"
        f"{source(result, 'evaluation_report', '../')}"
    )


PLACES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"shown": shown, "study_summary": study.summary},
    "docs/index.md": {
        "objective": partial(from_readme, "objective"),
        "script": partial(from_readme, "script"),
        "install": partial(from_readme, "install"),
        "status": partial(from_readme, "status"),
        "study_summary": partial(from_readme, "study_summary"),
    },
    "docs/evaluation.md": {"evaluation_report": evaluation_report},
    "docs/evidence.md": {**dict(study.places()), "playground": playground},
    "docs/figures.md": {"example_run": example_run},
    "docs/start_script.md": {"quickstart": quickstart},
    "docs/methods.md": {"presets": reference.presets, "methods": methods},
    "docs/metrics.md": {"playground_entropies": playground_entropies},
    "docs/faq.md": {"ablation": ablation},
    "docs/data.md": {"train_arguments": reference.train_arguments},
    "docs/configuration.md": {
        "own_fields": reference.own_fields,
        "inherited_fields": reference.inherited_fields,
        "rejected_fields": reference.rejected_fields,
        "irrelevant_fields": reference.irrelevant_fields,
        "passed_on_fields": reference.passed_on_fields,
    },
    "docs/rewards.md": {"rewards": rewards, "math_golds": math_golds, "math_hedges": math_hedges},
    "docs/gpu.md": {"gpu_tests": gpu.tests, "real_model": gpu.real_model},
    "docs/scaling.md": {**SCALING, "gpu_memory": gpu.memory},
    "docs/performance.md": {
        "compute_loss": compute_loss,
        "update_phase": update_phase,
        "breakdown": breakdown,
        "floor": floor,
        "gpu_update_phase": gpu.update_phase,
    },
}


def filled(text: str, places: dict[str, Callable[[], str]]) -> str:
    """The text with the content between each pair of markers replaced."""
    for name, make in places.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        head, rest = text.split(begin)
        text = head + begin + make() + "\n" + end + rest.split(end)[1]
    return text


def main() -> None:
    check = "--check" in sys.argv[1:]
    for file, places in PLACES.items():
        text = (ROOT / file).read_text()
        new = filled(text, places)
        if check and new != text:
            raise SystemExit(f"{file} differs from the results; run `python -m benchmarks.render`.")
        (ROOT / file).write_text(new)


if __name__ == "__main__":
    main()
