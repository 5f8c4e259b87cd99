"""The Archer objective: the paper's equations as pure functions of tensors.

Wang et al. 2025, "Stabilizing Knowledge, Promoting Reasoning: Dual-Token Constraints for RLVR" (arXiv 2507.15778).
Every function works on per-token tensors of shape `(B, T)`: `B` responses, padded to `T` token slots, of which
`mask` marks the `|o_i|` real ones. The functions are in the paper's order:

- Eq. (2): [`entropy_threshold`] and [`reasoning_gate`] split tokens into reasoning (`w = 1`) and knowledge;
- Eq. (3) and (4): [`interpolate`] gives each token its clip range and KL weight;
- Eq. (5): [`clipped_surrogate`] and [`k3_kl`] are its terms, [`archer_token_loss`] combines them, and [`aggregate`]
  sums the token losses.

[`Constraints`] holds all settings. Equal constraints for both roles give GRPO, without a separate branch. A [`Method`]
replaces the clip range, the surrogate or the token weights of Eq. (5) by those of another paper; see [`methods`].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constraint:
    """
    Limits how far a token of one role may move in an update.

    Attributes:
        epsilon_low (`float`): Distance of the lower clip bound from ratio 1.
        epsilon_high (`float`): Distance of the upper clip bound from ratio 1.
        beta (`float`): KL weight.
    """

    epsilon_low: float
    epsilon_high: float
    beta: float


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """
    The settings of the objective. The defaults are the paper's (Wang et al. 2025, Eq. 2 to 4).

    Attributes:
        knowledge ([`Constraint`]): Constraint of knowledge tokens (low entropy).
        reasoning ([`Constraint`]): Constraint of reasoning tokens (high entropy).
        entropy_quantile (`float`): The paper's rho, a quantile of each response's own token entropies.
        gate_width (`float`): Width of the ramp between the roles in quantile units; 0 is the paper's step.
        delta (`float`, *optional*): Cap on the ratio for negative advantages (dual clip).
        use_bias_correction_kl (`bool`): Whether to multiply the KL estimate by the ratio, which makes its gradient
            that of the reverse KL.

    Example:

    ```python
    >>> grpo = Constraint(epsilon_low=0.2, epsilon_high=0.2, beta=0.0)
    >>> Constraints(knowledge=grpo, reasoning=grpo).needs_reference
    False

    ```
    """

    knowledge: Constraint = Constraint(0.2, 0.2, 0.001)
    reasoning: Constraint = Constraint(0.5, 0.5, 0.0)
    entropy_quantile: float = 0.8
    gate_width: float = 0.0
    delta: float | None = None
    use_bias_correction_kl: bool = False

    @property
    def needs_reference(self) -> bool:
        """Whether either role has a KL weight."""
        return self.knowledge.beta != 0 or self.reasoning.beta != 0


PAPER = Constraints()

LOG_RATIO_BOUND = 20.0  # nats; as in the paper's reference code


class Tokens(NamedTuple):
    """
    What a [`Method`] may use of each token, all of shape `(B, T)`. Slots outside the mask hold 0, and ratio 1. Only
    `logps` and `ratio` have a gradient.

    Attributes:
        logps (`Tensor`): Log-probabilities of the policy, in nats.
        old_logps (`Tensor`): Log-probabilities of the policy that the responses were sampled from, in nats.
        ratio (`Tensor`): Probability ratio of the two.
        advantages (`Tensor`): Advantages.
        entropies (`Tensor`): Token entropies in nats.
        mask (`Tensor`, bool): Whether a slot holds a token that counts.
        gate (`Tensor`): Weight of the reasoning role in [0, 1].
    """

    logps: Tensor
    old_logps: Tensor
    ratio: Tensor
    advantages: Tensor
    entropies: Tensor
    mask: Tensor
    gate: Tensor

    def detached(self) -> "Tokens":
        """Returns the same tensors without gradient."""
        return Tokens(*(x.detach() for x in self))


class Surrogate(NamedTuple):
    """
    A surrogate and what it stopped, all of shape `(B, T)`.

    Attributes:
        value (`Tensor`): The surrogate, to be maximized.
        clipped_low (`Tensor`, bool): Whether the lower end of the clip range stopped the token's gradient.
        clipped_high (`Tensor`, bool): Whether the upper end of the clip range stopped it.
        capped (`Tensor`, bool): Whether a cap bounds the token's weight.
    """

    value: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    capped: Tensor


class ArcherTokenLoss(NamedTuple):
    """
    The pieces of the Archer loss, one value per token slot. Slots outside the mask hold 0 (or `False`).

    Attributes:
        loss (`Tensor` of shape `(B, T)`):
            Loss to minimize: the negated summand of Wang et al. 2025, Eq. (5).
        kl (`Tensor` of shape `(B, T)`):
            KL estimate in nats, before weighting; multiplied by the ratio with `use_bias_correction_kl`. Zeros without
            a reference.
        ratio (`Tensor` of shape `(B, T)`):
            Probability ratio of the current to the old policy.
        gate (`Tensor` of shape `(B, T)`):
            Weight `w` in [0, 1] of the reasoning role, without gradient.
        entropy_threshold (`Tensor` of shape `(B,)`):
            Threshold `tau_i` of each response in nats; 0 for a response without tokens.
        clipped_low (`Tensor` of shape `(B, T)`, bool):
            Whether the lower end of the clip range stopped the token's gradient.
        clipped_high (`Tensor` of shape `(B, T)`, bool):
            Whether the upper end of the clip range stopped it.
        capped (`Tensor` of shape `(B, T)`, bool):
            Whether `delta` stopped it (dual clip), or the cap of another surrogate bounds its weight.
        bounded (`Tensor` of shape `(B, T)`, bool):
            Whether a log-ratio, to the old policy or to the reference, was beyond `LOG_RATIO_BOUND`.
        tokens ([`Tokens`]):
            What the loss was computed from, without gradient.
    """

    loss: Tensor
    kl: Tensor
    ratio: Tensor
    gate: Tensor
    entropy_threshold: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    capped: Tensor
    bounded: Tensor
    tokens: Tokens


def _gate_and_threshold(
    entropies: Tensor, mask: Tensor, entropy_quantile: float, gate_width: float
) -> tuple[Tensor, Tensor]:
    """Gate `(B, T)` and threshold `(B,)`, from one sort of each response's entropies."""
    mask = mask.bool()
    entropies = entropies.detach().to(torch.promote_types(entropies.dtype, torch.float32))
    entropies = torch.where(mask, entropies, torch.inf)  # sorts behind every token
    ordered = entropies.sort(dim=1).values
    last_rank = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)

    # Where the quantile falls among the ranks 0..n-1. A decimal quantile is inexact in binary: without the tolerance,
    # 0.7 * 90 would fall below rank 63. (MPS has no double.)
    position = last_rank.to(torch.float32 if mask.device.type == "mps" else torch.float64) * entropy_quantile
    lower = (position + 1e-6).floor().long()
    fraction = (position - lower).clamp(min=0).to(ordered.dtype)
    below = ordered.gather(1, lower)
    above = ordered.gather(1, torch.minimum(lower + 1, last_rank))
    tau = torch.lerp(below, above, fraction)

    if gate_width == 0:
        gate = (entropies > below).to(entropies.dtype)  # the same as > tau, which may round up to `above`
    else:
        rank = torch.searchsorted(ordered, entropies)  # number of tokens of strictly lower entropy
        offset = ((rank - lower).to(entropies.dtype) - 0.5) / last_rank.clamp(min=1)
        gate = (offset / gate_width + 0.5).clamp(0, 1)
    return torch.where(mask, gate, 0.0), torch.where(mask.any(dim=1), tau.squeeze(1), 0.0)


