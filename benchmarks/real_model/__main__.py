"""
Gemma 3 270M on leg counting: a warm start, then Archer and TRL's GRPO, measured on the task and on what they forget.

python -m benchmarks.real_model [--seeds 1] [--budget SECONDS] [--gguf FILE]

A GPU trains the whole model. A CPU trains one with the vocabulary that the task needs, in few updates. A call without
enough time continues in the next one. Results are added to results/real_model.json by method and seed.
"""

import argparse
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.environment import RESULTS, environment

from .knowledge import knowledge, sentences
from .scales import SCALES, Scale
from .task import Problem, demonstrate, digest, load_problems
from .training import METHODS, measure, run
from .warm_start import warm_start
from .weights import NAME, cut, load, load_tokenizer, load_whole

EVALUATION_SHARE = 0.15  # of the time of a run, kept for the measurement after it


def prepare(folder: Path, gguf: Path | None, scale: Scale) -> tuple[Path, dict[str, list[Problem]]]:
    """Folder of the untrained model at this scale, and the problems."""
    problems = load_problems(folder, scale.most, scale.instances)
    whole = load_whole(folder, gguf)
    if scale.vocabulary == "whole":
        return whole, problems
    texts = [text for split in problems.values() for p in split for text in (p.prompt, demonstrate(p))]
    return cut(whole, [*dict.fromkeys(texts), *sentences()], folder / scale.name / "untrained"), problems


def before_training(
    folder: Path, base: Path, policy: Path, problems: dict[str, list[Problem]], scale: Scale, device: str
) -> dict[str, Any]:
    """Measures the policy after the warm start, and the knowledge of the model before it; once."""
    path = folder / "before.json"
    if not path.exists():
        start, tokenizer = load(policy, device)
        found = measure(start, tokenizer, problems, scale, start, scale.problems)
        untrained = knowledge(*load(base, device), scale.facts_every)
        path.write_text(json.dumps({"warm start": found, "untrained": untrained}))
    return json.loads(path.read_text())


def finished(path: Path, scale: Scale) -> dict[tuple[int, str], int]:
    """Updates of the finished runs at this scale, by seed and method."""
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    return {(r["seed"], r["method"]): r["updates"] for r in runs if r["scale"]["name"] == scale.name and "after" in r}


def missing(path: Path, scale: Scale, seeds: int) -> list[tuple[int, str]]:
    """Runs of the next seeds that are not finished. Every other seed begins with the other method."""
    done, found, seed = finished(path, scale), [], 0
    while len({s for s, _ in found}) < seeds:
        order = list(METHODS)[:: -1 if seed % 2 else 1]
        found += [(seed, method) for method in order if (seed, method) not in done]
        seed += 1
    return found


def add(path: Path, shared: dict[str, Any], found: dict[str, Any]) -> None:
    """Adds a run to the results, in place of an earlier one of the same scale, method and seed."""
    content = json.loads(path.read_text()) if path.exists() else {"runs": []}
    name = (shared["scale"]["name"], found["method"], found["seed"])
    others = [r for r in content["runs"] if (r["scale"]["name"], r["method"], r["seed"]) != name]
    runs = sorted([*others, {**shared, **found}], key=lambda r: (r["scale"]["name"], r["seed"], r["method"]))
    path.write_text(json.dumps({"command": "python -m benchmarks.real_model", "model": NAME, "runs": runs}) + "\n")


def keep_records(folder: Path, scale: Scale) -> None:
    """Copies the last token records of a run to the results, for docs/figures.md."""
    files = sorted((folder / "token_records").glob("step-*.parquet"))
    target = RESULTS / "real_model" / scale.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in files[-2:]:
        shutil.copy(file, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="seeds per method")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which it stops")
    parser.add_argument("--scale", choices=list(SCALES), help="default: gpu with a GPU, otherwise cpu")
    parser.add_argument("--updates", type=int, help="updates per run, instead of those of the scale")
    parser.add_argument("--gguf", type=Path, help="file of the weights, if the pip packages are not installed")
    parser.add_argument("--folder", type=Path, default=Path("runs/real_model"), help="folder for models and runs")
    parser.add_argument("--results", type=Path, default=RESULTS / "real_model.json", help="file to add results to")
    parser.add_argument("--prepare", action="store_true", help="only write the problems and the tokenizer")
    args = parser.parse_args()
    began = time.monotonic()
    deadline = began + args.budget
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.prepare:
        for scale in SCALES.values():
            load_problems(args.folder, scale.most, scale.instances)
        load_tokenizer(args.folder, args.gguf)
        return
    scale = SCALES[args.scale or ("gpu" if device == "cuda" else "cpu")]
    if args.updates is not None:
        scale = dataclasses.replace(scale, updates=args.updates)

    base, problems = prepare(args.folder, args.gguf, scale)
    print(f"model and problems: {time.monotonic() - began:.0f} s", flush=True)
    folder = args.folder / scale.name
    policy, record = warm_start(base, folder / "warm_start", problems, scale, device)
    before = before_training(folder, base, policy, problems, scale, device)
    print(
        f"warm start: avg@8 {before['warm start']['avg_at_k']:.3f}, {time.monotonic() - began:.0f} s in all", flush=True
    )
    left = missing(args.results, scale, args.seeds)
    while left:
        seed, method = left[0]
        now = time.monotonic()
        if now > deadline:
            break
        share = (deadline - now) / len(left) * (1 - EVALUATION_SHARE)
        print(f"{method}, seed {seed}:", flush=True)
        target = folder / f"{method}-{seed}"
        # Both methods get as many updates, also if time ran out in one
        other = [n for (s, _), n in finished(args.results, scale).items() if s == seed]
        as_long = dataclasses.replace(scale, updates=min([scale.updates, *other]))
        found = run(method, seed, policy, target, problems, as_long, device, now + share)
        shared = {
            "environment": environment(),
            "scale": dataclasses.asdict(as_long),
            "problems": digest(problems),
            "warm_start": record,
            "untrained": before["untrained"],
            "before": before["warm start"],
        }
        add(args.results, shared, found)
        if "after" not in found:
            print(f"{method}, seed {seed}: out of time after update {found['updates']}; call again to continue")
            break
        print(f"{method}, seed {seed}: avg@8 {found['after']['avg_at_k']:.3f} after {found['updates']} updates")
        if method == "archer" and seed == 0 and args.results.parent == RESULTS:
            keep_records(target, scale)
        left.pop(0)


if __name__ == "__main__":
    main()
