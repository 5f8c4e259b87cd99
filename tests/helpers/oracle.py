"""The Archer loss a second time: plain Python loops in float64, importing nothing of ours and no tensor library.

It is the judge of the objective and of the trainer, so it favors the letter of Wang et al. 2025,
Eq. (2)-(5), and of TRL's `GRPOTrainer._compute_loss` over speed: one token after the other, every
branch written out. Rows are lists of floats of one length `T`, masks are lists of 0/1, and what sits
in a masked slot is never read, so it may be NaN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Row = Sequence[float]
Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Settings:
    """Hyperparameters, under the names and with the defaults (the paper's) of `archer_token_loss`.

    `epsilon` and `beta` hold for knowledge tokens, `epsilon_reasoning` and `beta_reasoning` for reasoning tokens; each
    `*_high` that is `None` takes the value of its low side.
    """

    entropy_quantile: float = 0.8
    gate_width: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    epsilon_reasoning: float = 0.5
    epsilon_reasoning_high: float | None = None
    beta: float = 0.001
    beta_reasoning: float = 0.0
    delta: float | None = None
    use_bias_correction_kl: bool = False


@dataclass(frozen=True)
class Batch:
    """One micro-batch. `advantages` holds one float per row; `surrogate_weight` one float per row or a row per row.

    `old_logps=None` means that the policy has not moved since sampling (every ratio is 1).
    `surrogate_weight` is the product of vLLM importance ratio and off-policy keep mask: it scales the
    surrogate and leaves the KL term alone.
    """

    logps: Rows
    old_logps: Rows | None
    ref_logps: Rows | None
    entropies: Rows
    mask: Sequence[Sequence[int]]
    advantages: Row
    surrogate_weight: Sequence[float | Sequence[float]] | None = None


@dataclass
class TokenTerms:
    """Per-token results, lists of `B` rows of length `T`, zero in masked slots; `threshold` has one float per row."""

    loss: list[list[float]]
    kl: list[list[float]]
    ratio: list[list[float]]
    gate: list[list[float]]
    clipped_low: list[list[bool]]
    clipped_high: list[list[bool]]
    capped: list[list[bool]]
    bounded: list[list[bool]]
    threshold: list[float]


def quantile_position(n: int, q: float) -> float:
    """Where the `q`-quantile of `n` values falls among the ranks 0..n-1.

    `q` is a decimal that a double only approximates: 0.7 * 90 comes out below 63 and would hand the strict comparison
    one token too many. So a product within rounding of a whole rank is that rank.
    """
    position = q * (n - 1)
    nearest = round(position)
    return float(nearest) if abs(position - nearest) < 1e-9 else position


def quantile(values: Row, q: float) -> float:
    """Quantile by linear interpolation between order statistics (numpy's default); 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    position = quantile_position(len(ordered), q)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def kept(row: Row, mask_row: Sequence[int]) -> list[float]:
    """The unmasked entries of a row, in order."""
    return [value for value, keep in zip(row, mask_row, strict=True) if keep]


def gate(entropies_row: Row, mask_row: Sequence[int], rho: float, gate_width: float) -> list[float]:
    """Role of each token of one response: 1 reasoning, 0 knowledge, in between for a graded gate; masked slots 0.

    Hard (`gate_width == 0`): entropy strictly above the response's own `rho`-quantile. Graded: a linear
    ramp over normalized ranks, `gate_width` wide, centered on the boundary between the last knowledge and
    the first reasoning rank.
    """
    own = kept(entropies_row, mask_row)
    n = len(own)
    tau = quantile(own, rho)
    boundary = math.floor(quantile_position(n, rho)) + 0.5
    weights = []
    for entropy, keep in zip(entropies_row, mask_row, strict=True):
        if not keep:
            weights.append(0.0)
        elif gate_width == 0:
            weights.append(1.0 if entropy > tau else 0.0)
        else:
            lower = 0
            for other in own:
                if other < entropy:
                    lower += 1
            ramp = (lower - boundary) / max(n - 1, 1) / gate_width + 0.5
            weights.append(min(max(ramp, 0.0), 1.0))
    return weights


def token_terms(
    logps: Rows,
    old_logps: Rows | None,
    ref_logps: Rows | None,
    entropies: Rows,
    mask: Sequence[Sequence[int]],
    advantages: Row,
    settings: Settings,
    surrogate_weight: Sequence[float | Sequence[float]] | None = None,
) -> TokenTerms:
    """Per-token terms of Eq. (5), as losses (to be minimized); `kl` includes the bias correction where it is set."""
    s = settings
    low_k, low_r = s.epsilon, s.epsilon_reasoning
    high_k = low_k if s.epsilon_high is None else s.epsilon_high
    high_r = low_r if s.epsilon_reasoning_high is None else s.epsilon_reasoning_high

    def zeros() -> list[list[float]]:
        return [[0.0] * len(row) for row in mask]

    def nowhere() -> list[list[bool]]:
        return [[False] * len(row) for row in mask]

    out = TokenTerms(zeros(), zeros(), zeros(), zeros(), nowhere(), nowhere(), nowhere(), nowhere(), [])
    for i, mask_row in enumerate(mask):
        advantage = advantages[i]
        out.threshold.append(quantile(kept(entropies[i], mask_row), s.entropy_quantile))
        out.gate[i] = gate(entropies[i], mask_row, s.entropy_quantile, s.gate_width)
        for t, keep in enumerate(mask_row):
            if not keep:
                continue
            w = out.gate[i][t]
            eps_low = low_k + w * (low_r - low_k)
            eps_high = high_k + w * (high_r - high_k)
            beta = s.beta + w * (s.beta_reasoning - s.beta)

            log_ratio = 0.0 if old_logps is None else logps[i][t] - old_logps[i][t]
            out.bounded[i][t] = abs(log_ratio) > 20
            ratio = math.exp(min(max(log_ratio, -20), 20))
            capped = ratio if s.delta is None else min(ratio, s.delta)
            clipped = min(max(ratio, 1 - eps_low), 1 + eps_high)
            surrogate = min(capped * advantage, clipped * advantage)

            weight = 1.0
            if surrogate_weight is not None:
                of_row = surrogate_weight[i]
                weight = of_row[t] if isinstance(of_row, Sequence) else of_row

            kl = 0.0
            if ref_logps is not None:
                difference = ref_logps[i][t] - logps[i][t]
                out.bounded[i][t] = out.bounded[i][t] or abs(difference) > 20
                difference = min(max(difference, -20), 20)
                kl = math.exp(difference) - difference - 1
                if s.use_bias_correction_kl:
                    kl *= ratio

            out.ratio[i][t] = ratio
            out.kl[i][t] = kl
            out.loss[i][t] = -surrogate * weight + beta * kl
            out.clipped_low[i][t] = ratio < 1 - eps_low and advantage < 0
            out.clipped_high[i][t] = ratio > 1 + eps_high and advantage > 0
            out.capped[i][t] = s.delta is not None and ratio > s.delta and advantage < 0
    return out


def archer_loss(
    batch: Batch,
    settings: Settings,
    loss_type: str = "dapo",
    *,
    num_items_in_batch: float | None = None,
    num_sequences: int | None = None,
    num_processes: int = 1,
    gradient_accumulation_steps: int = 1,
    steps_per_generation: int = 1,
    max_completion_length: int | None = None,
) -> float:
    """Scalar loss of one micro-batch of one process, as the trainer hands it to `backward`.

    `num_items_in_batch` (tokens) and `num_sequences` count the whole generation batch over all processes;
    left out, they count this micro-batch. In evaluation a batch is not accumulated: leave both step counts at 1.
    """
    rows = token_terms(
        batch.logps,
        batch.old_logps,
        batch.ref_logps,
        batch.entropies,
        batch.mask,
        batch.advantages,
        settings,
        batch.surrogate_weight,
    ).loss
    tokens = sum(sum(row) for row in batch.mask)
    items = tokens if num_items_in_batch is None else num_items_in_batch
    sequences = len(rows) if num_sequences is None else num_sequences
    window = gradient_accumulation_steps / steps_per_generation / num_processes

    if loss_type == "dapo":
        return math.fsum(sum(row) for row in rows) / (max(items, 1) * window)
    if loss_type == "grpo":
        means = [sum(row) / max(sum(keep), 1) for row, keep in zip(rows, batch.mask, strict=True)]
        return math.fsum(means) / (sequences * window)
    if loss_type == "dr_grpo":
        if max_completion_length is None:
            raise ValueError("loss_type='dr_grpo' needs max_completion_length, got None")
        return math.fsum(sum(row) for row in rows) / (sequences * window * max_completion_length)
    if loss_type == "bnpo":
        return math.fsum(sum(row) for row in rows) / max(tokens, 1) / gradient_accumulation_steps
    raise ValueError(f"unknown loss_type {loss_type!r}; known: dapo, grpo, dr_grpo, bnpo")


def logps_and_entropies(
    logits: Rows, token_ids: Sequence[int], temperature: float = 1.0
) -> tuple[list[float], list[float]]:
    """Log-probability of each token and entropy (nats) of each position, from raw logits `(T, V)` over `temperature`.

    A logit of `-inf` (a token that cannot be drawn) adds nothing to the entropy.
    """
    logps, entropies = [], []
    for row, token in zip(logits, token_ids, strict=True):
        scaled = [logit / temperature for logit in row]
        top = max(scaled)
        log_total = top + math.log(math.fsum(math.exp(value - top) for value in scaled))
        log_probs = [value - log_total for value in scaled]
        logps.append(log_probs[token])
        entropies.append(-math.fsum(math.exp(lp) * lp for lp in log_probs if lp > -math.inf))
    return logps, entropies