def entropy_threshold(entropies: Tensor, mask: Tensor, entropy_quantile: float = 0.8) -> Tensor:
    r"""
    Computes the entropy above which a token of a response counts as reasoning (Wang et al. 2025, Eq. 2).

    $$ \tau_i = \mathrm{Quantile}(\{e_{i,t} : t = 1..|o_i|\}, \rho) $$

    Args:
        entropies (`Tensor` of shape `(B, T)`): Token entropies in nats. Slots outside the mask may hold anything.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token of the response.
        entropy_quantile (`float`): The paper's rho, a quantile of the response's own tokens.

    Returns:
        `Tensor` of shape `(B,)`: Thresholds in nats, float32 or wider, without gradient; 0 for a response without
        tokens.

    Example:

    ```python
    >>> entropy_threshold(torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 9.0]]), torch.tensor([[1, 1, 1, 1, 1, 0]]), 0.5)
    tensor([2.])

    ```
    """
    return _gate_and_threshold(entropies, mask, entropy_quantile, gate_width=0.0)[1]


def reasoning_gate(entropies: Tensor, mask: Tensor, entropy_quantile: float = 0.8, gate_width: float = 0.0) -> Tensor:
    r"""
    Splits each response into reasoning (1) and knowledge (0) tokens by its own entropies (Wang et al. 2025, Eq. 2).

    With `gate_width == 0` the split is the paper's step, $w_{i,t} = 1[e_{i,t} > \tau_i]$. The inequality is strict:
    when the quantile itself is 0, as in a confident response, every token stays knowledge.

    With `gate_width > 0` the step becomes a linear ramp over the response's entropy ranks $k_t / (n - 1)$, as wide
    as `gate_width` in quantile units and centered on the boundary of the hard split. Equal entropies have equal ranks.
    The mean weight stays near $1 - \rho$ up to a width of $2 \min(\rho, 1 - \rho)$, beyond which the ramp is cut off.
    At widths of at most one rank, $1 / (n - 1)$, the ramp is the step.

    Args:
        entropies (`Tensor` of shape `(B, T)`): Token entropies in nats. Slots outside the mask may hold anything.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token of the response.
        entropy_quantile (`float`, *optional*, defaults to `0.8`): The paper's rho.
        gate_width (`float`, *optional*, defaults to `0.0`): Width of the ramp, from 0 (step) to 1.

    Returns:
        `Tensor` of shape `(B, T)`: Weight of the reasoning role in [0, 1], float32 or wider, without gradient; 0
        outside the mask.

    Example:

    ```python
    >>> entropies = torch.tensor([[0.1, 2.0, 0.3, 0.2, 0.4, 7.0]])
    >>> mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    >>> reasoning_gate(entropies, mask)
    tensor([[0., 1., 0., 0., 0., 0.]])
    >>> reasoning_gate(entropies, mask, gate_width=0.5)
    tensor([[0.0000, 0.7500, 0.0000, 0.0000, 0.2500, 0.0000]])

    ```
    """
    return _gate_and_threshold(entropies, mask, entropy_quantile, gate_width)[0]


