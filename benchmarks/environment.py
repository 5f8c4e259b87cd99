"""Environment and storage of results."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Commit, machine and versions of a measurement."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "commit": git.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} x {platform.machine()} cores, {gpu}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("trl-archer", "trl", "transformers", "torch")},
    }


def save(name: str, result: dict[str, Any]) -> Path:
    """Writes `results/{name}.json` with the environment and returns its path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **result}, indent=2) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """Reads `results/{name}.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text())
