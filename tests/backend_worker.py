"""One rank of a whole training run on fixed rollouts: `... tests/backend_worker.py BACKEND MODEL OUTPUT`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from tests.tiny import PROMPTS, TOKENIZER, make_trainer

GROUP = 4
LONGEST = 40


def completion_of(prompt: str, index: int) -> list[int]:
    """Tokens of a fixed completion; those of the first half of the prompts, one of two ranks, are much longer."""
    number = PROMPTS.index(prompt)
    length = LONGEST - 3 * index if number < len(PROMPTS) // 2 else 1 + (number + index) % 3
    return [3 + (7 * number + 5 * index + 11 * t) % (len(TOKENIZER) - 3) for t in range(length)]


def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Stands in for generation, so that one process and two train on the same tokens."""
    completions = [completion_of(prompt, row % GROUP) for row, prompt in enumerate(prompts)]
    return {
        "prompt_ids": [TOKENIZER(prompt)["input_ids"] for prompt in prompts],
        "completion_ids": completions,
        "logprobs": None,
    }


def reward(prompts: list[str], completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """Rewards that differ inside every group of the first half of the prompts only: rank 1 has no signal at all."""
    half = len(PROMPTS) // 2
    return [
        float(sum(ids) % 5) if PROMPTS.index(p) < half else 1.0 for p, ids in zip(prompts, completion_ids, strict=True)
    ]


def main() -> None:
    backend, model_path, output = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    placement = {"use_cpu": True} if backend in ("single", "ddp") else {"use_cpu": False, "ddp_backend": "gloo"}
    world = 1 if backend == "single" else 2
    trainer = make_trainer(
        model_path,
        output,
        reward_funcs=reward,
        trainer_kwargs={"rollout_func": rollout},
        # One process keeps TRL's layout and is the measure; the ranks go without padding
        remove_padding=backend != "single",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8 // world,
        steps_per_generation=8 // world,
        num_generations=GROUP,
        num_iterations=2,
        max_completion_length=LONGEST,
        shuffle_dataset=False,
        max_steps=3,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        beta=0.1,
        beta_reasoning=0.02,
        save_strategy="no",
        **placement,
    )
    trainer.train()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    history = [{k: v for k, v in e.items() if "time" not in k} for e in trainer.state.log_history if "loss" in e]
    result: dict[str, Any] = {
        "num_processes": trainer.accelerator.num_processes,
        "type": str(trainer.accelerator.distributed_type),
        "metrics": history,
    }
    if trainer.accelerator.is_main_process:
        torch.save({name: tensor.cpu() for name, tensor in state.items()}, output / "weights.pt")
        plugin = trainer.accelerator.state.deepspeed_plugin
        result["zero_stage"] = None if plugin is None else plugin.zero_stage
    (output / f"rank{PartialState().process_index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
