"""The tables of docs/scaling.md, from results/scaling.json."""

from collections.abc import Callable
from typing import Any

from benchmarks.environment import load
from benchmarks.markdown import source, table

from .hardware import GIB

SHARDINGS = {"zero3": "ZeRO-3", "zero3_offload": "ZeRO-3, offload"}


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
        "GPU has",
    ]
    return "Predicted, GiB of one GPU:\n\n" + table(header, rows)


def checks() -> str:
    result = load("scaling")
    names = {"uniform": "padding removed, uniform lengths", "log-normal": "padding removed, log-normal lengths"}
    rows = [
        [names.get(name, f"{name} / policy forward"), f"{case['measured']:.2f}", f"{case['predicted']:.2f}"]
        for name, case in {**result["padding"], **result["passes"]}.items()
    ]
    return table(["ratio of times", "measured, CPU", "cost model"], rows)


def assumptions() -> str:
    result = load("scaling")
    a, rates = result["assumptions"], result["reward_rates"]
    rows = [
        ["training passes and prefill", f"{a['mfu']:.0%} of the bf16 peak"],
        [
            "decoding",
            f"{a['bandwidth_share']:.0%} of the memory bandwidth, and {a['decode_overhead'] * 1e3:g} ms a token",
        ],
        ["collectives", f"{a['link_share']:.0%} of NVLink or network, {a['hop'] * 1e6:g} us per rank and layer"],
        ["a forward or backward pass", f"{a['micro_batch_overhead'] * 1e3:g} ms beside its arithmetic"],
        ["weight sync", f"{a['sync_overhead'] * 1e3:g} ms per tensor beside its traffic"],
        ["a rollout", f"{a['rollout_overhead']:g} s of tokenizing, logging and gathering"],
        ["rewards (measured, per core)", f"{rates['math']:,.0f} answers or {rates['code']:.0f} program runs a second"],
        ["cores of a node, runs of a program", f"{a['cores_per_node']}, {a['runs_per_program']}"],
    ]
    return table(["", "assumed"], rows)


def calibration() -> str:
    fitted = load("scaling")["calibration"]
    seconds, slowdowns = fitted["paper_seconds"], fitted["slowdowns"]
    found = ", ".join(f"{value:.2f} for {int(mean):,} tokens" for mean, value in slowdowns.items())
    return (
        f"The paper's runs come to {seconds['math']:.0f} s (math) and {seconds['code']:.0f} s (code) per rollout on 16 "
        f"H800. Without a correction our model is faster; the factor that makes it agree, the geometric mean over "
        f"both runs, depends on the mean length of a response, which the paper does not give: {found}."
    )


def forecasts() -> str:
    rows = []
    for row in load("scaling")["forecasts"]:
        seconds, parts = row["seconds"], row["parts"]
        scoring = parts["old policy"] + parts["reference"]
        rows.append(
            [
                _short(row["model"]),
                str(row["gpus"]),
                SHARDINGS[row["sharding"]] + (", sleep mode" if row["sleep"] else ""),
                f"{row['mean']:,} of {row['completion']:,}",
                f"{row['bytes'] / GIB:.0f}",
                f"{seconds['middle']:.0f} ({seconds['low']:.0f} to {seconds['high']:.0f})",
                " / ".join(f"{x:.0f}" for x in (parts["generation"], scoring, parts["update"], parts["weight sync"])),
            ]
        )
    header = ["model", "GPUs", "states", "mean length", "memory, GiB", "seconds per rollout (low to high)"]
    return table([*header, "generation / scoring / update / sync, s"], rows)


def sensitivity() -> str:
    rows: dict[int, dict[tuple[float, float], float]] = {}
    for entry in load("scaling")["sensitivity"]:
        rows.setdefault(entry["mean"], {})[entry["mfu"], entry["bandwidth_share"]] = entry["seconds"]
    columns = list(next(iter(rows.values())))
    header = ["mean length", *(f"MFU {mfu:g}, bandwidth {share:g}" for mfu, share in columns)]
    return table(header, [[f"{mean:,}", *(f"{row[column]:.0f}" for column in columns)] for mean, row in rows.items()])


def limits() -> str:
    rows: list[list[str]] = []
    for row in load("scaling")["limits"]:
        rows.append(
            [
                _short(row["model"]),
                str(row["gpus"]),
                f"{row['prompts']:,}",
                f"{row['per_engine']:g}",
                f"{row['per_rank_and_update']:g}",
                f"{row['seconds']:.0f}",
                f"{row['efficiency']:.0%}",
                f"{row['longest_alone'] / row['seconds']:.0%}",
                *(f"{row[key]:.0%}" for key in ("generation", "waiting", "traffic")),
            ]
        )
    header = ["model", "GPUs", "prompts", "per engine", "per rank and update", "seconds"]
    header += ["output per GPU", "longest alone", "generation", "waiting", "traffic"]
    return table(header, rows)


def gathered() -> str:
    most: dict[str, Any] = max(load("scaling")["limits"], key=lambda row: row["text_bytes"])
    return (
        f"With {most['prompts']:,} prompts of {_short(most['model'])} and four bytes per token, that is "
        f"{most['text_bytes'] / 1e9:.1f} GB for each rank, {8 * most['text_bytes'] / 1e9:.0f} GB for a node."
    )


PLACES: dict[str, Callable[[], str]] = {
    "guide": guide,
    "measured": measured,
    "recipes": recipes,
    "checks": checks,
    "assumptions": assumptions,
    "calibration": calibration,
    "forecasts": forecasts,
    "sensitivity": sensitivity,
    "limits": limits,
    "gathered": gathered,
}
