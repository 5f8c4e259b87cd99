"""Environment and storage of results."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import trl_archer

RESULTS = Path(__file__).parent / "results"


def commit() -> str:
    """
    The commit of the code: `GIT_COMMIT` if set, for a copy without its repository, otherwise git's answer. Changed
    results and docs, which no measurement reads, do not make it dirty.
    """
    if os.environ.get("GIT_COMMIT"):
        return os.environ["GIT_COMMIT"]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/benchmarks/results", ":!/docs")
    return (_git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


def _git(*command: str) -> str:
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def environment() -> dict[str, Any]:
    """Commit, machine and versions of a measurement."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "commit": commit(),
        "machine": f"{os.cpu_count()} x {platform.machine()} cores, {gpu}",
        "python": platform.python_version(),
        "trl-archer": trl_archer.__version__,  # which may not be installed, only on the path
        **{name: version(name) for name in ("trl", "transformers", "torch")},
    }


def save(name: str, result: dict[str, Any]) -> Path:
    """Writes `results/{name}.json` with the environment and returns its path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **result}, indent=2) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """Reads `results/{name}.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text())
