"""Finds the groups of completions that provide a learning signal."""

import torch
from torch import Tensor

_ROUNDING = 4 * torch.finfo(torch.float32).eps  # of weighted sums


def weighted_rewards(rewards_per_func: Tensor, reward_weights: Tensor) -> Tensor:
    """
    Computes the reward of each completion: the weighted sum over the reward functions.

    Args:
        rewards_per_func (`Tensor` of shape `(N, F)`): Rewards by completion and function; NaN means not scorable.
        reward_weights (`Tensor` of shape `(F,)`): Weight of each function.

    Returns:
        `Tensor` of shape `(N,)`: Sums over the functions that could score the completion; NaN if none could.
    """
    rewards = (rewards_per_func * reward_weights.to(rewards_per_func)).nansum(dim=1)
    return rewards.masked_fill(rewards_per_func.isnan().all(dim=1), torch.nan)


def zero_std_groups(rewards_per_func: Tensor, reward_weights: Tensor, num_generations: int, by_func: bool) -> Tensor:
    """
    Finds the groups whose rewards are all equal; their advantages are 0.

    Args:
        rewards_per_func (`Tensor` of shape `(N * G, F)`): Rewards by completion and function; NaN means not scorable.
        reward_weights (`Tensor` of shape `(F,)`): Weight of each function.
        num_generations (`int`): Completions per prompt, G.
        by_func (`bool`): Whether each function is normalized separately (`multi_objective_aggregation=
            "normalize_then_sum"`). If so, each of them must be constant, not only their sum.

    Returns:
        `Tensor` of shape `(N,)`, bool: Whether all scorable completions of the group have the same reward, up to
        float32 rounding. A group without a scorable completion has no signal either.
    """
    if by_func:
        scores = rewards_per_func[:, reward_weights.to(rewards_per_func.device) != 0]
    else:
        scores = weighted_rewards(rewards_per_func, reward_weights).unsqueeze(1)
    scores = scores.view(-1, num_generations, scores.size(1))
    highest = scores.nan_to_num(nan=-torch.inf).amax(dim=1)
    lowest = scores.nan_to_num(nan=torch.inf).amin(dim=1)
    varies = (highest > lowest) & ~torch.isclose(highest, lowest, rtol=_ROUNDING)
    return ~varies.any(dim=1)
