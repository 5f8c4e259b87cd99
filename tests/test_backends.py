"""Whole runs on two processes, DDP and ZeRO-3, equal one in TRL's layout; one rank has nothing to learn from."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .tolerances import RANK_SPLIT

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parent.parent
TIME_LIMIT = 300  # seconds; a hang is a failure

DDP = "distributed_type: MULTI_GPU\ngpu_ids: all\nnum_machines: 1\nnum_processes: 2\nmixed_precision: 'no'\n"
ZERO3 = """\
distributed_type: DEEPSPEED
deepspeed_config:
  deepspeed_config_file: {file}
  zero3_init_flag: true
num_machines: 1
num_processes: 2
"""
# Without the threshold, a tiny model stays whole on every rank
ZERO3_JSON = {
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "zero_allow_untested_optimizer": True,
    "gradient_clipping": 0.0,  # as in the other runs
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
}
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None or shutil.which("g++") is None,
    reason="needs DeepSpeed and a C++ compiler (pip install 'trl-archer[deepspeed]')",
)


def run(backend: str, model_path: str, folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and what each rank reports."""
    output = folder / backend
    output.mkdir()
    command = [sys.executable]
    if backend != "single":
        (folder / "ds.json").write_text(json.dumps(ZERO3_JSON))
        config = DDP if backend == "ddp" else ZERO3.format(file=folder / "ds.json")
        (folder / f"{backend}.yaml").write_text(config)
        command += ["-m", "accelerate.commands.launch", "--config_file", str(folder / f"{backend}.yaml")]
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where ninja is
    }
    result = subprocess.run(
        [*command, str(ROOT / "tests" / "backend_worker.py"), backend, model_path, str(output)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    ranks = [json.loads(path.read_text()) for path in sorted(output.glob("rank*.json"))]
    return torch.load(output / "weights.pt"), ranks


@pytest.fixture(scope="module")
def single(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], Any]:
    weights, ranks = run("single", model_path, tmp_path_factory.mktemp("single"))
    assert [rank["num_processes"] for rank in ranks] == [1]
    assert ranks[0]["metrics"][0]["archer/dropped_groups"] == 4
    return weights, ranks[0]["metrics"]


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("ddp", "DistributedType.MULTI_CPU"), pytest.param("zero3", "DistributedType.DEEPSPEED", marks=needs_deepspeed)],
)
def test_two_ranks_equal_one_process(single: Any, model_path: str, tmp_path: Path, backend: str, kind: str) -> None:
    weights, ranks = run(backend, model_path, tmp_path)
    assert [(rank["num_processes"], rank["type"]) for rank in ranks] == [(2, kind)] * 2
    assert ranks[0]["zero_stage"] == (3 if backend == "zero3" else None)
    expected, expected_metrics = single
    largest = max(tensor.abs().max().item() for tensor in expected.values())
    for name, tensor in expected.items():
        assert (weights[name] - tensor).abs().max().item() <= RANK_SPLIT * largest, name
    ours = ("archer/", "entropy", "kl", "clip_ratio", "completions/repetition")
    assert len(expected_metrics) == 3
    for step, logs in enumerate(expected_metrics):
        for rank in ranks:
            for metric, value in logs.items():
                if metric.startswith(ours):
                    got = rank["metrics"][step][metric]
                    assert got == (value if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)), metric
