"""The tables of docs/scaling.md, made from results/scaling.json."""

from collections.abc import Callable

from benchmarks.environment import load
from benchmarks.markdown import source, table
from trl_archer.commands.forecast.hardware import GIB


def _short(name: str) -> str:
    return name.split("/")[1].replace("DeepSeek-", "")


def guide() -> str:
    rows = []
    for row in load("scaling")["guide"]:
        start = [_short(row["model"]), str(row["gpus"]), f"{row['completion']:,}"]
        if "config" not in row:
            rows.append([*start, "does not fit", "", "", ""])
            continue
        vllm = f"colocate, {row['utilization']:g}"
        if row["tensor_parallel"] > 1:
            vllm += f", tensor parallel {row['tensor_parallel']}"
        vllm += ", sleep mode" if row["sleep"] else ""
        adapter = f", LoRA {row['lora']}" if row["lora"] else ""
        memory = f"{row['bytes'] / GIB:.0f} GiB, {row['phase']}"
        rows.append([*start, f"`{row['config']}`{adapter}", vllm, str(row["micro_batch"]), memory])
    header = ["model", "GPUs", "longest completion", "accelerate configuration", "vLLM, share of memory"]
    header += ["`per_device_train_batch_size`", "predicted, phase"]
    return table(header, rows)


def measured() -> str:
    result = load("scaling")
    rows = []
    for name, case in result["measured"].items():
        cells = [
            [f"{case[kind] / 1e6:.1f}", f"{case[f'predicted_{kind}'] / case[kind]:.3f}"] if kind in case else ["", ""]
            for kind in ("saved", "peak")
        ]
        rows.append([name, *cells[0], *cells[1]])
    header = ["tiny model", "kept activations, MB", "predicted / counted", "peak, MB", "predicted / counted"]
    return f"{table(header, rows)}\n\n{source(result, 'scaling', '../')}"


def recipes() -> str:
    rows = []
    for name, row in load("scaling")["recipes"].items():
        parts = row["parts"]
        states = sum(parts[part] for part in ("weights", "gradients", "optimizer", "reference"))
        activations = sum(parts.get(part, 0) for part in ("kept activations", "passing activations", "communication"))
        values = (
            states,
            activations,
            parts.get("vLLM", parts.get("cache")),
            parts["reserve"],
            row["bytes"],
            row["capacity"],
        )
        rows.append([f"`{name}`", row["phase"], *(f"{value / GIB:.1f}" for value in values)])
    header = [
        "recipe",
        "fullest phase",
        "states",
        "activations and buffers",
        "vLLM, or cache",
        "reserve",
        "sum",
        "capacity",
    ]
    return "Predicted memory of one GPU, in GiB:\n\n" + table(header, rows)


PLACES: dict[str, Callable[[], str]] = {
    "guide": guide,
    "measured": measured,
    "recipes": recipes,
}
