"""The token loss, Wang et al. 2025, Eq. (3)-(5): values, gradients, and what must not change them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from trl_archer.objective import ArcherTokenLoss, clipped_surrogate, interpolate, k3_kl

from ..helpers import oracle
from ..helpers.settings import token_loss
from ..helpers.tolerances import BY_DTYPE, FINITE_DIFFERENCE, FINITE_DIFFERENCE_STEP, FLOAT32, FLOAT64, K3_FLOOR

DTYPES = [torch.float32, torch.float64]
NO_KL: dict[str, Any] = {"beta": 0.0, "beta_reasoning": 0.0}
ASYMMETRIC: dict[str, Any] = {
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "epsilon_reasoning": 0.5,
    "epsilon_reasoning_high": 0.7,
}
FLOAT_FIELDS = ("loss", "kl", "ratio", "gate", "entropy_threshold")
BOOL_FIELDS = ("clipped_low", "clipped_high", "capped", "bounded")

CASES: dict[str, dict[str, Any]] = {
    "paper": {},
    "large-kl": {"beta": 0.3, "beta_reasoning": 0.05},
    "reasoning-kl-only": {"beta": 0.0, "beta_reasoning": 0.4},
    "no-kl": NO_KL,
    "asymmetric": ASYMMETRIC,
    "graded": {"gate_width": 0.5, "beta": 0.3, **ASYMMETRIC},
    "delta": {"delta": 1.8, **ASYMMETRIC},
    "kl-bias-correction": {"use_bias_correction_kl": True, "beta": 0.3, "beta_reasoning": 0.1},
    "delta-and-bias-correction": {"use_bias_correction_kl": True, "beta": 0.3, "delta": 1.6},
    "median": {"entropy_quantile": 0.5, "beta": 0.2},
    "no-reasoning": {"entropy_quantile": 1.0, "beta": 0.2},
}


def random_inputs(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Log-probabilities with ratios on both sides of every range, padding, a hole, a short and an empty response."""
    generator = torch.Generator().manual_seed(seed)
    rows, length = 5, 17

    def normal() -> Tensor:
        return torch.randn(rows, length, dtype=torch.float64, generator=generator)

    logps = -normal().exp()
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1, 9:] = 0
    mask[2, 4:8] = 0
    mask[3, 1:] = 0
    mask[4] = 0
    inputs = {
        "per_token_logps": logps,
        "old_per_token_logps": logps + 0.8 * normal(),
        "ref_per_token_logps": logps + 0.5 * normal(),
        "entropies": normal().exp(),
        "advantages": 2 * torch.randn(rows, dtype=torch.float64, generator=generator),
        "surrogate_weight": (0.5 * normal()).exp(),
    }
    return {name: tensor.to(dtype) for name, tensor in inputs.items()} | {"mask": mask}


def compute(inputs: dict[str, Any], **overrides: Any) -> ArcherTokenLoss:
    """`archer_token_loss` with some inputs and settings replaced."""
    return token_loss(**(inputs | overrides))


def loss_and_gradient(inputs: dict[str, Any], **overrides: Any) -> tuple[ArcherTokenLoss, Tensor]:
    """All outputs, and the gradient of the summed loss with respect to the policy's log-probabilities."""
    arguments = inputs | overrides
    logps = arguments["per_token_logps"].detach().clone().requires_grad_()
    out = token_loss(**(arguments | {"per_token_logps": logps}))
    (gradient,) = torch.autograd.grad(out.loss.sum(), logps)
    return out, gradient


def oracle_terms(inputs: dict[str, Any], **overrides: Any) -> oracle.TokenTerms:
    """The oracle on the same numbers, after whatever rounding their dtype brought."""
    lists: dict[str, Any] = {name: None if value is None else value.tolist() for name, value in inputs.items()}
    return oracle.token_terms(
        lists["per_token_logps"],
        lists["old_per_token_logps"],
        lists["ref_per_token_logps"],
        lists["entropies"],
        lists["mask"],
        lists["advantages"],
        oracle.Settings(**overrides),
        lists["surrogate_weight"],
    )


def each(change: Callable[..., Tensor], *outs: ArcherTokenLoss) -> ArcherTokenLoss:
    """Changes each output. The last field holds the inputs."""
    return ArcherTokenLoss(*(change(*field) for field in zip(*(out[:-1] for out in outs), strict=True)), outs[0].tokens)


