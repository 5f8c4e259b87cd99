"""Which tokens are reasoning tokens: Wang et al. 2025, Eq. (2), per response and strict, and its graded form."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trl_archer.objective import entropy_threshold, reasoning_gate

from ..helpers import oracle
from ..helpers.settings import token_loss
from ..helpers.tolerances import BY_DTYPE, FLOAT64

DTYPES = [torch.float32, torch.float64]
POISONS = [math.nan, math.inf, -math.inf, 1e30, -1e30]
RHOS = [0.0, 0.1, 0.5, 0.7, 0.8, 0.9, 1.0]


def distinct_rows(rows: int, length: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Rows that are shuffles of 0, 1, ..., length - 1, so that a value is its rank, exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, length, generator=generator).argsort(dim=1).to(dtype)


def oracle_gate(entropies: Tensor, mask: Tensor, rho: float, gate_width: float) -> Tensor:
    rows = zip(entropies.tolist(), mask.int().tolist(), strict=True)
    return torch.tensor([oracle.gate(row, keep, rho, gate_width) for row, keep in rows], dtype=torch.float64)


# Multiples of 1/64 are exact in float32, so that the oracle's float64 threshold and a float32 one order them alike.
entropy_values = st.integers(0, 640).map(lambda step: step / 64)


@st.composite
def padded_rows(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Entropies `(B, T)` with ties, poison in the masked slots, and masks with holes and empty rows."""
    rows, length = draw(st.integers(1, 4)), draw(st.integers(1, 24))
    few = draw(st.lists(entropy_values, min_size=1, max_size=12))
    grid = st.lists(st.sampled_from(few), min_size=length, max_size=length)
    bits = st.lists(st.booleans(), min_size=length, max_size=length)
    entropies = torch.tensor(draw(st.lists(grid, min_size=rows, max_size=rows)))
    mask = torch.tensor(draw(st.lists(bits, min_size=rows, max_size=rows)))
    return torch.where(mask, entropies, draw(st.sampled_from(POISONS))), mask


@given(case=padded_rows(), rho=st.sampled_from(RHOS))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_hard_gate_agrees_with_oracle(case: tuple[Tensor, Tensor], rho: float) -> None:
    entropies, mask = case
    for dtype in DTYPES:
        gate = reasoning_gate(entropies.to(dtype), mask, rho)
        assert gate.dtype == dtype
        assert torch.equal(gate.double(), oracle_gate(entropies, mask, rho, 0.0))


@given(case=padded_rows(), rho=st.sampled_from(RHOS), width=st.sampled_from([0.01, 0.1, 0.3, 1.0]))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_graded_gate_agrees_with_oracle(case: tuple[Tensor, Tensor], rho: float, width: float) -> None:
    entropies, mask = case
    for dtype in DTYPES:
        gate = reasoning_gate(entropies.to(dtype), mask, rho, width)
        expected = oracle_gate(entropies, mask, rho, width).to(dtype)
        # The ramp multiplies the rounding of the rank by 1 / width.
        tolerance = BY_DTYPE[dtype]
        torch.testing.assert_close(gate, expected, rtol=tolerance["rtol"], atol=tolerance["atol"] / width)


@given(case=padded_rows(), rho=st.sampled_from(RHOS))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_threshold_is_torchs_quantile_of_the_own_tokens(case: tuple[Tensor, Tensor], rho: float) -> None:
    """Also with NaN and inf in the masked slots; a response without tokens has threshold 0."""
    entropies, mask = case
    tau = entropy_threshold(entropies.double(), mask, rho)
    for row, keep, threshold in zip(entropies.double(), mask, tau, strict=True):
        expected = row[keep].quantile(rho) if keep.any() else torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(threshold, expected, **FLOAT64)


def test_zero_quantile_leaves_knowledge() -> None:
    """A confident response: the 80th percentile is 0 itself. `>=` would call every token reasoning."""
    entropies = torch.tensor([[0.0] * 10, [0.0] * 9 + [0.7]])
    gate = reasoning_gate(entropies, torch.ones(2, 10), 0.8)
    assert gate.tolist() == [[0.0] * 10, [0.0] * 9 + [1.0]]
    assert entropy_threshold(entropies, torch.ones(2, 10), 0.8).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [1e-8, 0.1, 1 / 3, 0.7, 2.7182818, 11.9])
