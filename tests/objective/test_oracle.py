"""The oracle against numbers worked out by hand, against numpy and torch, and against TRL's own loss."""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trl import GRPOTrainer

from ..helpers import oracle
from ..helpers.oracle import Batch, Settings
from ..helpers.tolerances import FLOAT64

NAN = math.nan
APPROX: dict[str, Any] = {"rel": FLOAT64["rtol"], "abs": FLOAT64["atol"]}
NO_KL: dict[str, Any] = {"beta": 0.0, "beta_reasoning": 0.0}


@pytest.mark.parametrize("q", [0.0, 0.1, 0.29, 0.5, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 91, 101])
def test_quantile_agrees_with_numpy_and_torch(q: float, n: int) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    result = oracle.quantile(values.tolist(), q)
    np.testing.assert_allclose(result, np.quantile(values, q), **FLOAT64)
    np.testing.assert_allclose(result, torch.tensor(values).quantile(q).item(), **FLOAT64)


def test_quantile_by_hand() -> None:
    """Five values at 0.8: rank 3.2, a fifth of the way from 4 to 9; a double 0.7 * 90 still is rank 63."""
    assert oracle.quantile([9.0, 1.0, 3.0, 4.0, 2.0], 0.8) == pytest.approx(5.0, **APPROX)
    assert oracle.quantile([float(rank) for rank in range(91)], 0.7) == 63.0
    assert oracle.quantile([], 0.8) == 0.0


def test_hard_gate_by_hand() -> None:
    """The threshold of the five kept entropies is 0.72; counting the masked 50 would lift it above 2."""
    assert oracle.gate([0.4, 50.0, 0.1, 2.0, 0.3, 0.2, NAN], [1, 0, 1, 1, 1, 1, 0], 0.8, 0.0) == [0, 0, 0, 1, 0, 0, 0]
    assert oracle.gate([0.0, 0.0, 0.0, 0.0], [1, 1, 1, 1], 0.8, 0.0) == [0, 0, 0, 0]
    assert oracle.gate([1.0, 2.0, 3.0], [1, 1, 1], 0.5, 0.0) == [0, 0, 1]
    assert oracle.gate([3.0], [1], 0.8, 0.0) == [0]
    assert oracle.gate([NAN, NAN], [0, 0], 0.8, 0.0) == [0, 0]


def test_graded_gate_by_hand() -> None:
    """Five tokens at 0.8: boundary 3.5; ranks 3 and 4 lie 1/8 of the ranks off it, a quarter of a ramp 0.5 wide."""
    ramp = oracle.gate([0.4, 0.1, NAN, 2.0, 0.3, 0.2], [1, 1, 0, 1, 1, 1], 0.8, 0.5)
    assert ramp == pytest.approx([0.25, 0.0, 0.0, 0.75, 0.0, 0.0], **APPROX)
    tied = oracle.gate([1.0, 1.0, 1.0, 2.0, 3.0], [1] * 5, 0.5, 1.0)
    assert tied == pytest.approx([0.0, 0.0, 0.0, 0.625, 0.875], **APPROX)
    assert oracle.gate([2.0], [1], 0.8, 1.0) == [0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "reasoning", "expected"),
    [
        (1.4, 1.0, False, -1.2),
        (1.4, 1.0, True, -1.4),
        (1.6, 1.0, True, -1.5),
        (0.7, 1.0, False, -0.7),
        (0.7, -1.0, False, 0.8),
        (0.7, -1.0, True, 0.7),
        (0.4, -1.0, True, 0.5),
        (1.4, -1.0, False, 1.4),
        (12.0, -2.0, True, 20.0),
    ],
)
def test_surrogate_by_hand(ratio: float, advantage: float, reasoning: bool, expected: float) -> None:
    """Two tokens, of which the higher entropy is the reasoning one; the other token stays at ratio 1."""
    entropies = [[1.0, 0.5]] if reasoning else [[0.5, 1.0]]
    settings = Settings(delta=10.0, **NO_KL)
    terms = oracle.token_terms([[math.log(ratio), 0.0]], [[0.0, 0.0]], None, entropies, [[1, 1]], [advantage], settings)
    assert terms.loss[0] == pytest.approx([expected, -advantage], **APPROX)
    assert terms.gate[0] == ([1.0, 0.0] if reasoning else [0.0, 1.0])
    outside_low, outside_high = ratio < (0.5 if reasoning else 0.8), ratio > (1.5 if reasoning else 1.2)
    assert terms.clipped_low[0] == [outside_low and advantage < 0, False]
    assert terms.clipped_high[0] == [outside_high and advantage > 0, False]


