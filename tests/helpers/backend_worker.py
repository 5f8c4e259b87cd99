"""One rank of whole training runs on fixed rollouts: `... tests/helpers/backend_worker.py MODEL OUTPUT BACKEND`."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from tests.helpers.backends import BACKENDS, SINGLE, local_share, without_gpu
from tests.helpers.resume_worker import LORA
from tests.helpers.tiny import PROMPTS, TOKENIZER, make_trainer
from trl_archer import ArcherGRPOConfig

GROUP = 4
LONGEST = 40


class Config(ArcherGRPOConfig):
    """Lets ZeRO-3 split parameters of any size; those of a tiny model would stay whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deepspeed_plugin is not None:
            zero = self.deepspeed_plugin.deepspeed_config["zero_optimization"]
            zero["stage3_param_persistence_threshold"] = 0


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


def make(model_path: str, output: Path, backend: str, lora: bool, **changes: Any) -> Any:
    world = 1 if backend == "single" else 2
    set_seed(0)  # of the adapter
    options = {
        # One process keeps TRL's layout and is the measure; the ranks go without padding
        "remove_padding": backend != "single",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 8 // world,
        "steps_per_generation": 8 // world,
        "num_generations": GROUP,
        "num_iterations": 3,
        "max_completion_length": LONGEST,
        "shuffle_dataset": False,
        "max_steps": 3,
        # Adam would divide gradients that are zero but for rounding by their own size
        "adam_epsilon": 1.0,
        "learning_rate": 1.0 if lora else 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.1 if lora else 0.0,  # clipping would hide a wrong scale
        "beta": 0.1,
        "beta_reasoning": 0.02,
        "save_steps": 2,
        "token_records_steps": 3,
        **BACKENDS.get(backend, SINGLE).arguments,
        **changes,
    }
    kwargs = {"rollout_func": rollout, "peft_config": LORA if lora else None}
    return make_trainer(model_path, output, reward_funcs=reward, config_class=Config, trainer_kwargs=kwargs, **options)


def held(parameter: torch.Tensor) -> int:
    """Numbers of a parameter in the memory of this rank: with ZeRO-3 its share, and all of it if that stays, too."""
    return local_share(parameter).numel() + (parameter.numel() if hasattr(parameter, "ds_tensor") else 0)


def outcome(trainer: Any) -> dict[str, Any]:
    """What this rank sees of a run that has ended; the first one has the whole weights."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    logs = [{k: v for k, v in e.items() if "time" not in k} for e in trainer.state.log_history if "loss" in e]
    parameters = list(trainer.model.parameters())
    plugin = trainer.accelerator.state.deepspeed_plugin
    return {
        "num_processes": trainer.accelerator.num_processes,
        "type": trainer.accelerator.distributed_type.value,
        "zero_stage": None if plugin is None else plugin.zero_stage,
        "held": sum(map(held, parameters)),
        "parameters": sum(math.prod(getattr(p, "ds_shape", p.shape)) for p in parameters),
        "logs": logs,
        "weights": {k: v.cpu() for k, v in weights.items()} if trainer.accelerator.is_main_process else {},
    }


def run(model_path: str, output: Path, backend: str, lora: bool, **changes: Any) -> dict[str, Any]:
    """Three steps, of which the last one is made again by another trainer, from the checkpoint before it."""
    trainer = make(model_path, output, backend, lora, **changes)
    trainer.train()
    result = {"undisturbed": outcome(trainer)}
    trainer.save_model(str(output / "final"))
    if backend != "single":
        trainer = make(model_path, output, backend, lora, **changes)
        trainer.train(resume_from_checkpoint=str(output / "out" / "checkpoint-2"))
        result["resumed"] = outcome(trainer)
    return result


def main(cases: dict[str, dict[str, Any]]) -> None:
    """Runs each case, and writes weights and reports of this rank. A case holds the keyword arguments of `run`."""
    model_path, output, backend = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if backend != "single":
        without_gpu(backend)
    results = {name: run(model_path, output / name, backend, **case) for name, case in cases.items()}
    weights = {f"{name} {kind}": x.pop("weights") for name, runs in results.items() for kind, x in runs.items()}
    torch.save(weights, output / f"rank{PartialState().process_index}.pt")
    (output / f"rank{PartialState().process_index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main({"full": {"lora": False}, "lora": {"lora": True}})