@pytest.mark.parametrize("rho", [0.1, 0.7, 0.8, 0.9])
def test_constant_entropy_is_all_knowledge(value: float, rho: float, dtype: torch.dtype) -> None:
    """Interpolating between equal numbers must return that number: one rounding down makes every token reasoning."""
    for length in (1, 2, 3, 7, 91, 1000):
        entropies = torch.full((1, length), value, dtype=dtype)
        mask = torch.ones(1, length)
        assert entropy_threshold(entropies, mask, rho).item() == entropies[0, 0].item()
        for width in (0.0, 1e-4, 1 / length):
            assert reasoning_gate(entropies, mask, rho, width).count_nonzero() == 0


def test_neighboring_floats_are_told_apart() -> None:
    """Between two neighboring float32 numbers lies no third: a threshold rounded up to the larger hides a token."""
    low = torch.tensor(0.3)
    high = torch.nextafter(low, torch.tensor(1.0))
    entropies = torch.stack([low, high]).unsqueeze(0)
    assert reasoning_gate(entropies, torch.ones(1, 2), 0.8).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("width", [0.0, 0.4, 1.0])
def test_single_token_is_knowledge(rho: float, width: float) -> None:
    """A response of one token has no tokens to stand out from."""
    assert reasoning_gate(torch.tensor([[5.0]]), torch.tensor([[1]]), rho, width).item() == 0.0
    padded = reasoning_gate(torch.tensor([[9.0, 5.0, 1.0]]), torch.tensor([[0, 1, 0]]), rho, width)
    assert padded.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("width", [0.0, 0.4])
def test_empty_response_is_zero_and_alone(width: float) -> None:
    """A response whose tokens are all masked (a dropped overlong one) has zeros and leaves its neighbors alone."""
    entropies = distinct_rows(3, 20)
    mask = torch.ones(3, 20)
    mask[1] = 0
    gate = reasoning_gate(entropies, mask, 0.8, width)
    tau = entropy_threshold(entropies, mask, 0.8)
    assert gate[1].tolist() == [0.0] * 20
    assert tau[1].item() == 0.0
    for row in (0, 2):
        alone = entropies[row : row + 1], torch.ones(1, 20), 0.8
        assert torch.equal(gate[row : row + 1], reasoning_gate(*alone, width))
        assert torch.equal(tau[row : row + 1], entropy_threshold(*alone))
    assert gate[0].sum() > 0


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("width", [0.0, 0.4])
@pytest.mark.parametrize("rho", [0.2, 0.8])
def test_masked_slots_have_no_say(poison: float, width: float, rho: float) -> None:
    """Tool output between the tokens, padding on both sides: the kept tokens are gated as if they stood alone."""
    generator = torch.Generator().manual_seed(1)
    compact = torch.rand(4, 30, generator=generator)
    keep = torch.zeros(47, dtype=torch.bool)
    keep[torch.randperm(47, generator=generator)[:30]] = True
    entropies = torch.full((4, 47), poison)
    entropies[:, keep] = compact
    mask = keep.long().expand(4, 47)

    gate = reasoning_gate(entropies, mask, rho, width)
    assert torch.equal(gate[:, keep], reasoning_gate(compact, torch.ones(4, 30), rho, width))
    assert gate[:, ~keep].count_nonzero() == 0
    tau = entropy_threshold(entropies, mask, rho)
    assert torch.equal(tau, entropy_threshold(compact, torch.ones(4, 30), rho))
    assert gate.sum(dim=1).min() > 0