def assert_bit_equal(actual: ArcherTokenLoss, expected: ArcherTokenLoss) -> None:
    for name in (*FLOAT_FIELDS, *BOOL_FIELDS):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name


def assert_agrees_with_oracle(out: ArcherTokenLoss, terms: oracle.TokenTerms, dtype: torch.dtype) -> None:
    for name in FLOAT_FIELDS:
        expected = terms.threshold if name == "entropy_threshold" else getattr(terms, name)
        actual = getattr(out, name)
        torch.testing.assert_close(actual, torch.tensor(expected, dtype=dtype), **BY_DTYPE[dtype])
    for name in BOOL_FIELDS:
        assert getattr(out, name).tolist() == getattr(terms, name), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_oracle(case: str, seed: int, dtype: torch.dtype) -> None:
    """Every output, with the pieces that may be missing present and missing."""
    inputs = random_inputs(seed, dtype)
    assert_agrees_with_oracle(compute(inputs, **CASES[case]), oracle_terms(inputs, **CASES[case]), dtype)
    for missing in ("old_per_token_logps", "surrogate_weight"):
        without = inputs | {missing: None}
        assert_agrees_with_oracle(compute(without, **CASES[case]), oracle_terms(without, **CASES[case]), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["large-kl", "delta", "kl-bias-correction"])
def test_extreme_log_ratios_agree_with_oracle(case: str, dtype: torch.dtype) -> None:
    """Up to 200 nats apart, where `exp` overflows in float32. The gradient is that of the oracle's finite values."""
    inputs = random_inputs(0, dtype)
    distance = torch.linspace(-200, 200, 17, dtype=dtype)
    for name, sign in (("old_per_token_logps", 1), ("ref_per_token_logps", -1)):
        inputs[name] = inputs["per_token_logps"] + sign * distance
    out, gradient = loss_and_gradient(inputs, **CASES[case])
    assert_agrees_with_oracle(out, oracle_terms(inputs, **CASES[case]), dtype)
    assert out.bounded.any()
    assert not out.bounded.all()
    assert gradient.isfinite().all()
    assert (gradient[out.bounded] == 0).all()
    assert (gradient[inputs["mask"].bool() & ~out.bounded] != 0).any()


def test_random_inputs_reach_every_branch() -> None:
    """The comparison above is only worth what its inputs reach: both roles, both sides clipped in each, a cut delta."""
    clipped = {(role, side): 0 for role in (0, 1) for side in ("clipped_low", "clipped_high")}
    capped = 0
    for seed in range(3):
        terms = oracle_terms(random_inputs(seed), **ASYMMETRIC)
        for role, side in clipped:
            for weights, flags in zip(terms.gate, getattr(terms, side), strict=True):
                clipped[role, side] += sum(flag and w == role for w, flag in zip(weights, flags, strict=True))
        advantages = random_inputs(seed)["advantages"].tolist()
        for ratios, advantage in zip(terms.ratio, advantages, strict=True):
            capped += sum(ratio > 1.8 and advantage < 0 for ratio in ratios)
    assert min(clipped.values()) > 0
    assert capped > 0


@pytest.mark.parametrize("case", CASES)
def test_gradient_agrees_with_differences_of_the_oracle(case: str) -> None:
    """Central differences of the oracle, one log-probability at a time, know nothing of autograd or of `detach`."""
    inputs = random_inputs(seed=7)
    step = FINITE_DIFFERENCE_STEP
    up = oracle_terms(inputs | {"per_token_logps": inputs["per_token_logps"] + step}, **CASES[case])
    down = oracle_terms(inputs | {"per_token_logps": inputs["per_token_logps"] - step}, **CASES[case])
    expected = (torch.tensor(up.loss, dtype=torch.float64) - torch.tensor(down.loss, dtype=torch.float64)) / (2 * step)
    _, gradient = loss_and_gradient(inputs, **CASES[case])
    torch.testing.assert_close(gradient, expected, **FINITE_DIFFERENCE)


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case: str) -> None:
    """The loss of each token depends on its own log-probability only, smoothly away from the edges of the ranges."""
    inputs = random_inputs(seed=8)

    def loss(logps: Tensor) -> Tensor:
        return compute(inputs, per_token_logps=logps, **CASES[case]).loss

    assert torch.autograd.gradcheck(loss, inputs["per_token_logps"].clone().requires_grad_())


