"""Surrogates of other papers: how the objective weighs a token by its ratio.

Each has the form $A\\, \\mathrm{sg}(w)\\, \\log \\pi$ where the token is not stopped. Its value is $A w$, as if
$\\log \\pi$ were 1, so that values stay comparable over methods and steps.
"""

import torch
from torch import Tensor

from ..objective import Constraints, Surrogate, Tokens

DPPO_CAP = 20.0  # of the ratio; verl's


def _weighted(tokens: Tokens, weight: Tensor, stopped: Tensor) -> Tensor:
    """Returns `A w`, with the gradient `A w` with respect to the log-probability where the token is not stopped."""
    one = torch.exp(tokens.logps - tokens.logps.detach())
    return tokens.advantages * weight * torch.where(stopped, 1.0, one)


def aspo(
    tokens: Tokens, epsilon_low: Tensor, epsilon_high: Tensor, constraints: Constraints, *, cap: float = 3.0
) -> Surrogate:
    r"""
    Asymmetric ratios (Wang et al. 2025, "ASPO", arXiv 2510.06062; Archer2.0).

    The clip range stops the same tokens as PPO's. The others have the weight
    $\min(1 / r, c)$ for a positive advantage, which helps tokens that lag behind, and $\min(r, c)$ for a negative one
    (soft dual clip: a capped token keeps its gradient). On-policy this is GRPO.

    Args:
        tokens ([`Tokens`]): Tokens of a micro-batch.
        epsilon_low (`Tensor` of shape `(B, T)`): Distance of the lower bound from ratio 1.
        epsilon_high (`Tensor` of shape `(B, T)`): Distance of the upper bound from ratio 1.
        constraints ([`Constraints`]): Not used.
        cap (`float`, *optional*, defaults to `3.0`): Largest weight `c`.

    Returns:
        [`Surrogate`]: Its value has the gradient.
    """
    ratio, positive = tokens.ratio.detach(), tokens.advantages > 0
    clipped_low = (ratio < 1 - epsilon_low) & (tokens.advantages < 0)
    clipped_high = (ratio > 1 + epsilon_high) & positive
    bounded = torch.where(positive, torch.minimum(ratio, 1 + epsilon_high), torch.maximum(ratio, 1 - epsilon_low))
    weight = torch.where(positive, 1 / bounded, bounded)
    value = _weighted(tokens, weight.clamp(max=cap), clipped_low | clipped_high)
    return Surrogate(value, clipped_low, clipped_high, capped=(weight > cap) & (tokens.advantages != 0))


def cispo(tokens: Tokens, epsilon_low: Tensor, epsilon_high: Tensor, constraints: Constraints) -> Surrogate:
    r"""
    Clipped importance weights (MiniMax 2025, "CISPO", arXiv 2506.13585).

    Every token keeps its gradient, with the weight $\min(r, 1 + \epsilon^{high})$. There is no lower bound. TRL's
    `epsilon_high` for `loss_type="cispo"` is the cap itself, so its 5.0 is 4.0 here.

    Args:
        tokens ([`Tokens`]): Tokens of a micro-batch.
        epsilon_low (`Tensor` of shape `(B, T)`): Not used.
        epsilon_high (`Tensor` of shape `(B, T)`): Distance of the cap from ratio 1.
        constraints ([`Constraints`]): Not used.

    Returns:
        [`Surrogate`]: Its value has the gradient. No token is clipped.
    """
    ratio, nowhere = tokens.ratio.detach(), torch.zeros_like(tokens.mask)
    capped = (ratio > 1 + epsilon_high) & (tokens.advantages != 0)
    return Surrogate(_weighted(tokens, torch.minimum(ratio, 1 + epsilon_high), nowhere), nowhere, nowhere, capped)


def dppo(tokens: Tokens, epsilon_low: Tensor, epsilon_high: Tensor, constraints: Constraints) -> Surrogate:
    r"""
    Trust region in probability (arXiv 2602.04879, "DPPO", with total variation).

    A token keeps its gradient while $\pi - \pi_{old} \le \epsilon^{high}$ for a positive advantage, or
    $\pi - \pi_{old} \ge -\epsilon^{low}$ for a negative one. Its weight is $\min(r, 20)$. Clip distances are
    probabilities here, and rare tokens can move far in ratio.

    Args:
        tokens ([`Tokens`]): Tokens of a micro-batch.
        epsilon_low (`Tensor` of shape `(B, T)`): Largest fall of the probability.
        epsilon_high (`Tensor` of shape `(B, T)`): Largest rise of the probability.
        constraints ([`Constraints`]): Not used.

    Returns:
        [`Surrogate`]: Its value has the gradient.
    """
    moved = tokens.logps.detach().exp() - tokens.old_logps.exp()
    clipped_low = (moved < -epsilon_low) & (tokens.advantages < 0)
    clipped_high = (moved > epsilon_high) & (tokens.advantages > 0)
    ratio = tokens.ratio.detach()
    value = _weighted(tokens, ratio.clamp(max=DPPO_CAP), clipped_low | clipped_high)
    return Surrogate(value, clipped_low, clipped_high, capped=(ratio > DPPO_CAP) & (tokens.advantages != 0))