def interpolate(gate: Tensor, knowledge: float, reasoning: float) -> Tensor:
    r"""
    Gives each token the clip range or KL weight of its role (Wang et al. 2025, Eq. 3 and 4).

    $$ x_{i,t} = w_{i,t} x_r + (1 - w_{i,t}) x_k $$

    Args:
        gate (`Tensor` of shape `(B, T)`): Weight of the reasoning role.
        knowledge (`float`): Value at `w = 0`.
        reasoning (`float`): Value at `w = 1`.

    Returns:
        `Tensor` of shape `(B, T)`: The value of each token, in the unit of the two.

    Example:

    ```python
    >>> interpolate(torch.tensor([0.0, 0.5, 1.0]), knowledge=0.25, reasoning=0.5)
    tensor([0.2500, 0.3750, 0.5000])

    ```
    """
    return knowledge + gate * (reasoning - knowledge)


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    epsilon_low: Tensor | float,
    epsilon_high: Tensor | float,
    delta: float | None = None,
) -> Tensor:
    r"""
    PPO's clipped surrogate with a clip range per token (first term of Wang et al. 2025, Eq. 5).

    $$ \min(\min(r, \delta) A,\ \mathrm{clip}(r, 1 - \epsilon^{low}, 1 + \epsilon^{high}) A) $$

    Args:
        ratio (`Tensor` of shape `(B, T)`): Probability ratio of the current to the old policy.
        advantages (`Tensor` of shape `(B, T)` or `(B, 1)`): Advantages.
        epsilon_low (`Tensor` of shape `(B, T)` or `float`): Distance of the lower bound from ratio 1.
        epsilon_high (`Tensor` of shape `(B, T)` or `float`): Distance of the upper bound from ratio 1.
        delta (`float`, *optional*): Cap on the ratio that bounds the loss of negative advantages (dual clip).

    Returns:
        `Tensor` of shape `(B, T)`: The surrogate, to be maximized.

    Example:

    ```python
    >>> clipped_surrogate(torch.tensor([[0.5, 1.4]]), torch.tensor([[1.0]]), 0.2, torch.tensor([[0.2, 0.5]]))
    tensor([[0.5000, 1.4000]])

    ```
    """
    lower, upper = (torch.as_tensor(bound).to(ratio) for bound in (1 - epsilon_low, 1 + epsilon_high))
    clipped = torch.clamp(ratio, lower, upper)
    capped = ratio if delta is None else ratio.clamp(max=delta)
    return torch.min(capped * advantages, clipped * advantages)


