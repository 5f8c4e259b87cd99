"""First-order change of the entropy by a policy-gradient step (Xu et al. 2026, OPEFO, arXiv 2605.11491, Eq. 6)."""

import torch
from torch import Tensor


def entropy_change(logps: Tensor, entropies: Tensor, advantages: Tensor) -> Tensor:
    r"""
    Estimates how a policy-gradient step on each token changes the entropy, from the token that was sampled.

    $$ \delta_{i,t} = -A_i (1 - \pi)^2 (\log \pi + H_{i,t}) $$

    in units of the learning rate. Reinforcing a token that is likelier than average, in nats, lowers the entropy;
    reinforcing an unlikely one raises it. A negative advantage turns both around.

    Args:
        logps (`Tensor` of shape `(B, T)`): Log-probabilities of the policy, in nats; 0 in slots without a token.
        entropies (`Tensor` of shape `(B, T)`): Token entropies in nats, at the sampling temperature.
        advantages (`Tensor` of shape `(B, T)` or `(B, 1)`): Advantages.

    Returns:
        `Tensor` of shape `(B, T)`: The change; 0 in slots without a token.

    Example:

    ```python
    >>> two = torch.tensor([[0.75, 0.25]]).log()  # the likely and the unlikely one of two tokens
    >>> entropy_change(two, torch.tensor([[0.5623]]), torch.tensor([[1.0]]))
    tensor([[-0.0172,  0.4635]])

    ```
    """
    return -advantages * torch.expm1(logps).square() * (logps + entropies)


def raised_and_lowered(logps: Tensor, entropies: Tensor, advantages: Tensor) -> Tensor:
    """
    Sums the rise and the fall of the entropy; see [`entropy_change`].

    Returns:
        `Tensor` of shape `(2,)`: Both sums, at least 0.
    """
    change = entropy_change(logps, entropies, advantages)
    return torch.stack([change.clamp(min=0).sum(), (-change).clamp(min=0).sum()])


def entropy_balance(raised: float, lowered: float) -> float:
    """
    Returns the lambda of OPEFO, with which the weighted rise of the entropy equals its weighted fall.

    Args:
        raised (`float`): Sum of the positive [`entropy_change`] of an optimizer step, over all ranks.
        lowered (`float`): Absolute sum of the negative ones.

    Returns:
        `float`: In [-1, 1]; 0 if nothing changes the entropy.

    Example:

    ```python
    >>> entropy_balance(1.0, 3.0)
    0.5

    ```
    """
    total = raised + lowered
    return (lowered - raised) / total if total > 0 else 0.0
