"""A tiny model and tokenizer, made on the spot, and trainers and batches around them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from trl import GRPOTrainer

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.playground.policy import build_tokenizer

from . import oracle

TOKENIZER = build_tokenizer()
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": TOKENIZER.pad_token_id,
    "bos_token_id": None,
    "eos_token_id": TOKENIZER.eos_token_id,
    "initializer_range": 0.3,  # wide, so that entropies differ from token to token
    "dtype": "float32",
}
PROMPTS = ["3 5 6 8 = 10 >", "1 2 = 3 >", "7 7 9 11 = 20 >", "4 >", "2 4 6 8 = 12 >", "9 = 9 >", "1 1 1 1 = 4 >", "5 >"]


def save_model(directory: Path, moe: bool = False, **changes: Any) -> str:
    """Writes a randomly initialized model that TRL can load by path, as it does for the reference model."""
    sizes = {**SIZES, "intermediate_size": 48, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if moe:
            experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
            model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts))
        else:
            model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.save_pretrained(directory)
    TOKENIZER.save_pretrained(directory)
    return str(directory)


def length_reward(completions: Sequence[str], **kwargs: Any) -> list[float]:
    """Differs from completion to completion, so that groups carry an advantage."""
    return [float(len(completion) % 7) for completion in completions]


def make_trainer(
    path: str,
    tmp_path: Path,
    trainer_class: type[GRPOTrainer] = ArcherGRPOTrainer,
    reward_funcs: Callable | list[Callable] = length_reward,
    dataset: Dataset | None = None,
    config_class: type = ArcherGRPOConfig,
    trainer_kwargs: dict[str, Any] | None = None,
    model: Any = None,
    **config: Any,
) -> Any:
    """A trainer on the CPU in float32, with small batches unless told otherwise. `model` replaces the one at `path`."""
    options = {
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 12,
        "max_steps": 2,
        **config,
    }
    dataset = Dataset.from_dict({"prompt": PROMPTS}) if dataset is None else dataset
    args = config_class(**options)  # before the model, which ZeRO-3 splits while it is loaded
    return trainer_class(
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) if model is None else model,
        reward_funcs,
        args=args,
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=TOKENIZER,
        **(trainer_kwargs or {}),
    )


def make_inputs(
    trainer: Any,
    prompt_lengths: Sequence[int] = (3, 6, 1, 4),
    completion_lengths: Sequence[int] = (9, 4, 1, 7),
    *,
    seed: int = 0,
    drift: float = 0.4,
    off_policy: bool = True,
) -> dict[str, Any]:
    """
    A batch as TRL hands it to `compute_loss`: prompts padded on the left, completions on the right.

    Old and reference log-probabilities differ from the policy's by noise of `drift` nats, so that ratios lie inside
    and outside of both clip ranges.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, width, height = len(prompt_lengths), max(completion_lengths), max(prompt_lengths)
    ids = torch.randint(3, len(TOKENIZER), (rows, height + width), generator=generator)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(zip(prompt_lengths, completion_lengths, strict=True)):
        mask[row, height - prompt : height + completion] = 1
    ids = torch.where(mask.bool(), ids, TOKENIZER.pad_token_id)
    inputs: dict[str, Any] = {
        "prompt_ids": ids[:, :height],
        "prompt_mask": mask[:, :height],
        "completion_ids": ids[:, height:],
        "completion_mask": mask[:, height:],
        "advantages": torch.linspace(-1.5, 1.0, rows),
        "num_items_in_batch": mask[:, height:].sum(),
        "num_sequences_in_batch": torch.tensor(rows * trainer.args.steps_per_generation),
    }
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)

    def near(logps: Tensor) -> Tensor:
        return logps + drift * torch.randn(logps.shape, generator=generator)

    if off_policy:
        inputs["old_per_token_logps"] = near(logps)
    inputs["ref_per_token_logps"] = near(logps)
    return inputs


def scored_rollout(trainer: Any) -> dict[str, Any]:
    """A rollout in TRL's layout with log-probabilities of the reference and, as if it were old, of the policy."""
    rollout = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    (rollout,) = trainer._score([rollout])
    with torch.no_grad():
        rollout["old_per_token_logps"] = trainer._policy_forward(trainer.model, rollout)[0]
    return rollout


@torch.no_grad()
def unpadded_logps_and_entropies(trainer: Any, inputs: dict[str, Any]) -> tuple[list[list[float]], list[list[float]]]:
    """The model's log-probabilities and entropies of each completion, row by row without padding, from the oracle."""
    logps, entropies = [], []
    for row in range(len(inputs["completion_ids"])):
        prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
        completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
        logits = trainer.model(torch.cat([prompt, completion]).unsqueeze(0)).logits[0]
        logits = logits[len(prompt) - 1 : -1].double().tolist()
        values = oracle.logps_and_entropies(logits, completion.tolist(), trainer.args.temperature)
        blank = [0.0] * (inputs["completion_ids"].size(1) - len(completion))
        for rows, row_values in zip((logps, entropies), values, strict=True):
            rows.append(row_values + blank)
    return logps, entropies


def loss_and_gradients(trainer: Any, *batches: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the losses of some micro-batches and its gradient, as one optimizer step would see them."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(batches)
    total = torch.zeros(())
    for batch in batches:
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        total = total + loss.detach()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trainer.model.named_parameters()
    }
    return total, gradients


def relative_difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Largest difference of two gradients, relative to the largest entry of the second."""
    largest = max(gradient.abs().max().item() for gradient in right.values())
    return max((left[name] - right[name]).abs().max().item() for name in right) / largest


def rows_of(inputs: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Some rows of a batch, with the totals of the whole one."""
    return {key: value[list(rows)] if value.ndim else value for key, value in inputs.items()}