def test_asymmetric_ranges_by_hand() -> None:
    """Each of the four bounds stops one token: 1 - 0.1 and 1 + 0.3 for knowledge, 1 - 0.4 and 1 + 0.6 for reasoning."""
    settings = Settings(epsilon=0.1, epsilon_high=0.3, epsilon_reasoning=0.4, epsilon_reasoning_high=0.6, **NO_KL)
    logps = [[math.log(0.2), math.log(0.2)], [math.log(5.0), math.log(5.0)]]
    zeros = [[0.0, 0.0]] * 2
    terms = oracle.token_terms(logps, zeros, None, [[0.0, 1.0]] * 2, [[1, 1]] * 2, [-1.0, 1.0], settings)
    assert terms.loss[0] == pytest.approx([0.9, 0.6], **APPROX)
    assert terms.loss[1] == pytest.approx([-1.3, -1.6], **APPROX)


def test_kl_by_hand() -> None:
    """d = ln 2: 2 - ln 2 - 1 = 0.3069 on the knowledge token only; the weight of the surrogate leaves it alone."""
    k3 = 0.30685281944005469
    logps, ref = [[-1.0, -1.0]], [[-1.0 + math.log(2.0)] * 2]

    def loss(**overrides: Any) -> list[float]:
        arguments = {"surrogate_weight": None, "old": None, "settings": Settings(beta=0.5)} | overrides
        terms = oracle.token_terms(
            logps,
            arguments["old"],
            ref,
            [[0.1, 0.2]],
            [[1, 1]],
            [3.0],
            arguments["settings"],
            arguments["surrogate_weight"],
        )
        return terms.loss[0]

    assert loss() == pytest.approx([-3.0 + 0.5 * k3, -3.0], **APPROX)
    assert loss(surrogate_weight=[0.0]) == pytest.approx([0.5 * k3, 0.0], **APPROX)
    assert loss(surrogate_weight=[[2.0, 0.5]]) == pytest.approx([-6.0 + 0.5 * k3, -1.5], **APPROX)
    reasoning_kl = Settings(beta=0.0, beta_reasoning=0.25)
    assert loss(settings=reasoning_kl) == pytest.approx([-3.0, -3.0 + 0.25 * k3], **APPROX)
    corrected = Settings(beta=0.5, use_bias_correction_kl=True)
    old = [[-1.0 - math.log(1.1), -1.0]]
    assert loss(settings=corrected, old=old) == pytest.approx([-3.3 + 0.55 * k3, -3.0], **APPROX)


def test_normalisers_by_hand() -> None:
    """Ratios of 1: three tokens of loss -1 and one of loss 2, so a sum of -1 and row means of -1 and 2."""
    batch = Batch(
        logps=[[-1.0, -1.0, -1.0], [-1.0, NAN, NAN]],
        old_logps=None,
        ref_logps=None,
        entropies=[[1.0, 2.0, 3.0], [1.0, NAN, NAN]],
        mask=[[1, 1, 1], [1, 0, 0]],
        advantages=[1.0, -2.0],
    )
    settings = Settings(**NO_KL)

    def loss(loss_type: str, **counts: Any) -> float:
        return oracle.archer_loss(batch, settings, loss_type, **counts)

    spread: dict[str, int] = {"num_processes": 2, "gradient_accumulation_steps": 4, "steps_per_generation": 8}
    assert loss("dapo") == -1 / 4
    assert loss("dapo", num_items_in_batch=24, **spread) == -1 / 6
    assert loss("grpo") == 1 / 2
    assert loss("grpo", num_sequences=32, **spread) == 1 / 8
    assert loss("dr_grpo", max_completion_length=5) == -1 / 10
    assert loss("dr_grpo", num_sequences=32, max_completion_length=5, **spread) == -1 / 40
    assert loss("bnpo") == -1 / 4
    assert loss("bnpo", **spread) == -1 / 16


