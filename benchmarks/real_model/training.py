"""One run: a method and a seed from the warm start, measured before, during and after training."""

import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer
from trl_archer.rewards import math_reward

from .evaluate import accuracy
from .knowledge import knowledge
from .scales import Scale
from .task import Problem, to_dataset
from .weights import load

CURVES = ("reward", "entropy", "kl", "entropy/reasoning", "entropy/knowledge", "kl/reasoning", "kl/knowledge")
METHODS = {"archer": (ArcherGRPOTrainer, ArcherGRPOConfig), "grpo": (DurableGRPOTrainer, DurableGRPOConfig)}


def measure(
    model: PreTrainedModel,
    tokenizer: Any,
    problems: dict[str, list[Problem]],
    scale: Scale,
    start: PreTrainedModel,
    count: int,
) -> dict[str, Any]:
    """Accuracy on held-out problems and on those about unseen animals, roles, and knowledge."""
    found = accuracy(model, tokenizer, problems["held_out"][:count], 8, scale, start)
    unseen = accuracy(model, tokenizer, problems["unseen"][: count // 4], 8, scale)
    found["unseen/avg_at_k"] = unseen["avg_at_k"]
    return {**found, **knowledge(model, tokenizer, scale.facts_every)}


class Evaluations(TrainerCallback):
    """Measures the policy every few updates."""

    def __init__(self, scale: Scale, problems: dict[str, list[Problem]], start: PreTrainedModel, tokenizer: Any):
        self.scale, self.problems, self.start, self.tokenizer = scale, problems, start, tokenizer
        self.found: list[dict[str, Any]] = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.scale.evaluate_every == 0 and state.global_step < state.max_steps:
            found = measure(model, self.tokenizer, self.problems, self.scale, self.start, self.scale.problems_between)
            found.pop("correct")
            self.found.append({"step": state.global_step, **found})


class Deadline(TrainerCallback):
    """Saves and stops at the end of the rollout in which the time is over."""

    def __init__(self, deadline: float, updates_per_rollout: int):
        self.deadline, self.updates_per_rollout = deadline, updates_per_rollout

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() > self.deadline and state.global_step % self.updates_per_rollout == 0:
            control.should_save = args.save_strategy != "no"
            control.should_training_stop = True


class Report(TrainerCallback):
    """A line per rollout."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "reward" in logs:
            print(f"  update {state.global_step:3d}: reward {logs['reward']:.3f}", flush=True)


def make_trainer(
    method: str, seed: int, policy: Path, folder: Path, problems: list[Problem], scale: Scale, device: str, **own: Any
) -> Any:
    """A trainer of the method. All settings that both have are equal, but for TRL's defaults of loss and KL."""
    trainer_class, config_class = METHODS[method]
    on_gpu = device == "cuda"
    model, tokenizer = load(policy, device)
    args = config_class(
        output_dir=str(folder),
        use_cpu=not on_gpu,
        bf16=on_gpu,
        gradient_checkpointing=False,
        learning_rate=scale.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=5,
        per_device_train_batch_size=scale.micro_batch,
        gradient_accumulation_steps=scale.micro_batches,
        steps_per_generation=scale.micro_batches * scale.updates_per_rollout,
        num_generations=scale.group,
        max_completion_length=scale.longest,
        temperature=1.0,
        max_steps=scale.updates,
        logging_steps=1,
        save_strategy="steps" if scale.checkpoint_every else "no",
        save_steps=scale.checkpoint_every or 500,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        **own,
    )
    trainer = trainer_class(
        model, math_reward, args=args, train_dataset=to_dataset(problems), processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Report())
    return trainer


def run(
    method: str,
    seed: int,
    policy: Path,
    folder: Path,
    problems: dict[str, list[Problem]],
    scale: Scale,
    device: str,
    deadline: float,
) -> dict[str, Any]:
    """
    Trains from the warm start, or from the last checkpoint of an earlier call, and measures the policy.

    Returns:
        `dict`: The result. Without `after`, time ran out and the next call continues.
    """
    records = {"token_records_steps": 4 * scale.updates_per_rollout} if method == "archer" and seed == 0 else {}
    trainer = make_trainer(method, seed, policy, folder, problems["train"], scale, device, **records)
    start, tokenizer = load(policy, device)
    evaluations = Evaluations(scale, problems, start.eval(), tokenizer)
    trainer.add_callback(evaluations)
    trainer.add_callback(Deadline(deadline, scale.updates_per_rollout))
    began = time.perf_counter()
    trainer.train(resume_from_checkpoint=True if any(folder.glob("checkpoint-*")) else None)
    result = {
        "method": method,
        "seed": seed,
        "updates": trainer.state.global_step,
        "seconds": time.perf_counter() - began,  # of this call
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "during": evaluations.found,
        "curves": curves(trainer.state.log_history),
    }
    if result["updates"] == scale.updates or not scale.checkpoint_every:
        result["after"] = measure(trainer.model, tokenizer, problems, scale, start, scale.problems)
    return result


def curves(log_history: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Step and value of the logged metrics."""
    return {
        name: [[entry["step"], round(entry[name], 5)] for entry in log_history if entry.get(name) is not None]
        for name in CURVES
    }
