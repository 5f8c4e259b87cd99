"""One rank of whole training runs with other methods: `... tests/helpers/methods_worker.py MODEL OUTPUT BACKEND`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from tests.helpers.backend_worker import make, outcome
from tests.helpers.backends import without_gpu

METHODS: dict[str, dict[str, Any]] = {
    "archer2": {"surrogate": "aspo", "epsilon_reasoning": 0.4, "beta_reasoning": 0.1},
    "cispo": {"surrogate": "cispo"},
    "dppo": {"surrogate": "dppo"},
    "flexible": {"clip_range": "probability", "clip_schedule": "oscillate", "epsilon_reasoning": 0.2},
    "opefo": {"token_weights": "opefo", "num_iterations": 1},
    "lagged opefo": {"token_weights": "opefo", "opefo_off_policy": True},
    "probability": {"token_weights": "probability"},
    "steer": {"token_weights": "steer"},
    "clip-cov": {"token_weights": "clip_cov", "clip_cov_ratio": 0.1, "clip_cov_low": 0.1},
}


def run(model_path: str, output: Path, backend: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Three steps, of which the last one is made again by another trainer, from the checkpoint before it."""
    changes = {"token_records_steps": None, **changes}
    trainer = make(model_path, output, backend, lora=False, **changes)
    trainer.train()
    result = {"undisturbed": outcome(trainer)}
    if backend != "single":
        trainer = make(model_path, output, backend, lora=False, **changes)
        trainer.train(resume_from_checkpoint=str(output / "out" / "checkpoint-2"))
        result["resumed"] = outcome(trainer)
    return result


def main() -> None:
    model_path, output, backend = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if backend != "single":
        without_gpu(backend)
    results = {name: run(model_path, output / name, backend, changes) for name, changes in METHODS.items()}
    weights = {f"{name} {kind}": x.pop("weights") for name, runs in results.items() for kind, x in runs.items()}
    torch.save(weights, output / f"rank{PartialState().process_index}.pt")
    (output / f"rank{PartialState().process_index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