def k3_kl(per_token_logps: Tensor, ref_per_token_logps: Tensor) -> Tensor:
    r"""
    Non-negative low-variance estimate of the KL divergence from the reference (second term of Wang et al. 2025, Eq. 5).

    $$ \mathrm{KL}_{i,t} = e^d - d - 1, \quad d = \log \pi_{ref} - \log \pi_\theta $$

    Beyond `LOG_RATIO_BOUND`, 20 nats, the estimate and its gradient stop changing: `exp` overflows at 88.

    Args:
        per_token_logps (`Tensor` of shape `(B, T)`): Log-probabilities of the policy, in nats.
        ref_per_token_logps (`Tensor` of shape `(B, T)`): Log-probabilities of the reference, in nats.

    Returns:
        `Tensor` of shape `(B, T)`: The estimate in nats, at least 0 up to rounding.

    Example:

    ```python
    >>> k3_kl(torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -2.0]))
    tensor([0.0000, 0.3679])

    ```
    """
    difference = (ref_per_token_logps - per_token_logps).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return torch.exp(difference) - difference - 1


def role_range(tokens: Tokens, constraints: Constraints) -> tuple[Tensor, Tensor]:
    """
    Returns the clip range of each token's role (Wang et al. 2025, Eq. 3).

    Args:
        tokens ([`Tokens`]): Tokens of a micro-batch, with their gate.
        constraints ([`Constraints`]): Clip range of each role.

    Returns:
        `tuple[Tensor, Tensor]` of shape `(B, T)`: Distances of the lower and upper bound from ratio 1.
    """
    knowledge, reasoning = constraints.knowledge, constraints.reasoning
    return (
        interpolate(tokens.gate, knowledge.epsilon_low, reasoning.epsilon_low),
        interpolate(tokens.gate, knowledge.epsilon_high, reasoning.epsilon_high),
    )


def clip(tokens: Tokens, epsilon_low: Tensor, epsilon_high: Tensor, constraints: Constraints) -> Surrogate:
    """
    PPO's clipped surrogate, with what it stopped. See [`clipped_surrogate`].

    Args:
        tokens ([`Tokens`]): Tokens of a micro-batch.
        epsilon_low (`Tensor` of shape `(B, T)`): Distance of the lower bound from ratio 1.
        epsilon_high (`Tensor` of shape `(B, T)`): Distance of the upper bound from ratio 1.
        constraints ([`Constraints`]): Holds the cap `delta`.

    Returns:
        [`Surrogate`]: Its value has the gradient.
    """
    ratio, advantages, delta = tokens.ratio, tokens.advantages, constraints.delta
    return Surrogate(
        clipped_surrogate(ratio, advantages, epsilon_low, epsilon_high, delta),
        clipped_low=(ratio < 1 - epsilon_low) & (advantages < 0),
        clipped_high=(ratio > 1 + epsilon_high) & (advantages > 0),
        capped=(ratio > (torch.inf if delta is None else delta)) & (advantages < 0),
    )


@dataclass(frozen=True, kw_only=True)
class Method:
    """
    How the constraints act on a token. The defaults are Archer; [`methods`] has those of other papers.

    Attributes:
        clip_range (`Callable`):
            Returns the clip range of each token from [`Tokens`] and [`Constraints`], as [`role_range`] does.
        surrogate (`Callable`):
            Returns a [`Surrogate`] from [`Tokens`], the clip range and [`Constraints`], as [`clip`] does.
        token_weights (`Callable`, *optional*):
            Returns a weight of each token's surrogate from [`Tokens`] without gradient and a mask of the tokens that
            the clip range stops. The KL term keeps weight 1.
    """

    clip_range: Callable[[Tokens, Constraints], tuple[Tensor, Tensor]] = role_range
    surrogate: Callable[[Tokens, Tensor, Tensor, Constraints], Surrogate] = clip
    token_weights: Callable[[Tokens, Tensor], Tensor] | None = None


