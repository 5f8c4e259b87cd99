"""Importance ratios between the trained policy and vLLM's, and their metrics.

TRL scores a rollout before its rewards, in chunks of other shapes than the micro-batches that it trains on. In low
precision, or with position embeddings that depend on the length, another shape means other log-probabilities for the
same weights. The trainer therefore scores the micro-batches themselves, after rewards, and computes these ratios then.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .config import DurableGRPOConfig
from .padding import loss_mask


def importance_sampling_ratio(
    old_per_token_logps: Tensor, sampling_per_token_logps: Tensor, mask: Tensor, args: DurableGRPOConfig
) -> Tensor:
    """
    Computes TRL's correction for the difference between the trained policy and vLLM's.

    Args:
        old_per_token_logps (`Tensor` of shape `(B, T)`): Log-probabilities of the policy that is trained, in nats.
        sampling_per_token_logps (`Tensor` of shape `(B, T)`): vLLM's, in nats; NaN where vLLM returned none.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token that counts.
        args ([`DurableGRPOConfig`]): Mode and bounds, `vllm_importance_sampling_*`.

    Returns:
        `Tensor` of shape `(B, T)`, or `(B, 1)` in sequence modes: Ratios, truncated to the bounds or set to 0 outside
        them. A token without vLLM's log-probability has ratio 1.
    """
    level, action = args.vllm_importance_sampling_mode.split("_")
    difference = ((old_per_token_logps - sampling_per_token_logps) * mask).nan_to_num(nan=0.0)
    ratio = torch.exp(difference.sum(dim=-1, keepdim=True) if level == "sequence" else difference)
    low, high = args.vllm_importance_sampling_clip_min, args.vllm_importance_sampling_clip_max
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if action == "truncate":
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def sampling_metrics(micro_batches: Sequence[dict[str, Any]], accelerator: Accelerator) -> dict[str, float]:
    """
    Computes TRL's metrics of a scored rollout under vLLM, over the tokens and completions of all ranks that count.

    Returns:
        `dict[str, float]`: Mean and maximum of the difference of log-probabilities, in nats, and minimum, mean and
        maximum of the importance ratio. 0 where nothing counts.
    """
    differences, ratios = [], []
    for batch in micro_batches:
        mask = loss_mask(batch).bool()
        difference = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]).abs()
        differences.append(difference[mask & ~difference.isnan()])
        ratio = batch["importance_sampling_ratio"]
        ratios.append(ratio[mask if ratio.shape == mask.shape else mask.any(dim=1, keepdim=True)])
    difference, ratio = torch.cat(differences), torch.cat(ratios)
    low, high = difference.new_tensor([math.inf]), difference.new_tensor([-math.inf])
    local = [difference.sum(), torch.cat([difference, high]).max(), difference.new_tensor(difference.numel())]
    local += [ratio.sum(), torch.cat([ratio, high]).max(), torch.cat([ratio, low]).min()]
    table = accelerator.gather(torch.stack([*local, difference.new_tensor(ratio.numel())]).unsqueeze(0)).double()
    tokens, values = table[:, 2].sum().item(), table[:, 6].sum().item()
    return {
        "sampling/sampling_logp_difference/mean": table[:, 0].sum().item() / max(tokens, 1),
        "sampling/sampling_logp_difference/max": table[:, 1].max().item() if tokens else 0.0,
        "sampling/importance_sampling_ratio/min": table[:, 5].min().item() if values else 0.0,
        "sampling/importance_sampling_ratio/mean": table[:, 3].sum().item() / max(values, 1),
        "sampling/importance_sampling_ratio/max": table[:, 4].max().item() if values else 0.0,
    }
