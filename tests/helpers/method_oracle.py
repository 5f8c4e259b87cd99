"""Loss and gradient of each method a second time: plain Python, one float64 token after the other, nothing of ours.

The gradient is that of a token's loss with respect to its own log-probability, written out by hand.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import oracle

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Choice:
    """Fields of `MethodConfig` with their defaults, and the statistics of the step before."""

    surrogate: str = "clip"
    clip_range: str = "roles"
    token_weights: str | None = None
    aspo_cap: float = 3.0
    clip_slope_low: float = -0.13
    clip_slope_high: float = -0.25
    clip_offset_low: float = 0.1
    clip_offset_high: float = 0.3
    shares: tuple[float, float] = (1.0, 1.0)
    probability_alpha: float = 0.2
    steer_min_weight: float = 0.8
    clip_cov_low: float = 1.0
    clip_cov_high: float = 5.0
    state: Mapping[str, float] = field(default_factory=dict)


def surrogate(
    choice: Choice, logp: float, old: float, advantage: float, low: float, high: float
) -> tuple[float, float, bool]:
    """Value, its derivative by the log-probability, and whether the clip range stopped the token."""
    ratio = math.exp(min(max(logp - old, -20), 20))
    below, above = ratio < 1 - low and advantage < 0, ratio > 1 + high and advantage > 0
    if choice.surrogate == "clip":
        if below or above:
            return advantage * (1 - low if below else 1 + high), 0.0, True
        inside = abs(logp - old) <= 20
        return advantage * ratio, advantage * ratio if inside else 0.0, False
    if choice.surrogate == "aspo":
        if below:
            return advantage * min(1 - low, choice.aspo_cap), 0.0, True
        if above:
            return advantage * min(1 / (1 + high), choice.aspo_cap), 0.0, True
        weight = min(1 / ratio if advantage > 0 else ratio, choice.aspo_cap)
        return advantage * weight, advantage * weight, False
    if choice.surrogate == "cispo":
        weight = min(ratio, 1 + high)
        return advantage * weight, advantage * weight, False
    rise = math.exp(logp) - math.exp(old)
    weight = min(ratio, 20)
    stopped = (rise > high and advantage > 0) or (rise < -low and advantage < 0)
    return advantage * weight, 0.0 if stopped else advantage * weight, stopped


def token_weight(
    choice: Choice, logp: float, old: float, advantage: float, entropy: float, stopped: bool, uniform: float
) -> float:
    """Factor of the surrogate."""
    pi = math.exp(logp)
    if choice.token_weights == "opefo":
        change = -advantage * (1 - pi) ** 2 * (logp + entropy)
        lam = choice.state.get("lambda", 0.0)
        return 1 + lam if change > 0 else 1 - lam if change < 0 else 1.0
    if choice.token_weights == "probability":
        return choice.probability_alpha * math.exp(old) + 1 - choice.probability_alpha
    if choice.token_weights == "steer":
        change = abs(advantage * math.exp(min(max(logp - old, -20), 20)) * (1 - pi) * (logp + entropy))
        k = -math.log(choice.steer_min_weight) / max(choice.state.get("largest", 0.0), 0.02)
        return max(math.exp(-k * change), choice.steer_min_weight)
    if choice.token_weights == "clip_cov":
        covariance = (advantage - choice.state.get("advantage", 0.0)) * (logp - choice.state.get("logp", 0.0))
        eligible = choice.clip_cov_low < covariance < choice.clip_cov_high and not stopped
        return 0.0 if eligible and uniform < choice.state.get("rate", 0.0) else 1.0
    return 1.0


@dataclass
class Terms:
    """Loss of each token, and its derivative by the token's log-probability; 0 in masked slots."""

    loss: list[list[float]]
    gradient: list[list[float]]


