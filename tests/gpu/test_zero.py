"""ZeRO-1, 2 and 3 on one device train as plain PyTorch does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..helpers.backends import CONFIGS, ROOT, TIME_LIMIT, needs_deepspeed
from .conftest import CUDA
from .zero_worker import train

pytestmark = needs_deepspeed
RELATIVE = 1e-4  # of the largest change of a weight


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.distributed), CUDA])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stage_trains_as_one_process(device: str, path: str, output: Path, stage: int) -> None:
    trainer = train(device, path, output / "plain")
    before = type(trainer.model).from_pretrained(path, dtype=torch.float32).state_dict()
    expected = {name: value.cpu() for name, value in trainer.model.state_dict().items()}
    folder = output / "zero"
    folder.mkdir()
    options = ["--num_processes", "1", "--mixed_precision", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(CONFIGS / f"zero{stage}.yaml"), *options]
    command += [str(ROOT / "tests" / "gpu" / "zero_worker.py"), device, path, str(folder), str(stage)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    assert result.returncode == 0, result.stderr[-6000:]
    report = json.loads((folder / "report.json").read_text())
    assert (report["type"], report["stage"], report["device"]) == ("DEEPSPEED", stage, device)
    assert report["split"] == (stage == 3)
    found = torch.load(folder / "weights.pt")
    largest = max((expected[name] - before[name]).abs().max().item() for name in expected)
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) <= RELATIVE * largest
