"""A run with DeepSpeed on one device: `... tests/gpu/zero_worker.py DEVICE MODEL OUTPUT STAGE`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.gpu.rollouts import on
from tests.helpers.backend_worker import Config
from tests.helpers.backends import local_share, without_gpu


def train(device: str, path: str, output: Path, **options: Any) -> Any:
    """Three updates on fixed rollouts in float32."""
    trainer = on(device, path, output, config_class=Config, max_steps=3, beta_reasoning=0.02, **options)
    trainer.train()
    return trainer


def main() -> None:
    device, path, output, stage = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    options: dict[str, Any] = {}
    if device == "cpu":
        without_gpu(f"zero{max(stage, 2)}")
        options = {"use_cpu": False, "ddp_backend": "gloo"}
    trainer = train(device, path, output, **options)
    plugin = trainer.accelerator.state.deepspeed_plugin
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    torch.save({name: value.cpu() for name, value in weights.items()}, output / "weights.pt")
    report = {
        "type": trainer.accelerator.distributed_type.value,
        "stage": plugin.zero_stage,
        "device": trainer.accelerator.device.type,
        "split": all(hasattr(p, "ds_tensor") for p in trainer.model.parameters()),
        "elements": sum(local_share(p).numel() for p in trainer.model.parameters()),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    (output / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