def terms(
    logps: Rows,
    old_logps: Rows | None,
    ref_logps: Rows | None,
    entropies: Rows,
    mask: Sequence[Sequence[int]],
    advantages: Sequence[float],
    settings: oracle.Settings,
    choice: Choice,
    uniform: Rows | None = None,
) -> Terms:
    """All tokens. `uniform` are the random numbers of Clip-Cov."""
    s = settings
    high_k = s.epsilon if s.epsilon_high is None else s.epsilon_high
    high_r = s.epsilon_reasoning if s.epsilon_reasoning_high is None else s.epsilon_reasoning_high
    out = Terms([[0.0] * len(row) for row in mask], [[0.0] * len(row) for row in mask])
    for i, mask_row in enumerate(mask):
        gates = oracle.gate(entropies[i], mask_row, s.entropy_quantile, s.gate_width)
        for t, keep in enumerate(mask_row):
            if not keep:
                continue
            logp, w, advantage = logps[i][t], gates[t], advantages[i]
            old = logp if old_logps is None else old_logps[i][t]
            low = s.epsilon + w * (s.epsilon_reasoning - s.epsilon)
            high = high_k + w * (high_r - high_k)
            if choice.clip_range == "probability":
                low += choice.shares[0] * (choice.clip_offset_low + choice.clip_slope_low * math.exp(logp))
                high += choice.shares[1] * (choice.clip_offset_high + choice.clip_slope_high * math.exp(logp))
            value, slope, stopped = surrogate(choice, logp, old, advantage, low, high)
            draw = 1.0 if uniform is None else uniform[i][t]
            weight = token_weight(choice, logp, old, advantage, entropies[i][t], stopped, draw)
            out.loss[i][t], out.gradient[i][t] = -weight * value, -weight * slope
            if ref_logps is not None:
                beta = s.beta + w * (s.beta_reasoning - s.beta)
                difference = min(max(ref_logps[i][t] - logp, -20), 20)
                out.loss[i][t] += beta * (math.exp(difference) - difference - 1)
                out.gradient[i][t] += beta * (1 - math.exp(difference)) * (abs(ref_logps[i][t] - logp) <= 20)
    return out


def statistics(
    logps: Rows,
    old_logps: Rows | None,
    entropies: Rows,
    mask: Sequence[Sequence[int]],
    advantages: Sequence[float],
    stopped: Sequence[Sequence[bool]],
    choice: Choice,
    clip_cov_ratio: float = 0.0002,
) -> dict[str, Any]:
    """Statistics of an optimizer step, which the weights of the next one use."""
    raised, lowered, largest = 0.0, 0.0, 0.0
    count, advantage_sum, logp_sum, eligible = 0, 0.0, 0.0, 0
    for i, mask_row in enumerate(mask):
        for t, keep in enumerate(mask_row):
            if not keep:
                continue
            logp, advantage, pi = logps[i][t], advantages[i], math.exp(logps[i][t])
            old = logp if old_logps is None else old_logps[i][t]
            change = -advantage * (1 - pi) ** 2 * (logp + entropies[i][t])
            raised, lowered = raised + max(change, 0.0), lowered + max(-change, 0.0)
            steer = abs(advantage * math.exp(min(max(logp - old, -20), 20)) * (1 - pi) * (logp + entropies[i][t]))
            largest = max(largest, steer)
            covariance = (advantage - choice.state.get("advantage", 0.0)) * (logp - choice.state.get("logp", 0.0))
            eligible += choice.clip_cov_low < covariance < choice.clip_cov_high and not stopped[i][t]
            count, advantage_sum, logp_sum = count + 1, advantage_sum + advantage, logp_sum + logp
    match choice.token_weights:
        case "opefo":
            return {"lambda": (lowered - raised) / (lowered + raised)}
        case "steer":
            return {"largest": largest}
        case "clip_cov":
            rate = min(clip_cov_ratio * count / eligible, 1.0) if eligible else 0.0
            return {"advantage": advantage_sum / count, "logp": logp_sum / count, "rate": rate}
    return {}
