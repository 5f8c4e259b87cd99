"""The backends that the tests start on two processes, each from the configuration that users get, on CPUs."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.distributed.tensor import DTensor

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "examples" / "accelerate_configs"
TIME_LIMIT = 240  # seconds; a hang is a failure


class Backend(NamedTuple):
    """How a backend starts without a GPU, and what has to be true once it has."""

    distributed_type: str
    arguments: dict[str, Any] = {"use_cpu": False, "ddp_backend": "gloo"}
    environment: dict[str, str] = {}
    zero_stage: int | None = None


# By the name of the file in examples/accelerate_configs
BACKENDS = {
    "ddp": Backend("MULTI_CPU", arguments={"use_cpu": True}),
    "zero2": Backend("DEEPSPEED", zero_stage=2),
    "zero3": Backend("DEEPSPEED", zero_stage=3),
    "fsdp2": Backend("FSDP", environment={"ACCELERATE_TORCH_DEVICE": "cpu"}),
}
SINGLE = Backend("NO", arguments={"use_cpu": True})
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs DeepSpeed (pip install 'trl-archer[deepspeed]')"
)
EACH = [pytest.param(name, marks=needs_deepspeed if x.zero_stage else ()) for name, x in BACKENDS.items()]


def without_gpu(backend: str) -> None:
    """Lets this process go through the code of a backend on a CPU. Call it before a configuration is made."""
    import transformers.training_args

    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    if BACKENDS[backend].zero_stage is not None:
        # A C++ extension for inference: 31 seconds of compiling that training has no use for, and a compiler that is
        # killed leaves a lock that every later start waits for. The attribute `deepspeed.comm.torch` is torch itself.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    elif backend == "fsdp2":
        from accelerate import DistributedType, PartialState

        # Without a GPU accelerate would find no backend, and train two models with no word to each other
        PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)


def local_share(parameter: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a parameter: all of it, unless ZeRO-3 or FSDP2 has split it."""
    return parameter.to_local() if isinstance(parameter, DTensor) else getattr(parameter, "ds_tensor", parameter)


def launch(backend: str | None, worker: str, model_path: str, output: Path, *arguments: str) -> list[dict[str, Any]]:
    """What each rank of `python tests/helpers/WORKER MODEL OUTPUT ...` reports: two of a backend, or one process."""
    command, environment = [sys.executable], {}
    if backend is not None:
        environment = BACKENDS[backend].environment
        options = ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0"]
        config = str(CONFIGS / f"{backend}.yaml")
        command += ["-m", "accelerate.commands.launch", "--config_file", config, *options]
    output.mkdir()
    result = subprocess.run(
        [*command, str(ROOT / "tests" / "helpers" / worker), model_path, str(output), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    assert result.returncode == 0, result.stderr[-6000:]
    return [json.loads(path.read_text()) for path in sorted(output.glob("rank*.json"))]
