"""One rank of a multi-process test: `accelerate launch ... tests/helpers/distributed_worker.py MODEL OUTPUT`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.helpers.tiny import PROMPTS, make_inputs, make_trainer, scored_rollout

ROWS = 8
PROMPT_LENGTHS = (3, 6, 1, 4, 2, 5, 6, 2)
COMPLETION_LENGTHS = (9, 4, 1, 12, 3, 2, 1, 5)  # the first half, one of two ranks, has most of the tokens
STEPS = 3


def local_batch(inputs: dict[str, Any], rank: int, world: int) -> dict[str, Any]:
    """The rows of a rank, in contiguous slices as TRL deals them out."""
    share = ROWS // world
    return {k: v[rank * share : (rank + 1) * share] if v.ndim else v for k, v in inputs.items()}


def fixed_batches(model_path: str, output: Path, loss_type: str, drop: bool, trim: bool) -> dict[str, Any]:
    """
    Three SGD steps on a fixed global batch. `drop` takes every completion of the last half away, a rank's share; `trim`
    removes what is not real from each rank's rows, as `remove_padding` does.
    """
    trainer = make_trainer(
        model_path, output, per_device_train_batch_size=4, loss_type=loss_type, beta=0.1, beta_reasoning=0.02
    )
    accelerator = trainer.accelerator
    inputs = make_inputs(trainer, PROMPT_LENGTHS, COMPLETION_LENGTHS)
    inputs["num_sequences_in_batch"] = torch.tensor(ROWS)
    if drop:
        inputs["completion_mask"][ROWS // 2 :] = 0
        inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
        inputs["num_sequences_in_batch"] = torch.tensor(ROWS // 2)
    batch = local_batch(inputs, accelerator.process_index, accelerator.num_processes)
    if trim:
        batch = trainer._lay_out([batch])[0]
    model = accelerator.prepare_model(trainer.model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer.current_gradient_accumulation_steps = 1
    for _ in range(STEPS):
        optimizer.zero_grad()
        accelerator.backward(trainer.compute_loss(model, dict(batch)))
        optimizer.step()
    logs: dict[str, float] = {}
    trainer.log(logs)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {"metrics": logs, "weights": weights.tolist()}


def reward(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    """Groups of the second half of the prompts never differ."""
    half = len(PROMPTS) // 2
    return [float(len(c) % 7) if PROMPTS.index(p) < half else 1.0 for p, c in zip(prompts, completions, strict=True)]


def whole_run(model_path: str, output: Path) -> dict[str, Any]:
    """Generation, rewards and training, with groups dropped on some ranks only."""
    trainer = make_trainer(
        model_path, output, reward_funcs=reward, num_iterations=2, steps_per_generation=2, max_steps=4, seed=1
    )
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    history = [{k: v for k, v in entry.items() if "time" not in k} for entry in trainer.state.log_history[:-1]]
    return {"metrics": history, "weights": weights.tolist()}


def rollout(model_path: str, output: Path) -> dict[str, Any]:
    """What one rank makes of a rollout in which only rank 0 has groups with a signal."""
    from accelerate import PartialState

    rank = PartialState().process_index

    def differs_on_rank_0(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(index % 2) if rank == 0 else 1.0 for index in range(len(completions))]

    trainer = make_trainer(model_path, output, reward_funcs=differs_on_rank_0, num_iterations=2, seed=rank)
    trainer.model.train()
    batch = scored_rollout(trainer)
    return {
        "kept": batch["completion_mask"].any(dim=1).tolist(),
        "tokens": batch["completion_mask"].sum().item(),
        "num_items_in_batch": batch["num_items_in_batch"].item(),
        "num_sequences_in_batch": batch["num_sequences_in_batch"].item(),
        "dropped_groups": trainer._metrics["train"]["archer/dropped_groups"],
    }


def main() -> None:
    model_path, output = sys.argv[1], Path(sys.argv[2])
    from accelerate import PartialState

    results: dict[str, Any] = {}
    for loss_type in ("dapo", "grpo", "dr_grpo"):
        for drop in (False, True):
            for trim in (False, True):
                name = f"{loss_type}{' drop' if drop else ''}{' trim' if trim else ''}"
                results[name] = fixed_batches(model_path, output, loss_type, drop, trim)
    results["run"] = whole_run(model_path, output)
    results["rollout"] = rollout(model_path, output)
    state = PartialState()
    results["world"] = {"num_processes": state.num_processes, "type": str(state.distributed_type)}
    (output / f"rank{state.process_index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
