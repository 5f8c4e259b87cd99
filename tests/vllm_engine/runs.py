"""Starts each worker in its own process, and checks what holds for every kind of engine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .settings import PID_FILE, ROLLOUTS, free_port

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 600  # seconds; a hang is a failure

MOVED = 1e-2  # nats; the least that an update must change
SAME_WEIGHTS = 1e-4  # nats; two float32 implementations


def run(worker: str, kind: str, folder: Path) -> dict[str, Any]:
    """Runs a worker and returns its measurements."""
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "MASTER_PORT": str(free_port()),
        "TORCHDYNAMO_DISABLE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [sys.executable, str(ROOT / "tests" / "vllm_engine" / worker), kind, str(folder)]
    try:
        result = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        if (folder / PID_FILE).exists():  # the server outlives a killed worker
            os.killpg(int((folder / PID_FILE).read_text()), signal.SIGKILL)
        raise
    log = folder / "server.log"
    printed = result.stderr[-4000:] + (log.read_text()[-4000:] if log.exists() else "")
    assert result.returncode == 0, printed
    return json.loads((folder / "facts.json").read_text())


def assert_weights_arrive(facts: dict[str, Any]) -> None:
    """The engine has the trained weights after a sync and not before, and they differ from the initial ones."""
    gaps = facts["gaps"]
    assert gaps["start"] <= SAME_WEIGHTS
    assert gaps["before the last sync"] > MOVED
    assert gaps["after the last sync"] <= SAME_WEIGHTS
    assert gaps["to the initial model"] > MOVED


def assert_rollouts_come_from_the_policy(facts: dict[str, Any]) -> None:
    """TRL sends the weights in time: during training, each rollout is sampled from the policy that it updates."""
    name = "sampling/sampling_logp_difference/max"
    differences = [entry[name] for entry in facts["logs"] if name in entry]
    assert len(differences) == ROLLOUTS
    assert max(differences) <= SAME_WEIGHTS


def assert_correction_enters_the_loss(facts: dict[str, Any], mode: str, per_token: bool) -> None:
    """The importance ratio of samples from outdated weights multiplies the Archer loss, as in the oracle."""
    correction = facts["corrections"][mode]
    rows, columns = correction["mask shape"]
    assert correction["shape"] == [rows, columns if per_token else 1], correction
    lowest, highest = correction["ratio"]
    assert max(1 - lowest, highest - 1) > MOVED
    assert correction["loss"] == pytest.approx(correction["oracle"], rel=1e-5, abs=1e-6)
    assert abs(correction["loss"] - correction["oracle without ratio"]) > 1e-4
