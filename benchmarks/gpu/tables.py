"""Tables of docs/performance.md, docs/scaling.md and docs/gpu.md, from the results of each GPU."""

import json
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.environment import RESULTS
from benchmarks.markdown import source, table

NOT_RUN = "Not run on a GPU yet."
MIB = 2**20
FIGURES = RESULTS.parents[1] / "docs" / "figures"


def results() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of the results of each GPU."""
    for path in sorted(RESULTS.glob("gpu_*.json")):
        yield path.stem, json.loads(path.read_text())


def of_each_gpu(part: str, show: Callable[[dict[str, Any]], str]) -> str:
    """What `show` makes of a part's results on each GPU, with their source."""
    shown = [
        f"{show(result['parts'][part])}\n\n{source(result, name, '../')}"
        for name, result in results()
        if part in result["parts"]
    ]
    return "\n\n".join(shown) or NOT_RUN


def _cases(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, case) for name, case in part["cases"].items() if "error" not in case)


def _ratio(measured: dict[str, Any]) -> str:
    low, high = measured["range"]
    return f"{measured['ratio']:.2f} ({low:.2f} to {high:.2f})"


def update_phase() -> str:
    """Time, memory and arithmetic of the update phase."""

    def show(part: dict[str, Any]) -> str:
        rows = []
        for name, case in _cases(part):
            peaks = [case["memory"][method]["bytes"] for method in ("archer", "grpo")]
            rows.append(
                [
                    name,
                    f"{case['mean_length_of_longest']:.0%}",
                    _ratio(case["phase"]),
                    _ratio(case["loss"]),
                    f"{peaks[0] / peaks[1]:.2f}" if all(peaks) else "",
                    f"{case['flops_per_second'] / 1e12:.0f}",
                    f"{case['mfu']:.0%}",
                    f"{case['tokens_per_second']:,.0f}",
                ]
            )
        header = [
            *("model, longest completion, lengths", "mean length / longest", "update phase, Archer / TRL"),
            *("loss and backward, Archer / TRL", "peak memory, Archer / TRL", "TFLOP/s", "MFU", "tokens/s"),
        ]
        failed = [f"{name}: {case['error']}" for name, case in part["cases"].items() if "error" in case]
        rate = f"The GPU multiplies bf16 matrices at {part['matmul_flops_per_second'] / 1e12:.0f} TFLOP/s."
        return "\n\n".join([rate, table(header, rows), *failed])

    return of_each_gpu("update_phase", show)


def memory() -> str:
    """Predicted and measured peaks of gradients and activations."""

    def show(part: dict[str, Any]) -> str:
        rows = [
            [
                f"{name}, {'Archer' if method == 'archer' else 'TRL'}",
                f"{peak['rows']} x {peak['tokens']:,}",
                f"{peak['bytes'] / MIB:,.0f}",
                f"{peak['predicted_bytes'] / peak['bytes']:.2f}",
            ]
            for name, case in _cases(part)
            for method, peak in case["memory"].items()
            if peak["bytes"]
        ]
        return table(["case", "largest micro-batch", "measured peak, MiB", "predicted / measured"], rows)

    return of_each_gpu("update_phase", show)


def tests() -> str:
    """Counts of `make test-gpu` on each GPU."""

    def show(part: dict[str, Any]) -> str:
        failed = ", ".join(f"`{name}`" for name in part.get("failed", []))
        counts = f"{part.get('tests', 0)} tests, {part.get('failures', 0)} failed, {part.get('skipped', 0)} skipped"
        largest = max(part.get("peak_gib", {}).values(), default=0.0)
        return f"{counts}, peak memory {largest:.1f} GiB{'; failed: ' + failed if failed else ''}."

    return of_each_gpu("tests", show)


MEASURES = {
    "avg_at_k": ("avg@8", "{:.3f}"),
    "pass_at_k": ("pass@8", "{:.3f}"),
    "unseen/avg_at_k": ("avg@8, unseen animals", "{:.3f}"),
    "entropy/reasoning": ("entropy of reasoning tokens, nats", "{:.3f}"),
    "entropy/knowledge": ("entropy of knowledge tokens, nats", "{:.4f}"),
    "kl/reasoning": ("KL of reasoning tokens, nats", "{:.4f}"),
    "kl/knowledge": ("KL of knowledge tokens, nats", "{:.4f}"),
    "facts: accuracy": ("facts known", "{:.1%}"),
    "legs: accuracy": ("legs of other animals known", "{:.1%}"),
    "legs in the task: accuracy": ("the same, inside a solution", "{:.1%}"),
    "perplexity": ("perplexity of the page", "{:.1f}"),
}


def real_model() -> str:
    """Gemma before and after training, by scale, mean over seeds."""
    path = RESULTS / "real_model.json"
    if not path.exists():
        return "Not run yet."
    result = json.loads(path.read_text())
    shown = []
    for scale in dict.fromkeys(run["scale"]["name"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["scale"]["name"] == scale and "after" in run]
        if runs:
            shown.append(_scale(scale, runs, result["command"]))
    return "\n\n".join(shown) or "No run is finished yet."


def _scale(name: str, runs: list[dict[str, Any]], command: str) -> str:
    methods = list(dict.fromkeys(run["method"] for run in runs))
    first = runs[0]

    def cell(form: str, values: list[float | None]) -> str:
        known = [value for value in values if value is not None]
        if not known:
            return ""
        spread = f" ({form.format(min(known))} to {form.format(max(known))})" if len(known) > 1 else ""
        return form.format(statistics.mean(known)) + spread

    rows = []
    for key, (label, form) in MEASURES.items():
        after = [[run["after"].get(key) for run in runs if run["method"] == method] for method in methods]
        before = [cell(form, [first[when].get(key)]) for when in ("untrained", "before")]
        rows.append([label, *before, *(cell(form, values) for values in after)])
    titles = {"archer": "Archer", "grpo": "GRPO, TRL's default loss"}
    counts = {method: sum(run["method"] == method for run in runs) for method in methods}
    header = ["", "Gemma", "warm start", *(f"{titles[m]}, {counts[m]} seed{'s' * (counts[m] > 1)}" for m in methods)]
    scale = first["scale"]
    sizes = (
        f"Scale `{name}`: {first['updates']} updates of {scale['micro_batch'] * scale['micro_batches']} completions, "
        f"{scale['problems']} held-out problems, "
        f"{'whole vocabulary' if scale['vocabulary'] == 'whole' else 'vocabulary cut to the task'}:"
    )
    pictures = "\n\n".join(filter(None, (picture(file, text) for file, text in _pictures(name).items())))
    origin = source({"command": command, "environment": first["environment"]}, "real_model", "../")
    return "\n\n".join(filter(None, [sizes, table(header, rows), origin, pictures]))


def _pictures(scale: str) -> dict[str, str]:
    return {
        f"real_model_{scale}": "Reward, accuracy, entropy, KL and knowledge over the updates, for Archer and GRPO",
        f"real_model_{scale}_spread": "Entropy of batches, prompts and responses on real text",
        f"real_model_{scale}_tokens": "Tokens of real text that are most often reasoning, and most often knowledge",
    }


def picture(name: str, text: str) -> str:
    """A picture of docs/figures in both themes; empty if it has not been drawn."""
    if not (FIGURES / f"{name}_light.svg").exists():
        return ""
    return (
        f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="figures/{name}_dark.svg">\n'
        f'  <img alt="{text}" src="figures/{name}_light.svg" width="800">\n</picture>'
    )
