"""Statistics of a training step, by role and over all ranks.

Token statistics are sums, so micro-batches and ranks of unequal size add up exactly. Each micro-batch produces one
vector, one collective gathers it from all ranks, and means are computed once, when they are logged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .methods.flow import entropy_change
from .objective import ArcherTokenLoss

# Order of the vector. Sums over tokens come first, then sums over responses, then extremes.
# Quadrants of the entropy flow: sign of the advantage, and whether a token is likelier than average, in nats
_FLOWS = tuple(f"entropy_flow/{sign}_{kind}" for sign in ("positive", "negative") for kind in ("likely", "unlikely"))
_TOKEN_SUMS = ("tokens", "entropy", "kl", "clipped_low", "clipped_high", "capped", "bounded", *_FLOWS)
_SUMS = (
    *(f"{name}/{role}" for role in ("reasoning", "knowledge") for name in _TOKEN_SUMS),
    *("responses", "threshold", "mean_entropy", "squared_deviation", "aux_loss", "micro_batches"),
)
_EXTREMES = ("smallest share clipped low", "largest share clipped high", "largest |log ratio|")
WIDTH = len(_SUMS) + len(_EXTREMES)


def token_statistics(pieces: ArcherTokenLoss, aux_loss: Tensor | None = None) -> Tensor:
    """
    Computes the sums and extremes of one micro-batch on one rank.

    Args:
        pieces ([`ArcherTokenLoss`]): Per-token pieces of the loss.
        aux_loss (`Tensor`, *optional*): Load-balancing loss of a mixture-of-experts model.

    Returns:
        `Tensor` of shape `(WIDTH,)`: float32, for [`summarize`]. With a graded gate, each token counts toward both
        roles in proportion to its weight.
    """
    logps, _, _, advantages, entropies, mask, _ = pieces.tokens
    entropies = entropies.float()
    flow = entropy_change(logps, entropies, advantages).float()
    likely, positive = logps + entropies > 0, advantages > 0
    flows = [torch.where(side & kind, flow, 0.0) for side in (positive, ~positive) for kind in (likely, ~likely)]
    low, high = pieces.clipped_low.float(), pieces.clipped_high.float()
    tokens, reasoning = mask.float(), pieces.gate.float()
    columns = (tokens, entropies, pieces.kl.float(), low, high, pieces.capped.float(), pieces.bounded.float(), *flows)
    by_token = [(weight * x).sum() for weight in (reasoning, tokens - reasoning) for x in columns]

    lengths = mask.sum(dim=1)
    present = lengths > 0
    per_response = lengths.clamp(min=1)
    mean_entropy = entropies.sum(dim=1) / per_response
    deviation = torch.where(present, mean_entropy - mean_entropy.sum() / present.sum().clamp(min=1), 0.0)
    zero = torch.zeros((), device=mask.device)
    by_response = [present.sum(), pieces.entropy_threshold.sum(), mean_entropy.sum(), deviation.square().sum()]
    low_share = torch.where(present, low.sum(dim=1) / per_response, torch.inf)
    high_share = torch.where(present, high.sum(dim=1) / per_response, -torch.inf)
    aux = zero if aux_loss is None else aux_loss.detach()
    distance = torch.where(mask, pieces.ratio, 1.0).log().abs()
    extremes = (low_share.min(), high_share.max(), distance.max())
    return torch.stack([x.float() for x in (*by_token, *by_response, aux, zero + 1, *extremes)])


def summarize(
    statistics: Sequence[Tensor], with_kl: bool, with_aux_loss: bool, with_cap: bool = False
) -> dict[str, float]:
    """
    Computes means over all tokens, responses or micro-batches of a logging window. A micro-batch with a non-finite
    sum, whose update is skipped, is left out.

    Args:
        statistics (`Sequence` of `Tensor` of shape `(world, WIDTH)`): Gathered results of [`token_statistics`].
        with_kl (`bool`): Whether there is a reference model.
        with_aux_loss (`bool`): Whether there is a load-balancing loss.
        with_cap (`bool`): Whether there is a dual clip or another cap on weights.

    Returns:
        `dict[str, float]`: Value by metric name; NaN where there was nothing to average, such as the entropy of
        reasoning tokens when every token is knowledge.
    """
    table = torch.cat([rows.reshape(-1, WIDTH) for rows in statistics]).cpu().double()
    table = table[finite_rows(table)]
    total = dict(zip(_SUMS, table.sum(dim=0).tolist(), strict=False))
    lowest, highest, farthest = _extremes(table) if total["responses"] else (float("nan"),) * 3
    for name in _TOKEN_SUMS:
        total[name] = total[f"{name}/reasoning"] + total[f"{name}/knowledge"]

    def mean(name: str, role: str = "") -> float:
        return _ratio(total[name + role], total["tokens" + role])

    def per_response(name: str) -> float:
        return _ratio(total[name], total["responses"])

    metrics = {
        "entropy": mean("entropy"),
        "clip_ratio/low_mean": mean("clipped_low"),
        "clip_ratio/low_min": lowest,
        "clip_ratio/high_mean": mean("clipped_high"),
        "clip_ratio/high_max": highest,
        "clip_ratio/region_mean": mean("clipped_low") + mean("clipped_high"),
        "log_ratio/max": farthest,
        "log_ratio/bounded": mean("bounded"),
        "archer/reasoning_fraction": _ratio(total["tokens/reasoning"], total["tokens"]),
        "archer/entropy_threshold": per_response("threshold"),
        "archer/entropy_spread": _spread(table),
    }
    for role in ("reasoning", "knowledge"):
        metrics[f"entropy/{role}"] = mean("entropy", f"/{role}")
        metrics[f"clip_ratio/{role}/low_mean"] = mean("clipped_low", f"/{role}")
        metrics[f"clip_ratio/{role}/high_mean"] = mean("clipped_high", f"/{role}")
        # Of all tokens, so that the flows add up
        metrics.update({f"{name}/{role}": _ratio(total[f"{name}/{role}"], total["tokens"]) for name in _FLOWS})
    metrics["entropy_flow"] = sum(_ratio(total[name], total["tokens"]) for name in _FLOWS)
    if with_cap:
        metrics["clip_ratio/capped_mean"] = mean("capped")
    if with_kl:
        metrics["kl"] = mean("kl")
        metrics.update({f"kl/{role}": mean("kl", f"/{role}") for role in ("reasoning", "knowledge")})
    if with_aux_loss:
        metrics["aux_loss"] = _ratio(total["aux_loss"], total["micro_batches"])
    return metrics


def finite_rows(table: Tensor) -> Tensor:
    """Marks the micro-batches of a table `(N, WIDTH)` whose sums are all finite, `(N,)`."""
    return table[:, : len(_SUMS)].isfinite().all(dim=1)


def mean_token_entropy(table: Tensor) -> float:
    """Returns the mean entropy in nats over the tokens of a table `(N, WIDTH)`; NaN without a token."""
    entropies, tokens = (
        sum(table[:, _SUMS.index(f"{name}/{role}")].sum().item() for role in ("reasoning", "knowledge"))
        for name in ("entropy", "tokens")
    )
    return _ratio(entropies, tokens)


def _extremes(table: Tensor) -> tuple[float, ...]:
    low, high, distance = table[:, len(_SUMS) :].unbind(dim=1)
    return low.min().item(), high.max().item(), distance.max().item()


def _spread(table: Tensor) -> float:
    """Computes the standard deviation over all responses from each micro-batch's own mean and squared deviations."""
    count, total, within = (table[:, _SUMS.index(name)] for name in ("responses", "mean_entropy", "squared_deviation"))
    if not count.sum() > 0:
        return float("nan")
    between = count * (total / count.clamp(min=1) - total.sum() / count.sum()).square()
    return ((within + between).sum() / count.sum()).sqrt().item()


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")