@pytest.mark.parametrize("width", [0.0, 0.4])
def test_quantile_is_per_response(width: float) -> None:
    """Two responses on different scales: batch-wide, the confident one would have no reasoning token at all."""
    ranks = distinct_rows(2, 50)
    entropies = ranks * torch.tensor([[0.001], [0.1]])
    gate = reasoning_gate(entropies, torch.ones(2, 50), 0.8, width)
    assert torch.equal(gate, reasoning_gate(ranks, torch.ones(2, 50), 0.8, width))
    if width == 0:
        assert gate.sum(dim=1).tolist() == [10.0, 10.0]
        assert (entropies > entropies.quantile(0.8)).sum(dim=1).tolist() == [0, 20]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rho", ["0", "0.29", "0.5", "0.7", "0.8", "0.9", "1"])
def test_share_of_reasoning_tokens(rho: str, dtype: torch.dtype) -> None:
    """Of n distinct entropies, those above rank floor(rho * (n - 1)), with rho the decimal that the user wrote.

    A double only approximates it: 0.7 * 90 comes out below 63, and 91 tokens would have 28 reasoning tokens, not 27.
    The graded gate that is narrower than one rank has the same boundary.
    """
    for length in (1, 2, 5, 6, 10, 11, 91, 101, 171, 341, 400):
        entropies, mask = distinct_rows(3, length, dtype), torch.ones(3, length)
        expected = (entropies > math.floor(Fraction(rho) * (length - 1))).to(dtype)
        for width in (0.0, 0.5 / length):
            gate = reasoning_gate(entropies, mask, float(rho), width)
            assert torch.equal(gate, expected), (length, width)


def test_share_is_one_minus_rho() -> None:
    entropies = distinct_rows(4, 1001)
    for rho in (0.7, 0.8, 0.9):
        share = reasoning_gate(entropies, torch.ones(4, 1001), rho).sum(dim=1) / 1000
        assert share.tolist() == pytest.approx([1 - rho] * 4, rel=1e-6)


@pytest.mark.parametrize("width", [0.0, 0.3])
def test_bfloat16_is_gated_in_float32(width: float) -> None:
    """bfloat16 cannot hold a threshold between two of its numbers, nor ranks above 256."""
    generator = torch.Generator().manual_seed(2)
    entropies = torch.rand(3, 3000, generator=generator).bfloat16()
    mask = torch.ones(3, 3000)
    gate = reasoning_gate(entropies, mask, 0.8, width)
    assert gate.dtype == torch.float32
    assert torch.equal(gate, reasoning_gate(entropies.float(), mask, 0.8, width))
    expected = oracle_gate(entropies[:1, :500], mask[:1, :500], 0.8, width).float()
    part = reasoning_gate(entropies[:1, :500], mask[:1, :500], 0.8, width)
    torch.testing.assert_close(part, expected, **BY_DTYPE[torch.float32])
    assert entropy_threshold(torch.tensor([[1.0, 1.0078125]]).bfloat16(), torch.ones(1, 2), 0.5).item() == 1.00390625


@pytest.mark.parametrize("shape", [(16, 32768), (520, 32768)], ids=["paper", "above-2**24"])
def test_long_batches(shape: tuple[int, int]) -> None:
    """The paper's longest responses, and more numbers than `torch.quantile` takes (2**24)."""
    rows, length = shape
    generator = torch.Generator().manual_seed(3)
    entropies = torch.stack([torch.randperm(length, generator=generator) for _ in range(rows)]).float()
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
    # Keeping the values below `lengths` keeps ranks 0..n-1, scattered over the row.
    mask = entropies < lengths
    gate = reasoning_gate(entropies, mask, 0.8)
    boundary = (lengths - 1) * 4 // 5
    assert torch.equal(gate, ((entropies > boundary) & mask).float())
    tau = entropy_threshold(entropies, mask, 0.8)
    torch.testing.assert_close(tau, (0.8 * (lengths - 1)).squeeze(1), **BY_DTYPE[torch.float32])


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_no_gradient_through_the_gate(width: float) -> None:
    """The split is a constant of the update: entropies get no gradient, not by the gate nor by the loss."""
    logits = torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    logits.requires_grad_()
    log_probs = logits.log_softmax(-1)
    entropies = -(log_probs.exp() * log_probs).sum(-1)
    mask = torch.ones(2, 12)
    assert entropies.requires_grad
    assert not reasoning_gate(entropies, mask, 0.8, width).requires_grad
    assert not entropy_threshold(entropies, mask, 0.8).requires_grad

    logps = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
    out = token_loss(
        logps,
        torch.zeros(2, 12),
        torch.ones(2),
        entropies,
        mask,
        ref_per_token_logps=torch.ones(2, 12),
        gate_width=width,
        beta=0.5,
    )
    assert not out.gate.requires_grad
    assert not out.entropy_threshold.requires_grad
    by_entropy, by_logps = torch.autograd.grad(
        out.loss.sum(), [logits, logps], allow_unused=True, materialize_grads=True
    )
    assert by_entropy.count_nonzero() == 0
    assert by_logps.count_nonzero() == 24