ARCHER = Method()


def archer_token_loss(
    per_token_logps: Tensor,
    old_per_token_logps: Tensor | None,
    advantages: Tensor,
    entropies: Tensor,
    mask: Tensor,
    *,
    ref_per_token_logps: Tensor | None = None,
    surrogate_weight: Tensor | None = None,
    constraints: Constraints = PAPER,
    method: Method = ARCHER,
) -> ArcherTokenLoss:
    r"""
    Loss of every token under the dual-token constraints (Wang et al. 2025, the summand of Eq. 5, negated).

    $$ \ell_{i,t} = -\min(r A, \mathrm{clip}(r, 1 - \epsilon_{i,t}, 1 + \epsilon_{i,t}) A)
        + \beta_{i,t} \mathrm{KL}_{i,t} $$

    Slots outside the mask may hold anything, NaN included; they change neither loss nor gradient. Log-ratios are
    bounded at `LOG_RATIO_BOUND`, so that no `exp` overflows.

    Args:
        per_token_logps (`Tensor` of shape `(B, T)`):
            Log-probabilities of the policy being trained, in nats.
        old_per_token_logps (`Tensor` of shape `(B, T)` or `None`):
            Log-probabilities of the policy that the responses were sampled from. `None` means the current policy: the
            ratio is 1 but has a gradient.
        advantages (`Tensor` of shape `(B,)` or `(B, T)`):
            Advantages.
        entropies (`Tensor` of shape `(B, T)`):
            Token entropies of the policy at the sampling temperature, in nats. No gradient flows back through them.
        mask (`Tensor` of shape `(B, T)`):
            Nonzero where a slot holds a token that the policy generated.
        ref_per_token_logps (`Tensor` of shape `(B, T)`, *optional*):
            Log-probabilities of the reference policy. Required unless both betas are 0.
        surrogate_weight (`Tensor` of shape `(B, T)` or `(B, 1)`, *optional*):
            Factor for the surrogate term but not for the KL term, such as an importance weight or a 0/1 selection.
        constraints ([`Constraints`], *optional*, defaults to `PAPER`):
            Clip ranges, KL weights and the split; the paper's by default.
        method ([`Method`], *optional*, defaults to `ARCHER`):
            How the constraints act.

    Returns:
        [`ArcherTokenLoss`]: the loss and its pieces.

    Raises:
        ValueError: If a beta is nonzero and `ref_per_token_logps` is missing.
    """
    knowledge, reasoning = constraints.knowledge, constraints.reasoning
    if ref_per_token_logps is None and constraints.needs_reference:
        raise ValueError(
            f"KL weights {knowledge.beta} (knowledge) and {reasoning.beta} (reasoning) need `ref_per_token_logps`. "
            "Pass them, or set both weights to 0."
        )
    mask = mask.bool()
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1)
    advantages = torch.where(mask, advantages, 0.0)

    # (2) which role
    gate, tau = _gate_and_threshold(entropies, mask, constraints.entropy_quantile, constraints.gate_width)

    # Padding is neutralized before `exp`, so that no NaN can reach a gradient: its ratio is 1, its advantage and KL are
    # 0, and so is its loss
    logps = torch.where(mask, per_token_logps, 0.0)
    logps = logps.to(torch.promote_types(logps.dtype, torch.float32))
    old_logps = logps.detach() if old_per_token_logps is None else torch.where(mask, old_per_token_logps, 0.0)
    log_ratio = logps - old_logps
    ratio = torch.exp(log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND))
    bounded = log_ratio.abs() > LOG_RATIO_BOUND
    entropies = torch.where(mask, entropies.detach(), 0.0).to(logps.dtype)
    tokens = Tokens(logps, old_logps, ratio, advantages, entropies, mask, gate)

    # (3) and (4) its clip range and KL weight
    epsilon_low, epsilon_high = method.clip_range(tokens, constraints)
    beta = interpolate(gate, knowledge.beta, reasoning.beta)

    # (5) surrogate and KL
    surrogate = method.surrogate(tokens, epsilon_low, epsilon_high, constraints)
    loss = -surrogate.value
    if method.token_weights is not None:
        loss = loss * method.token_weights(tokens.detached(), surrogate.clipped_low | surrogate.clipped_high)
    if surrogate_weight is not None:
        loss = loss * torch.where(mask, surrogate_weight, 0.0)
    if ref_per_token_logps is None:
        kl = torch.zeros_like(loss)
    else:
        ref_logps = torch.where(mask, ref_per_token_logps, 0.0)
        bounded |= (ref_logps - logps).abs() > LOG_RATIO_BOUND
        kl = k3_kl(logps, ref_logps)
        if constraints.use_bias_correction_kl:
            kl = kl * ratio
        loss = loss + beta * kl

    return ArcherTokenLoss(
        loss=loss,
        kl=kl.detach(),
        ratio=torch.where(mask, ratio.detach(), 0.0),
        gate=gate,
        entropy_threshold=tau,
        clipped_low=surrogate.clipped_low,
        clipped_high=surrogate.clipped_high,
        capped=surrogate.capped,
        bounded=bounded,
        tokens=tokens.detached(),
    )


