"""
Tests and benchmarks on this machine's GPU, in order of value, until the time is over.

python -m benchmarks.gpu [--budget 600] [--parts smoke,tests,update_phase,real_model]

Writes results/gpu_CARD.json after every part, and results/real_model.json. Without a GPU it is a rehearsal: the same
code on tiny sizes, with its results in runs/.
"""

import argparse
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.environment import RESULTS, environment

from .device import DEVICE, card

ROOT = Path(__file__).parents[2]
# Seconds of a part at most. What a part does not use is left to the next ones
LIMITS = {"smoke": 60.0, "tests": 240.0, "update_phase": 300.0, "real_model": 420.0}
LEAST = 20.0  # seconds that a part must have left to start


def smoke(seconds: float, save: Callable[[Any], None], args: argparse.Namespace) -> dict[str, Any]:
    """Versions, and one training step with sampling on the device."""
    from trl_archer.commands.demo import make_trainer

    with TemporaryDirectory() as folder:
        on_gpu = DEVICE == "cuda"
        trainer = make_trainer(
            "archer",
            1,
            0,
            lora=False,
            output_dir=folder,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            per_device_train_batch_size=16,
        )
        trainer.train()
        log = next(entry for entry in trainer.state.log_history if "reward" in entry)
    properties = torch.cuda.get_device_properties(0) if on_gpu else None
    return {
        "seconds_of_a_step": log["step_time"],
        "triton": version("triton") if find_spec("triton") else None,  # the fused LM head runs it
        "memory": properties.total_memory if properties else None,
        "capability": list(torch.cuda.get_device_capability()) if on_gpu else None,
    }


def tests(seconds: float, save: Callable[[Any], None], args: argparse.Namespace) -> dict[str, Any]:
    """The tests of `make test-gpu`; in a rehearsal, those of the CPU."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        chosen = ["-m", "gpu"] if DEVICE == "cuda" else ["-m", "not gpu and not slow and not distributed"]
        command = [sys.executable, "-m", "pytest", "-q", "-x" if args.fail_fast else "-q", "-p", "no:cacheprovider"]
        command += [
            "-W",
            "default",
            *chosen,
            "tests/gpu",
            f"--junitxml={report}",
            "--durations=10",
            "-o",
            "junit_logging=no",
        ]
        outcome = stream(command, seconds)
        if not report.exists():
            return {"exit": outcome, "error": "no report: the time was over, or pytest failed to start"}
        suite = next(ET.parse(report).getroot().iter("testsuite"))
        counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
        peaks = {
            str(case.get("name")): float(str(entry.get("value")))
            for case in suite.iter("testcase")
            for entry in case.iter("property")
            if entry.get("name") == "peak_gib"
        }
        return {"exit": outcome, **counts, "failed": failed, "peak_gib": peaks}


def update_phase(seconds: float, save: Callable[[Any], None], args: argparse.Namespace) -> dict[str, Any]:
    """The update phase relative to TRL's."""
    from . import update_phase as benchmark

    return benchmark.run(save, time.monotonic() + seconds)


def real_model(seconds: float, save: Callable[[Any], None], args: argparse.Namespace) -> dict[str, Any]:
    """Gemma 3 270M with both methods; its results are in a file of their own."""
    command = [sys.executable, "-m", "benchmarks.real_model", "--budget", str(max(1.0, seconds - LEAST))]
    command += ["--folder", str(args.model_folder)]
    if args.gguf:
        command += ["--gguf", str(args.gguf)]
    if DEVICE == "cpu":
        command += ["--scale", "rehearsal", "--results", str(args.output / "real_model.json")]
    return {"exit": stream(command, seconds)}


PARTS = {part.__name__: part for part in (smoke, tests, update_phase, real_model)}


def stream(command: list[str], seconds: float) -> int | None:
    """Runs a command with its output on this terminal; `None` if the time was over."""
    print(f"$ {' '.join(command[1:])}", flush=True)
    try:
        return subprocess.run(command, cwd=ROOT, check=False, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return None


def table(result: dict[str, Any]) -> str:
    """The results on a few lines."""
    from .update_phase import describe

    lines = [f"{'part':14}{'seconds':>8}  result"]
    for name, part in result["parts"].items():
        shown = part.get("error") or ", ".join(
            f"{key} {part[key]}" for key in ("exit", "tests", "failures", "errors", "skipped") if key in part
        )
        lines.append(f"{name:14}{part['seconds']:8.0f}  {shown or 'done'}")
        lines += [f"  {case}: {describe(found)}" for case, found in part.get("cases", {}).items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=900.0, help="seconds in all")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to run, in this order")
    parser.add_argument("--output", type=Path, help="folder of the results; default benchmarks/results, or runs")
    parser.add_argument("--model-folder", type=Path, default=Path("runs/real_model"), help="see benchmarks.real_model")
    parser.add_argument("--gguf", type=Path, help="file of Gemma's weights, if the packages are not installed")
    parser.add_argument("--fail-fast", action="store_true", help="stop the tests at the first failure")
    args = parser.parse_args()
    parts = args.parts.split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"--parts has {unknown[0]!r}, which is none of {', '.join(PARTS)}.")
    args.output = args.output or (RESULTS if DEVICE == "cuda" else ROOT / "runs")
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"gpu_{card()}.json"
    deadline = time.monotonic() + args.budget
    earlier = json.loads(path.read_text())["parts"] if path.exists() else {}
    result: dict[str, Any] = {"command": "python -m benchmarks.gpu", "environment": environment(), "parts": earlier}

    for name in parts:
        left = min(LIMITS[name], deadline - time.monotonic())
        if left < LEAST:
            print(f"{name}: not started, the time is over")
            continue
        print(f"== {name}, at most {left:.0f} s", flush=True)
        began = time.monotonic()

        def save(found: dict[str, Any], name: str = name, began: float = began) -> None:
            result["parts"][name] = {**found, "seconds": time.monotonic() - began}
            path.write_text(json.dumps(result, indent=2) + "\n")

        try:
            found = PARTS[name](left, save, args)
        except Exception as error:
            found = {**result["parts"].get(name, {}), "error": f"{type(error).__name__}: {error}"}
        save(found)
    print(f"\n{torch.cuda.get_device_name() if DEVICE == 'cuda' else 'CPU rehearsal'}: {path}")
    print(table(result))
    ran = [result["parts"][name] for name in parts if name in result["parts"]]
    return int(len(ran) < len(parts) or any(part.get("exit", 0) != 0 or "error" in part for part in ran))


if __name__ == "__main__":
    sys.exit(main())