@given(case=padded_rows(), rho=st.sampled_from(RHOS), fraction=st.sampled_from([1e-3, 0.5, 0.99]))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_narrow_ramp_is_the_step(case: tuple[Tensor, Tensor], rho: float, fraction: float) -> None:
    """Narrower than one rank, 1 / (n - 1), the graded gate equals the hard one, ties included."""
    entropies, mask = case
    for row, keep in zip(entropies.split(1), mask.split(1), strict=True):
        width = fraction / max(int(keep.sum()) - 1, 1)
        assert torch.equal(reasoning_gate(row, keep, rho, width), reasoning_gate(row, keep, rho))


@given(case=padded_rows(), rho=st.sampled_from(RHOS), width=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_gate_follows_the_order_of_entropies(case: tuple[Tensor, Tensor], rho: float, width: float) -> None:
    """Weights lie in [0, 1], never fall as entropy rises, and are equal for equal entropies."""
    entropies, mask = case
    gate = reasoning_gate(entropies, mask, rho, width)
    assert bool(((gate >= 0) & (gate <= 1)).all())
    for row, weights, keep in zip(entropies, gate, mask, strict=True):
        weight_of: dict[float, float] = {}
        for entropy, weight in sorted(zip(row[keep].tolist(), weights[keep].tolist(), strict=True)):
            assert weight_of.setdefault(entropy, weight) == weight
        assert list(weight_of.values()) == sorted(weight_of.values())


def test_graded_gate_by_hand() -> None:
    """Five tokens at 0.5 over all ranks: boundary 2.5 of 4, so 1 / 8 below 1/2 at rank 2 and 1 / 8 above at rank 3."""
    entropies = torch.tensor([[0.5, 0.1, 9.0, 0.2, 0.3, math.nan]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    assert reasoning_gate(entropies, mask, 0.5, 1.0).tolist() == [[0.625, 0.0, 0.875, 0.125, 0.375, 0.0]]


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("width", [0.0, 0.1, 0.3])
def test_graded_gate_keeps_the_share(rho: float, width: float) -> None:
    """The ramp is centered on the step, so the mean weight stays within one token of 1 - rho."""
    gate = reasoning_gate(distinct_rows(2, 500), torch.ones(2, 500), rho, width)
    assert gate.mean(dim=1).tolist() == pytest.approx([1 - rho] * 2, abs=1 / 500)


@pytest.mark.parametrize("width", [0.0, 0.01])
def test_extreme_quantiles(width: float) -> None:
    """At 0 all tokens but the least uncertain one are reasoning tokens, at 1 none is."""
    entropies, mask = distinct_rows(3, 40), torch.ones(3, 40)
    assert torch.equal(reasoning_gate(entropies, mask, 0.0, width), (entropies > 0).float())
    assert reasoning_gate(entropies, mask, 1.0, width).count_nonzero() == 0


def test_input_is_left_as_it_was() -> None:
    """The masking for the sort works on a copy: the trainer logs the same entropies afterwards."""
    entropies, mask = distinct_rows(2, 8), torch.ones(2, 8, dtype=torch.long)
    mask[:, 5:] = 0
    before = entropies.clone(), mask.clone()
    reasoning_gate(entropies, mask, 0.8, 0.3)
    assert torch.equal(entropies, before[0])
    assert torch.equal(mask, before[1])