class Totals(NamedTuple):
    """
    Normalizers for the token losses of a micro-batch.

    Attributes:
        tokens (`Tensor`): Tokens of the generation batch that count, over all ranks.
        sequences (`Tensor`): Completions of the generation batch that count, over all ranks.
        share (`float`): Share of the generation batch that one rank uses in one optimizer step.
        micro_batches (`int`): Micro-batches of one optimizer step on one rank.
        max_completion_length (`int`): Longest possible completion, in tokens.
    """

    tokens: Tensor
    sequences: Tensor
    share: float
    micro_batches: int
    max_completion_length: int


def aggregate(token_loss: Tensor, mask: Tensor, loss_type: str, totals: Totals) -> Tensor:
    r"""
    Sums the token losses of a micro-batch, normalized as TRL's `loss_type` does.

    `"dapo"` is the $1 / \sum_i |o_i|$ of Wang et al. 2025, Eq. (5). The losses of the micro-batches of an optimizer
    step add up, and gradients are averaged over ranks. Only `"bnpo"` depends on how the step is split.

    Args:
        token_loss (`Tensor` of shape `(B, T)`): Losses, 0 outside the mask.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token that counts.
        loss_type (`str`): `"dapo"` (mean over tokens), `"grpo"` (mean over responses of their means), `"dr_grpo"`
            (constant length) or `"bnpo"` (mean over the tokens of the micro-batch).
        totals ([`Totals`]): Normalizers.

    Returns:
        `Tensor`: Scalar loss.

    Raises:
        ValueError: If `loss_type` is none of these.
    """
    match loss_type:
        case "dapo":
            return token_loss.sum() / (totals.tokens.clamp(min=1) * totals.share)
        case "grpo":
            per_sequence = token_loss.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return per_sequence.sum() / (totals.sequences.clamp(min=1) * totals.share)
        case "dr_grpo":
            slots = totals.sequences.clamp(min=1) * totals.max_completion_length
            return token_loss.sum() / (slots * totals.share)
        case "bnpo":
            return token_loss.sum() / mask.sum().clamp(min=1) / totals.micro_batches
    raise ValueError(f"loss_type={loss_type!r} has no clip range per token. Use 'dapo', 'grpo', 'dr_grpo' or 'bnpo'.")


def mean_entropy(entropies: Tensor, mask: Tensor, totals: Totals) -> Tensor:
    r"""
    Computes a micro-batch's share of the mean token entropy of an optimizer step, for an entropy bonus.

    $$ \frac{1}{\sum_i |o_i|} \sum_i \sum_t e_{i,t} $$

    Normalized as `"dapo"` is, so it does not depend on how the step is split. TRL averages each micro-batch by itself.

    Args:
        entropies (`Tensor` of shape `(B, T)`): Token entropies in nats, with gradient.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token that counts.
        totals ([`Totals`]): Normalizers.

    Returns:
        `Tensor`: Scalar, in nats.
    """
    return aggregate(torch.where(mask.bool(), entropies, 0.0), mask, "dapo", totals)
