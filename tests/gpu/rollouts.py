"""Trainers on a device with fixed rollouts, and one optimizer step of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from ..helpers.tiny import TOKENIZER, make_trainer

ROWS, GROUP = 8, 4
LENGTHS = {"cpu": (3, 11, 7, 12, 5, 1, 9, 12), "cuda": (40, 300, 17, 211, 96, 1, 150, 300)}
PRECISIONS = {"float32": {"bf16": False}, "bfloat16": {"bf16": True}}


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, len(TOKENIZER), (count,), generator=generator).tolist()


def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Stands in for generation: completions of unequal, fixed lengths."""
    lengths = LENGTHS[trainer.accelerator.device.type]
    return {
        "prompt_ids": [tokens(2 + row // GROUP * 3, 100 + row // GROUP) for row in range(len(prompts))],
        "completion_ids": [tokens(lengths[row % ROWS], row) for row in range(len(prompts))],
        "logprobs": None,
    }


def on(device: str, path: str, output: Path, fixed: bool = True, **options: Any) -> Any:
    """A trainer on the device. `fixed` replaces generation by `rollout`."""
    set_seed(0)  # of an adapter
    kwargs = options.pop("trainer_kwargs", {})
    if fixed:
        kwargs = {"rollout_func": rollout, **kwargs}
    settings = {
        "use_cpu": device == "cpu",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": GROUP,
        "max_completion_length": max(LENGTHS[device]),
        "steps_per_generation": 4,  # two updates per rollout, so that old log-probabilities are computed
        "beta": 0.1,
        "shuffle_dataset": False,
        "optim": "sgd",  # Adam would blow rounding up where a gradient is nearly 0
        "learning_rate": 0.1,
        **options,
    }
    trainer = make_trainer(path, output, trainer_kwargs=kwargs, **settings)
    assert trainer.accelerator.device.type == device
    return trainer


def micro_batches(trainer: Any) -> list[dict[str, Any]]:
    """The micro-batches of the first update of a rollout, with old and reference log-probabilities."""
    trainer.model.train()
    trainer._step, trainer._buffered_inputs = 0, None
    torch.manual_seed(2)  # of TRL's shuffle
    rows = [{"prompt": "4 >"}] * (ROWS * 2)
    batches = []
    for step in range(trainer.args.gradient_accumulation_steps):
        trainer._step = step
        batches.append(trainer._prepare_inputs(rows))
    for batch in batches:  # the first step of a rollout is on-policy, so the trainer keeps no scores for it
        if "old_per_token_logps" not in batch:
            with torch.no_grad():
                batch["old_per_token_logps"] = trainer._logps(trainer.model, batch)
    return batches


def move(model: torch.nn.Module, size: float = 0.02) -> None:
    """Changes the trained weights as an update would, so that ratios leave 1. Equal for equal models."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = (
                size * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator).to(parameter)
            )
            if parameter.requires_grad:
                parameter += noise


def step(trainer: Any, batches: Sequence[dict[str, Any]]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of an optimizer step, in float64 on the CPU."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(batches)
    total = 0.0
    for batch in batches:
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        total += loss.item()
    return total, {
        name: parameter.grad.double().cpu()
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None
    }


def update(trainer: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of an update by a policy that has moved since it sampled."""
    batches = micro_batches(trainer)
    move(trainer.model)
    return step(trainer, batches)


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """L2 distance of two gradients, relative to the norm of the second."""
    assert left.keys() == right.keys()
    squares = sum((left[name] - right[name]).square().sum() for name in right)
    return (squares / sum(gradient.square().sum() for gradient in right.values())).sqrt().item()


def equal_roles(**changes: Any) -> dict[str, Any]:
    """Settings with which Archer is GRPO."""
    return {"epsilon_reasoning": 0.2, "beta_reasoning": 0.1, "mask_zero_std_groups": False, **changes}