# Ratios on both sides of each edge: knowledge [0.8, 1.28], reasoning [0.5, 1.7]. 0.7 and 1.4 are outside for a
# knowledge token and inside for a reasoning one; 0.75, 1.25, 0.45 and 1.65 change sides if low and high are swapped.
ZONES = [
    ("knowledge", 0.7, "below"),
    ("knowledge", 0.75, "below"),
    ("knowledge", 0.85, "inside"),
    ("knowledge", 1.25, "inside"),
    ("knowledge", 1.4, "above"),
    ("knowledge", 1.65, "above"),
    ("reasoning", 0.45, "below"),
    ("reasoning", 0.55, "inside"),
    ("reasoning", 0.7, "inside"),
    ("reasoning", 1.4, "inside"),
    ("reasoning", 1.65, "inside"),
    ("reasoning", 1.8, "above"),
]


@pytest.mark.parametrize("advantage", [1.5, -1.5])
@pytest.mark.parametrize(("role", "ratio", "zone"), ZONES)
def test_gradient_table(role: str, ratio: float, zone: str, advantage: float) -> None:
    """Role x side of the range x sign of the advantage: the range stops a token only where it would be left further.

    A positive advantage raises the log-probability (negative gradient of the loss) unless the ratio is above the range;
    a negative one lowers it unless the ratio is below. Where it is not stopped the gradient is -A r.
    """
    position = 1 if role == "reasoning" else 0
    logps = torch.zeros(1, 2, dtype=torch.float64)
    logps[0, position] = math.log(ratio)
    inputs = {
        "per_token_logps": logps,
        "old_per_token_logps": torch.zeros(1, 2, dtype=torch.float64),
        "advantages": torch.tensor([advantage], dtype=torch.float64),
        "entropies": torch.tensor([[0.1, 2.0]], dtype=torch.float64),
        "mask": torch.ones(1, 2),
    }
    out, gradient = loss_and_gradient(inputs, **NO_KL, **ASYMMETRIC)
    stopped = (zone, advantage > 0) in [("above", True), ("below", False)]
    own = gradient[0, position].item()
    if stopped:
        assert own == 0.0
    else:
        assert math.copysign(1.0, own) == math.copysign(1.0, -advantage)
        assert own == pytest.approx(-advantage * ratio, rel=FLOAT64["rtol"])
    assert out.gate.tolist() == [[0.0, 1.0]]
    assert out.clipped_low[0, position].item() == (stopped and zone == "below")
    assert out.clipped_high[0, position].item() == (stopped and zone == "above")


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [(12.0, -2.0, 20.0, 0.0), (9.0, -2.0, 18.0, 18.0), (12.0, 2.0, -2.4, 0.0), (1.1, 2.0, -2.2, -2.2)],
)
def test_delta_caps_negative_advantages(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    """Dual clip at 10: a token whose ratio exploded is no longer pushed down; with A > 0 the range comes first."""
    inputs = {
        "per_token_logps": torch.tensor([[math.log(ratio)]], dtype=torch.float64),
        "old_per_token_logps": torch.zeros(1, 1, dtype=torch.float64),
        "advantages": torch.tensor([advantage], dtype=torch.float64),
        "entropies": torch.ones(1, 1, dtype=torch.float64),
        "mask": torch.ones(1, 1),
    }
    out, slope = loss_and_gradient(inputs, delta=10.0, **NO_KL)
    assert out.loss.item() == pytest.approx(loss, rel=FLOAT64["rtol"])
    assert slope.item() == pytest.approx(gradient, rel=FLOAT64["rtol"])


def test_clipped_surrogate_by_hand() -> None:
    """To be maximized, so the smaller of the two; ranges as numbers, per token, and a column of advantages."""
    ratio = torch.tensor([[0.25, 1.0, 4.0], [0.25, 1.0, 4.0]])
    advantages = torch.tensor([[2.0], [-2.0]])
    assert clipped_surrogate(ratio, advantages, 0.5, 1.0).tolist() == [[0.5, 2.0, 4.0], [-1.0, -2.0, -8.0]]
    capped = clipped_surrogate(ratio, advantages, 0.5, 1.0, delta=3.0)
    assert capped.tolist() == [[0.5, 2.0, 4.0], [-1.0, -2.0, -6.0]]
    low, high = torch.tensor([[0.5, 0.5, 0.5], [0.875, 0.5, 0.5]]), torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    per_token = clipped_surrogate(ratio, advantages.expand(2, 3), low, high)
    assert per_token.tolist() == [[0.5, 2.0, 6.0], [-0.5, -2.0, -8.0]]


def test_interpolate_by_hand() -> None:
    """Weight 1 is reasoning. Equal values stay themselves bit for bit, which is what makes GRPO a special case."""
    gate = torch.tensor([[0.0, 0.25, 1.0]])
    assert interpolate(gate, 0.25, 0.5).tolist() == [[0.25, 0.3125, 0.5]]
    assert interpolate(gate, 0.001, 0.0)[0, 2].item() == 0.0
    for value in (0.2, 0.28, 1e-3, 1 / 3):
        assert torch.equal(interpolate(torch.linspace(0, 1, 50), value, value), torch.full((50,), value))


@pytest.mark.parametrize("dtype", DTYPES)
def test_k3_by_hand(dtype: torch.dtype) -> None:
    """d = log ref - log policy: 0 at equality, 1 - ln 2 at twice the probability, ln 2 - 1/2 at half of it."""
    logps = torch.full((1, 4), -1.0, dtype=dtype)
    ref = logps + torch.tensor([[0.0, math.log(2), -math.log(2), -1.0]], dtype=dtype)
    expected = torch.tensor([[0.0, 1 - math.log(2), math.log(2) - 0.5, math.exp(-1)]], dtype=dtype)
    torch.testing.assert_close(k3_kl(logps, ref), expected, **BY_DTYPE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_k3_is_not_negative(dtype: torch.dtype) -> None:
    """At least 0 up to the rounding of numbers near 1, and well above it away from equality."""
    difference = torch.cat([torch.logspace(-8, 1, 2000, dtype=dtype), -torch.logspace(-8, 1.5, 2000, dtype=dtype)])
    kl = k3_kl(torch.zeros_like(difference), difference)
    assert kl.min().item() >= K3_FLOOR[dtype]
    assert kl[difference.abs() > 0.01].min().item() > 4e-5


@pytest.mark.parametrize(("beta", "beta_reasoning"), [(0.5, 0.0), (0.0, 0.5), (0.25, 1.0)])
def test_kl_gradient_by_role(beta: float, beta_reasoning: float) -> None:
    """Without advantages only the KL pulls, by the role's weight times 1 - exp(d): to the reference, or not at all."""
    inputs = random_inputs(seed=3) | {"advantages": torch.zeros(5, dtype=torch.float64)}
    out, gradient = loss_and_gradient(inputs, beta=beta, beta_reasoning=beta_reasoning)
    d = inputs["ref_per_token_logps"] - inputs["per_token_logps"]
    knowledge = inputs["mask"].bool() & (out.gate == 0)
    reasoning = out.gate == 1
    assert knowledge.sum() > 20
    assert reasoning.sum() > 5
    torch.testing.assert_close(gradient[knowledge], beta * (1 - d[knowledge].exp()), **FLOAT64)
    torch.testing.assert_close(gradient[reasoning], beta_reasoning * (1 - d[reasoning].exp()), **FLOAT64)
    if beta_reasoning == 0:
        assert gradient[reasoning].count_nonzero() == 0
    if beta == 0:
        assert gradient[knowledge].count_nonzero() == 0


def test_bias_correction_multiplies_value_and_gradient() -> None:
    """r k has the slope r (k + 1 - exp(d)): the ratio is no detached weight, and `delta` does not cap it."""
    inputs = random_inputs(seed=4) | {"advantages": torch.zeros(5, dtype=torch.float64)}
    out, gradient = loss_and_gradient(
        inputs,
        beta=0.5,
        beta_reasoning=0.5,
        use_bias_correction_kl=True,
        delta=1.1,
        epsilon=0.0,
        epsilon_reasoning=0.0,
    )
    keep = inputs["mask"].bool()
    ratio = (inputs["per_token_logps"] - inputs["old_per_token_logps"]).exp()[keep]
    d = (inputs["ref_per_token_logps"] - inputs["per_token_logps"])[keep]
    k3 = d.exp() - d - 1
    torch.testing.assert_close(out.kl[keep], ratio * k3, **FLOAT64)
    torch.testing.assert_close(gradient[keep], 0.5 * ratio * (k3 + 1 - d.exp()), **FLOAT64)


@pytest.mark.parametrize("shape", ["token", "row"])
def test_surrogate_weight_spares_the_kl(shape: str) -> None:
    """A response dropped as off-policy (weight 0) stays tied to the reference; a weight doubles the surrogate alone."""
    inputs = random_inputs(seed=5)
    settings: dict[str, Any] = {"beta": 0.3, "beta_reasoning": 0.1}
    weight = torch.ones(5, 17 if shape == "token" else 1, dtype=torch.float64)
    kl_only, kl_gradient = loss_and_gradient(inputs, advantages=torch.zeros(5, dtype=torch.float64), **settings)
    dropped, dropped_gradient = loss_and_gradient(inputs, surrogate_weight=0 * weight, **settings)
    assert torch.equal(dropped.loss, kl_only.loss)
    assert torch.equal(dropped_gradient, kl_gradient)
    assert kl_only.loss.count_nonzero() == inputs["mask"].sum()

    once, once_gradient = loss_and_gradient(inputs, surrogate_weight=None, **settings)
    twice, twice_gradient = loss_and_gradient(inputs, surrogate_weight=2 * weight, **settings)
    torch.testing.assert_close(twice.loss - once.loss, once.loss - kl_only.loss, **FLOAT64)
    torch.testing.assert_close(twice_gradient - once_gradient, once_gradient - kl_gradient, **FLOAT64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("delta", [None, 1.6])
@pytest.mark.parametrize("gate_width", [0.0, 0.5])
def test_equal_roles_are_grpo(gate_width: float, delta: float | None, dtype: torch.dtype) -> None:
    """One range and one weight for both roles: GRPO's formula, bit for bit, whatever the entropies say."""
    inputs = random_inputs(seed=6, dtype=dtype)
    equal: dict[str, Any] = {
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "epsilon_reasoning": 0.2,
        "epsilon_reasoning_high": 0.28,
        "beta": 0.04,
        "beta_reasoning": 0.04,
        "delta": delta,
        "gate_width": gate_width,
    }
    out, gradient = loss_and_gradient(inputs, **equal)

    keep = inputs["mask"].bool()
    logps = inputs["per_token_logps"].clone().requires_grad_()
    ratio = torch.exp(logps - inputs["old_per_token_logps"])
    advantages = inputs["advantages"].unsqueeze(1)
    first = ratio if delta is None else ratio.clamp(max=delta)
    loss = -torch.min(first * advantages, ratio.clamp(1 - 0.2, 1 + 0.28) * advantages) * inputs["surrogate_weight"]
    d = inputs["ref_per_token_logps"] - logps
    loss = loss + 0.04 * (d.exp() - d - 1)
    (expected,) = torch.autograd.grad(loss[keep].sum(), logps)
    assert torch.equal(out.loss[keep], loss[keep])
    torch.testing.assert_close(gradient, expected, **BY_DTYPE[dtype])

    shuffled, shuffled_gradient = loss_and_gradient(inputs, entropies=inputs["entropies"].flip(1), **equal)
    assert torch.equal(shuffled.loss, out.loss)
    assert torch.equal(shuffled_gradient, gradient)
    assert not torch.equal(shuffled.gate, out.gate)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias_correction", [False, True])
def test_missing_old_logps_mean_the_present_policy(bias_correction: bool, dtype: torch.dtype) -> None:
    """On the first pass the ratio is exactly 1, nothing is clipped, and the gradient is that of -A log pi (plus KL)."""
    inputs = random_inputs(seed=9, dtype=dtype)
    settings: dict[str, Any] = {"beta": 0.1, "use_bias_correction_kl": bias_correction}
    none, none_gradient = loss_and_gradient(inputs, old_per_token_logps=None, **settings)
    same, same_gradient = loss_and_gradient(inputs, old_per_token_logps=inputs["per_token_logps"].clone(), **settings)
    assert_bit_equal(none, same)
    assert torch.equal(none_gradient, same_gradient)
    assert torch.equal(none.ratio, inputs["mask"].to(dtype))
    assert not (none.clipped_low | none.clipped_high).any()

    _, plain = loss_and_gradient(inputs, old_per_token_logps=None, surrogate_weight=None, **NO_KL)
    expected = -inputs["advantages"].unsqueeze(1) * inputs["mask"]
    torch.testing.assert_close(plain, expected, **BY_DTYPE[dtype])


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("case", ["paper", "graded", "delta-and-bias-correction"])
@pytest.mark.parametrize("old", [True, False])
def test_poisoned_padding(case: str, poison: float, old: bool) -> None:
    """Whatever sits in masked slots changes no bit of the loss or of the gradient, which is exactly 0 there."""
    inputs: dict[str, Any] = random_inputs(seed=10, dtype=torch.float32)
    inputs["advantages"] = inputs["advantages"].unsqueeze(1).repeat(1, 17)
    keep = inputs["mask"].bool()
    poisoned: dict[str, Any] = {
        name: tensor if name == "mask" else torch.where(keep, tensor, poison) for name, tensor in inputs.items()
    }
    if not old:
        inputs["old_per_token_logps"] = poisoned["old_per_token_logps"] = None

    clean, clean_gradient = loss_and_gradient(inputs, **CASES[case])
    out, gradient = loss_and_gradient(poisoned, **CASES[case])
    assert_bit_equal(out, clean)
    assert torch.equal(gradient, clean_gradient)
    assert bool(out.loss.isfinite().all())
    assert gradient[~keep].count_nonzero() == 0
    for name in ("loss", "kl", "ratio", "gate", "clipped_low", "clipped_high"):
        assert getattr(out, name)[~keep].count_nonzero() == 0, name
        assert getattr(out, name)[keep].count_nonzero() > 0 or name.startswith("clipped"), name


@pytest.mark.parametrize("case", ["paper", "graded"])
def test_row_order(case: str) -> None:
    """A response knows nothing of its neighbors: permuted rows give permuted results, bit for bit."""
    inputs = random_inputs(seed=11, dtype=torch.float32)
    order = torch.tensor([3, 0, 4, 2, 1])
    out, gradient = loss_and_gradient(inputs, **CASES[case])
    permuted, permuted_gradient = loss_and_gradient({name: x[order] for name, x in inputs.items()}, **CASES[case])
    assert_bit_equal(permuted, each(lambda x: x[order], out))
    assert torch.equal(permuted_gradient, gradient[order])


@pytest.mark.parametrize("case", ["paper", "graded"])
@pytest.mark.parametrize("split", [[1, 4], [2, 3], [1, 1, 1, 1, 1]])
def test_micro_batch_split(case: str, split: list[int]) -> None:
    """Splitting the rows over micro-batches or ranks changes no token's loss."""
    inputs = random_inputs(seed=12, dtype=torch.float32)
    out = compute(inputs, **CASES[case])
    pieces = zip(*(tensor.split(split) for tensor in inputs.values()), strict=True)
    parts = [compute(dict(zip(inputs, piece, strict=True)), **CASES[case]) for piece in pieces]
    assert_bit_equal(each(lambda *field: torch.cat(field), *parts), out)


@pytest.mark.parametrize("case", ["paper", "graded"])
@pytest.mark.parametrize(("left", "right"), [(0, 13), (5, 0), (4, 9)])
def test_more_padding(case: str, left: int, right: int) -> None:
    """A longer neighbor in the batch adds columns of padding, and nothing else."""
    inputs = random_inputs(seed=13, dtype=torch.float32)
    out, gradient = loss_and_gradient(inputs, **CASES[case])

    def pad(tensor: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(tensor, (left, right), value=value)

    wide = {name: x if x.dim() == 1 else pad(x, 0 if name == "mask" else 3.25) for name, x in inputs.items()}
    wide_out, wide_gradient = loss_and_gradient(wide, **CASES[case])
    assert_bit_equal(wide_out, each(lambda x: x if x.dim() == 1 else pad(x, 0), out))
    assert torch.equal(wide_gradient, pad(gradient, 0))


def test_equivalent_forms_of_the_inputs() -> None:
    """Mask as bool, int or float, advantages and weights per response or per token: the same numbers."""
    inputs = random_inputs(seed=14, dtype=torch.float32)
    inputs["surrogate_weight"] = inputs["surrogate_weight"][:, :1]
    expected = compute(inputs)
    for name, form in [
        ("mask", inputs["mask"].bool()),
        ("mask", inputs["mask"].float()),
        ("advantages", inputs["advantages"].unsqueeze(1).repeat(1, 17)),
        ("surrogate_weight", inputs["surrogate_weight"].repeat(1, 17)),
    ]:
        assert_bit_equal(compute(inputs | {name: form}), expected)


def test_advantages_per_token() -> None:
    """Advantages may differ inside a response; each token is clipped by the sign of its own."""
    inputs = random_inputs(seed=15)
    signs = torch.where(torch.arange(17) % 2 == 0, 1.0, -1.0).double().expand(5, 17)
    out = compute(inputs, advantages=signs)
    up = compute(inputs, advantages=torch.ones(5, dtype=torch.float64))
    down = compute(inputs, advantages=-torch.ones(5, dtype=torch.float64))
    assert_bit_equal(out, each(lambda a, b: torch.where(signs > 0, a, b) if a.dim() == 2 else a, up, down))
    assert not torch.equal(up.loss, down.loss)


def test_bfloat16_is_computed_in_float32() -> None:
    """The ratio of close log-probabilities and the threshold both need more than the 8 bits of bfloat16."""
    inputs = random_inputs(seed=16, dtype=torch.bfloat16)
    widened = {name: x if name == "mask" else x.float() for name, x in inputs.items()}
    out, gradient = loss_and_gradient(inputs, beta=0.3)
    expected, expected_gradient = loss_and_gradient(widened, beta=0.3)
    assert out.loss.dtype == torch.float32
    assert_bit_equal(out, expected)
    assert torch.equal(gradient, expected_gradient.bfloat16())
    assert_agrees_with_oracle(out, oracle_terms(inputs, beta=0.3), torch.float32)


def test_only_the_loss_has_a_gradient() -> None:
    """The rest is for the log; a graph kept there would hold a step's activations in memory."""
    out, _ = loss_and_gradient(random_inputs(seed=17))
    with_gradient = [name for name, x in out._asdict().items() if name != "tokens" and x.requires_grad]
    assert with_gradient == ["loss"]


def test_missing_reference() -> None:
    """It is an error while any KL weight is set, and the message names both; without one the KL is 0."""
    inputs = random_inputs(seed=18) | {"ref_per_token_logps": None}
    for betas in ({"beta": 0.125}, {"beta": 0.0, "beta_reasoning": 0.375}):
        with pytest.raises(ValueError, match="ref_per_token_logps") as error:
            compute(inputs, **betas)
        assert all(str(value) in str(error.value) for value in betas.values())
    out = compute(inputs, **NO_KL)
    assert out.kl.count_nonzero() == 0
    assert torch.equal(out.loss, compute(random_inputs(seed=18), **NO_KL).loss)


def test_defaults_are_the_papers() -> None:
    """Left out, the settings are rho 0.8, ranges 0.2 and 0.5, KL weights 0.001 and 0 (Wang et al. 2025)."""
    inputs = random_inputs(seed=19)
    spelled_out = compute(
        inputs,
        entropy_quantile=0.8,
        gate_width=0.0,
        epsilon=0.2,
        epsilon_high=0.2,
        epsilon_reasoning=0.5,
        epsilon_reasoning_high=0.5,
        beta=0.001,
        beta_reasoning=0.0,
        delta=None,
        use_bias_correction_kl=False,
    )
    assert_bit_equal(compute(inputs), spelled_out)
    assert_agrees_with_oracle(spelled_out, oracle_terms(inputs), torch.float64)


def test_dapo_loss_of_a_micro_batch() -> None:
    """Eq. (5) as a scalar, summed over all tokens of the batch: what the trainer makes of the token losses."""
    inputs = random_inputs(seed=20, dtype=torch.float32)
    lists = {name: tensor.tolist() for name, tensor in inputs.items()}
    batch = oracle.Batch(
        logps=lists["per_token_logps"],
        old_logps=lists["old_per_token_logps"],
        ref_logps=lists["ref_per_token_logps"],
        entropies=lists["entropies"],
        mask=lists["mask"],
        advantages=lists["advantages"],
        surrogate_weight=lists["surrogate_weight"],
    )
    expected = oracle.archer_loss(batch, oracle.Settings(), "dapo")
    loss = compute(inputs).loss.sum() / inputs["mask"].sum()
    assert loss.item() == pytest.approx(expected, rel=FLOAT32["rtol"], abs=FLOAT32["atol"])