def test_logps_and_entropies_by_hand() -> None:
    """Odds 1 : 3 have entropy 0.5623 nats; over temperature 2 they are 1 : sqrt 3; a barred token adds nothing."""
    logits = [[0.0, math.log(3.0), -math.inf], [7.0, 7.0, 7.0]]
    logps, entropies = oracle.logps_and_entropies(logits, [1, 2])
    assert logps == pytest.approx([math.log(0.75), -math.log(3.0)], **APPROX)
    assert entropies == pytest.approx([0.56233514461880835, math.log(3.0)], **APPROX)
    logps, _ = oracle.logps_and_entropies(logits, [0, 0], temperature=2.0)
    assert logps == pytest.approx([-math.log(1 + math.sqrt(3.0)), -math.log(3.0)], **APPROX)


def test_logps_and_entropies_agree_with_torch() -> None:
    logits = 30 * torch.randn(6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = [0, 10, 3, 3, 7, 1]
    logps, entropies = oracle.logps_and_entropies(logits.tolist(), tokens, temperature=0.7)
    expected = torch.distributions.Categorical(logits=logits / 0.7)
    np.testing.assert_allclose(logps, expected.log_prob(torch.tensor(tokens)).numpy(), **FLOAT64)
    np.testing.assert_allclose(entropies, expected.entropy().numpy(), **FLOAT64)


def trl_loss(batch: Batch, settings: Settings, loss_type: str, counts: dict[str, Any]) -> float:
    """`GRPOTrainer._compute_loss` on given log-probabilities, with a stand-in for the trainer around it."""
    tensor = {
        name: torch.tensor(getattr(batch, name), dtype=torch.float64)
        for name in ("logps", "old_logps", "ref_logps", "entropies", "mask", "advantages", "surrogate_weight")
    }
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (tensor["logps"], tensor["entropies"], None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=settings.beta,
        epsilon_low=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        args=SimpleNamespace(
            delta=settings.delta,
            use_bias_correction_kl=settings.use_bias_correction_kl,
            steps_per_generation=counts["steps_per_generation"],
        ),
        loss_type=loss_type,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=counts["gradient_accumulation_steps"],
        max_completion_length=counts["max_completion_length"],
        accelerator=SimpleNamespace(
            num_processes=counts["num_processes"], gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    tokens = torch.zeros_like(tensor["mask"], dtype=torch.long)
    inputs = {
        "prompt_ids": tokens[:, :1],
        "prompt_mask": tokens[:, :1],
        "completion_ids": tokens,
        "completion_mask": tensor["mask"],
        "advantages": tensor["advantages"],
        "old_per_token_logps": tensor["old_logps"],
        "ref_per_token_logps": tensor["ref_logps"],
        "importance_sampling_ratio": tensor["surrogate_weight"],
        "num_items_in_batch": torch.tensor(float(counts["num_items_in_batch"])),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs).item()


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "bnpo"])
@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("delta", [None, 1.5])
def test_equal_roles_agree_with_trl(loss_type: str, bias_correction: bool, delta: float | None) -> None:
    """With one range and one weight for both roles the oracle is TRL's GRPO, normalisers included."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, 7)
    logps = -torch.rand(shape, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    lengths = torch.tensor([[7], [3], [1], [0]])
    batch = Batch(
        logps=logps.tolist(),
        old_logps=(logps + 0.5 * noise[0]).tolist(),
        ref_logps=(logps + 0.5 * noise[1]).tolist(),
        entropies=torch.rand(shape, dtype=torch.float64, generator=generator).tolist(),
        mask=(torch.arange(7) < lengths).long().tolist(),
        advantages=[1.0, -0.5, -2.0, 0.3],
        surrogate_weight=(0.5 + torch.rand(shape, dtype=torch.float64, generator=generator)).tolist(),
    )
    settings = Settings(
        epsilon=0.2,
        epsilon_high=0.3,
        epsilon_reasoning=0.2,
        epsilon_reasoning_high=0.3,
        beta=0.1,
        beta_reasoning=0.1,
        delta=delta,
        use_bias_correction_kl=bias_correction,
    )
    counts: dict[str, Any] = {
        "num_items_in_batch": 50,
        "num_processes": 2,
        "gradient_accumulation_steps": 3,
        "steps_per_generation": 6,
        "max_completion_length": 9,
    }
    expected = trl_loss(batch, settings, loss_type, counts)
    result = oracle.archer_loss(batch, settings, loss_type, num_sequences=4 * 2 * 6, **counts)
    np.testing.assert_allclose(result, expected, **FLOAT64)
