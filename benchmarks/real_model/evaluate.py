"""Accuracy of a policy on the task, and entropy and KL of its tokens by role."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trl_archer.evaluation import avg_at_k, pass_at_k
from trl_archer.evaluation.sampling import Batch, evaluation_mode, generate, repeat
from trl_archer.objective import k3_kl, reasoning_gate
from trl_archer.rewards import math_reward

from .task import Problem

ENTROPY_QUANTILE = 0.8
ROLES = ("reasoning", "knowledge")


def token_statistics(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies `(B, T)` of the completion's tokens at temperature 1, in nats."""
    ids = torch.cat([batch.prompt_ids, batch.completion_ids], dim=1)
    mask = torch.cat([batch.prompt_mask, batch.completion_mask], dim=1)
    logps, entropies = [], []
    for rows, keep in zip(ids.split(32), mask.split(32), strict=True):  # bounds the logits
        positions = (keep.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=rows, attention_mask=keep, position_ids=positions).logits
        every = logits[:, batch.prompt_ids.size(1) - 1 : -1].float().log_softmax(-1)
        logps.append(every.gather(2, rows[:, batch.prompt_ids.size(1) :, None]).squeeze(2))
        entropies.append(-(every.exp() * every).sum(-1))
    return torch.cat(logps), torch.cat(entropies)


def accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    k: int,
    scale: Any,
    start: PreTrainedModel | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """
    Samples `k` completions per problem at temperature 1.

    Args:
        start (`PreTrainedModel`, *optional*):
            Policy before training. With it, entropies and KL are measured by role, over the first `scale.sampled`
            samples.

    Returns:
        `dict`: `avg_at_k`, `pass_at_k`, `length` in tokens, `correct` samples of each problem; with `start` also
        `entropy/ROLE` and `kl/ROLE` in nats.
    """
    prompts = repeat([problem.prompt for problem in problems], k)
    texts: list[str] = []
    lengths: list[int] = []
    found: dict[str, list[Tensor]] = {f"{name}/{role}": [] for name in ("entropy", "kl") for role in ROLES}
    limits = {"max_new_tokens": scale.longest, "batch_size": scale.sampled}
    bf16 = torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda")
    with evaluation_mode(model, seed), bf16:
        for batch in generate(model, tokenizer, prompts, temperature=1.0, **limits):
            texts += tokenizer.batch_decode(batch.completion_ids, skip_special_tokens=True)
            lengths += batch.completion_mask.sum(1).tolist()
            if start is not None and not found["kl/reasoning"]:
                logps, entropies = token_statistics(model, batch)
                kl = k3_kl(logps, token_statistics(start, batch)[0])
                gate = reasoning_gate(entropies, batch.completion_mask, ENTROPY_QUANTILE) > 0.5
                real = batch.completion_mask.bool()
                for role, chosen in zip(ROLES, (gate & real, ~gate & real), strict=True):
                    found[f"entropy/{role}"].append(entropies[chosen])
                    found[f"kl/{role}"].append(kl[chosen])
    solutions = repeat([problem.answer for problem in problems], k)
    rewards = math_reward(texts, solutions)
    right = [[int(x or 0) for x in rewards[i : i + k]] for i in range(0, len(rewards), k)]
    measured = {name: torch.cat(values).mean().item() for name, values in found.items() if values}
    return {
        "avg_at_k": avg_at_k(right),
        "pass_at_k": pass_at_k(right, k),
        "length": sum(lengths) / len(lengths),
        "correct": [sum(row) for row in right],
        **measured,
    }
