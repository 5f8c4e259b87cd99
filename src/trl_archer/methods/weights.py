"""Token weights of other papers. They multiply a token's surrogate; its KL term keeps weight 1.

Some need a statistic of the whole optimizer step, over all micro-batches and ranks, which is known only after the step.
They use that of the step before, so that no loss depends on how a step is split. It is part of a checkpoint.
"""

import math

import torch
from torch import Tensor

from ..objective import Tokens
from .flow import entropy_balance, entropy_change, raised_and_lowered

_STEER_FLOOR = 0.02  # of the largest change; the reference code's


class TokenWeights:
    """
    Weights of 1. Subclasses override what they need.

    Attributes:
        learns (`bool`): Whether the weights use statistics of optimizer steps.
        state (`dict[str, float]`): Statistics of the last optimizer step. Empty before the first.
    """

    learns = True

    def __init__(self) -> None:
        self.state: dict[str, float] = {}

    def __call__(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        """Returns the weight of each token, `(B, T)`. `stopped` marks the tokens that the clip range stops."""
        return torch.ones_like(tokens.logps)

    def measure(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        """Returns the statistics of a micro-batch, `(K,)`."""
        return tokens.logps.new_zeros(0)

    def update(self, table: Tensor) -> None:
        """Reads the statistics of an optimizer step: one row per micro-batch and rank, `(N, K)`, float64."""


class Opefo(TokenWeights):
    r"""
    On-policy entropy flow optimization (Xu et al. 2026, arXiv 2605.11491).

    Weighs tokens that raise the entropy by $1 + \lambda$ and those that lower it by $1 - \lambda$, with the $\lambda$
    of the optimizer step for which both balance, to first order. See [`entropy_change`] and [`entropy_balance`].

    Attributes:
        exact (`float`, *optional*):
            The lambda of this optimizer step. `None` means that of the step before.
    """

    exact: float | None = None

    def __call__(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        lam = self.state.get("lambda", 0.0) if self.exact is None else self.exact
        return 1 + lam * entropy_change(tokens.logps, tokens.entropies, tokens.advantages).sign()

    def measure(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        return raised_and_lowered(tokens.logps, tokens.entropies, tokens.advantages)

    def update(self, table: Tensor) -> None:
        self.state["lambda"] = entropy_balance(*table.sum(dim=0).tolist())


class Probability(TokenWeights):
    r"""
    Advantage reweighting (Yang et al. 2025, "AR", arXiv 2505.12929): $\alpha \pi_{old} + 1 - \alpha$.

    It quiets rare tokens.

    Args:
        alpha (`float`, *optional*, defaults to `0.2`): Strength, from 0 (none) to 1.
    """

    learns = False

    def __init__(self, alpha: float = 0.2):
        super().__init__()
        self.alpha = alpha

    def __call__(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        return self.alpha * tokens.old_logps.exp() + (1 - self.alpha)


class Steer(TokenWeights):
    r"""
    Quiets tokens that change the entropy much (arXiv 2510.10150, "STEER").

    $$ w = e^{-k |\Omega|}, \quad \Omega = \frac{A}{\pi_{old}} \pi (1 - \pi) (\log \pi + H),
       \quad k = -\frac{\log w_{min}}{\max(\max |\Omega|, 0.02)} $$

    bounded to $[w_{min}, 1]$. The maximum is that of the optimizer step before, over all ranks. The reference code
    takes it per micro-batch.

    Args:
        min_weight (`float`, *optional*, defaults to `0.8`): Smallest weight, in (0, 1]. 1 disables the method.
    """

    def __init__(self, min_weight: float = 0.8):
        super().__init__()
        self.min_weight = min_weight

    def _change(self, tokens: Tokens) -> Tensor:
        surprise = tokens.logps + tokens.entropies
        return (tokens.advantages * tokens.ratio * torch.expm1(tokens.logps) * surprise).abs()

    def __call__(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        k = -math.log(self.min_weight) / max(self.state.get("largest", 0.0), _STEER_FLOOR)
        return torch.exp(-k * self._change(tokens)).clamp(min=self.min_weight)

    def measure(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        return torch.where(tokens.mask, self._change(tokens), 0.0).max().unsqueeze(0)

    def update(self, table: Tensor) -> None:
        self.state["largest"] = table.max().item()


class ClipCov(TokenWeights):
    r"""
    Drops a few tokens that lower the entropy most (Cui et al. 2025, "Clip-Cov", arXiv 2505.22617).

    Of the tokens that the clip range does not stop and whose covariance
    $c = (A - \bar A)(\log \pi - \overline{\log \pi})$ lies between two bounds, a random choice has weight 0. Its
    expected size is `ratio` times all tokens. Means and counts are those of the optimizer step before, over all ranks;
    the reference code takes them per micro-batch. The random numbers are a function of the completion, the step and the
    seed; see [`uniform_by_token`].

    Args:
        ratio (`float`, *optional*, defaults to `0.0002`): Share of all tokens to drop.
        low (`float`, *optional*, defaults to `1.0`): Lower bound of the covariance.
        high (`float`, *optional*, defaults to `5.0`): Upper bound of the covariance.

    Attributes:
        uniform (`Tensor` of shape `(B, T)`): Random numbers in [0, 1) of the tokens of this micro-batch.
    """

    uniform: Tensor

    def __init__(self, ratio: float = 0.0002, low: float = 1.0, high: float = 5.0):
        super().__init__()
        self.ratio, self.low, self.high = ratio, low, high

    def _eligible(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        advantages = tokens.advantages - self.state.get("advantage", 0.0)
        covariance = advantages * (tokens.logps - self.state.get("logp", 0.0))
        between = (covariance > self.low) & (covariance < self.high)
        return between & tokens.mask & ~stopped

    def __call__(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        dropped = self._eligible(tokens, stopped) & (self.uniform < self.state.get("rate", 0.0))
        return (~dropped).to(tokens.logps.dtype)

    def measure(self, tokens: Tokens, stopped: Tensor) -> Tensor:
        columns = (tokens.mask, tokens.advantages, tokens.logps, self._eligible(tokens, stopped))
        return torch.stack([x.sum().to(tokens.logps.dtype) for x in columns])

    def update(self, table: Tensor) -> None:
        count, advantages, logps, eligible = table.sum(dim=0).tolist()
        if count:
            rate = min(self.ratio * count / eligible, 1.0) if eligible else 0.0
            self.state.update(advantage=advantages / count, logp=logps / count, rate=rate)


def _mix(x: Tensor) -> Tensor:
    """Finalizer of splitmix64 (Steele et al. 2014), on int64 that wraps around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def uniform_by_token(completion_ids: Tensor, mask: Tensor, seed: int) -> Tensor:
    """
    Returns a random number for each token, as a function of its completion, its position and the seed. It depends on no
    generator, padding, micro-batch or rank.

    Args:
        completion_ids (`Tensor` of shape `(B, T)`): Token ids, padded on the right.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token.
        seed (`int`): Another number for each optimizer step.

    Returns:
        `Tensor` of shape `(B, T)`: float32 in [0, 1).
    """
    position = torch.arange(completion_ids.size(1), device=completion_ids.device) + 1
    scattered = _mix(completion_ids.long() + (position << 32))
    completion = torch.where(mask.bool(), scattered, 0).sum(dim=1, keepdim=True)
    bits = _mix(_mix(completion + seed) + position)
    return ((bits >> 40) & 0xFFFFFF).float() / 2**24
