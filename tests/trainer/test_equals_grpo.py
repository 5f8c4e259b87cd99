"""With equal ranges and weights for both roles Archer is TRL's GRPO: same loss, same gradient, same metrics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from ..helpers.tiny import loss_and_gradients, make_inputs, make_trainer, relative_difference, rows_of
from ..helpers.tolerances import SAME_AS_TRL

LOSS_TYPES = ["dapo", "grpo", "bnpo", "dr_grpo"]


def pair(path: str, tmp_path: Path, only_archer: dict[str, Any] | None = None, /, **config: Any) -> tuple[Any, Any]:
    """Archer with one constraint for all tokens, and TRL's trainer with the same."""
    config = {"beta": 0.05, "use_bias_correction_kl": False, **config}
    equal = {
        "epsilon_reasoning": config.get("epsilon", 0.2),
        "epsilon_reasoning_high": config.get("epsilon_high"),
        "beta_reasoning": config["beta"],
    }
    only_archer = {"mask_zero_std_groups": False, **(only_archer or {})}  # TRL drops nothing
    archer = make_trainer(path, tmp_path, **config, **equal, **only_archer)
    grpo = make_trainer(path, tmp_path, trainer_class=GRPOTrainer, config_class=GRPOConfig, **config)
    return archer, grpo


def assert_same(archer: Any, grpo: Any, *micro_batches: dict[str, Any]) -> None:
    loss, gradients = loss_and_gradients(archer, *micro_batches)
    expected_loss, expected = loss_and_gradients(grpo, *micro_batches)
    assert abs(loss - expected_loss) <= SAME_AS_TRL * abs(expected_loss)
    assert relative_difference(gradients, expected) <= SAME_AS_TRL


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("use_bias_correction_kl", [True, False])
@pytest.mark.parametrize("off_policy", [True, False])
def test_loss_and_gradient(
    model_path: str, tmp_path: Path, loss_type: str, use_bias_correction_kl: bool, off_policy: bool
) -> None:
    archer, grpo = pair(model_path, tmp_path, loss_type=loss_type, use_bias_correction_kl=use_bias_correction_kl)
    assert_same(archer, grpo, make_inputs(archer, off_policy=off_policy))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize(
    "config",
    [
        {"beta": 0.0},
        {"epsilon": 0.1, "epsilon_high": 0.28},
        {"delta": 1.3},
        {"temperature": 1.4},
        {"gate_width": 0.7},
        {"off_policy_mask_threshold": 0.05},
        {"entropy_coef": 0.05},
        {"steps_per_generation": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    ],
    ids=lambda config: ",".join(config),
)
def test_settings(model_path: str, tmp_path: Path, loss_type: str, config: dict[str, Any]) -> None:
    only_archer = {name: config[name] for name in ("gate_width",) if name in config}
    shared = {name: value for name, value in config.items() if name not in only_archer}
    archer, grpo = pair(model_path, tmp_path, only_archer, loss_type=loss_type, **shared)
    assert_same(archer, grpo, make_inputs(archer))


def test_adaptive_entropy(model_path: str, tmp_path: Path) -> None:
    """Of batches above and below the target: same losses, coefficients and logs."""
    adaptive = {
        "use_adaptive_entropy": True,
        "entropy_coef": 0.02,
        "entropy_coef_delta": 0.01,
        "entropy_coef_max": 0.04,
    }
    archer, grpo = pair(model_path, tmp_path, **adaptive, entropy_target=2.5)
    coefficients = []
    for seed in range(6):
        assert_same(archer, grpo, make_inputs(archer, seed=seed))
        assert archer.entropy_coef == grpo.entropy_coef
        assert archer._last_world_entropy == pytest.approx(grpo._last_world_entropy, rel=1e-6)
        coefficients.append(archer.entropy_coef)
    assert len(set(coefficients)) > 1
    assert archer._metrics["train"]["entropy_coef"] == grpo._metrics["train"]["entropy_coef"] == coefficients


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_advantages_per_token(model_path: str, tmp_path: Path, loss_type: str) -> None:
    archer, grpo = pair(model_path, tmp_path, loss_type=loss_type)
    inputs = make_inputs(archer)
    inputs["advantages"] = torch.randn(inputs["completion_mask"].shape)
    assert_same(archer, grpo, inputs)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_importance_ratio_and_off_policy_mask(model_path: str, tmp_path: Path, loss_type: str) -> None:
    archer, grpo = pair(model_path, tmp_path, loss_type=loss_type, off_policy_mask_threshold=0.05)
    inputs = make_inputs(archer)
    inputs["importance_sampling_ratio"] = torch.rand(inputs["completion_mask"].shape) * 3
    inputs["sampling_per_token_logps"] = inputs["old_per_token_logps"] + 0.3 * torch.randn(
        inputs["completion_mask"].shape
    )
    archer.use_vllm = grpo.use_vllm = True
    assert_same(archer, grpo, inputs)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_mixture_of_experts(moe_path: str, tmp_path: Path, loss_type: str) -> None:
    archer, grpo = pair(moe_path, tmp_path, loss_type=loss_type, router_aux_loss_coef=0.1, steps_per_generation=2)
    inputs = make_inputs(archer)
    inputs["num_sequences_in_batch"] = torch.tensor(4)
    assert_same(archer, grpo, rows_of(inputs, [0, 2]), rows_of(inputs, [3, 1]))
    logs: list[dict[str, float]] = [{}, {}]
    archer.log(logs[0])
    grpo.log(logs[1])
    assert logs[0]["aux_loss"] == pytest.approx(logs[1]["aux_loss"], rel=SAME_AS_TRL)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_evaluation(model_path: str, tmp_path: Path, loss_type: str) -> None:
    # In evaluation a batch is a generation batch of its own, whatever the windows of training are
    archer, grpo = pair(model_path, tmp_path, loss_type=loss_type, steps_per_generation=4)
    inputs = make_inputs(archer)
    inputs["num_sequences_in_batch"] = torch.tensor(len(inputs["completion_ids"]))
    losses = []
    for trainer in (archer, grpo):
        trainer.model.eval()
        with torch.no_grad():
            losses.append(trainer.compute_loss(trainer.model, inputs).item())
    assert losses[0] == pytest.approx(losses[1], rel=SAME_AS_TRL)


def test_metrics_of_trl_keep_their_values(model_path: str, tmp_path: Path) -> None:
    archer, grpo = pair(model_path, tmp_path)
    inputs = make_inputs(archer)
    logs: list[dict[str, float]] = []
    for trainer in (archer, grpo):
        loss_and_gradients(trainer, inputs)
        entry: dict[str, float] = {}
        trainer.log(entry)
        logs.append(entry)
    shared = ["kl", "entropy", *(f"clip_ratio/{x}" for x in ("low_mean", "low_min", "high_mean", "high_max"))]
    for name in [*shared, "clip_ratio/region_mean"]:
        assert logs[0][name] == pytest.approx(logs[1][name], rel=SAME_AS_TRL), name
    assert logs[1]["clip_ratio/region_mean"] > 0.1


@pytest.mark.parametrize("remove_padding", [True, False])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_whole_run_gives_the_same_weights(
    model_path: str, tmp_path: Path, remove_padding: bool, loss_type: str
) -> None:
    """Generation, shuffling, accumulation and the optimizer included."""
    config = {
        "steps_per_generation": 4,
        "gradient_accumulation_steps": 2,
        "num_iterations": 2,
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "optim": "sgd",  # Adam would blow rounding up where a gradient is nearly 0
        "learning_rate": 0.1,
        "loss_type": loss_type,
    }
    archer, grpo = pair(model_path, tmp_path, {"remove_padding": remove_padding}, **config)
    weights = []
    for trainer in (archer, grpo):
        set_seed(0)
        trainer.train()
        weights.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    start = make_trainer(model_path, tmp_path).model.state_dict()
    moved = max((weights[1][name] - start[name]).abs().max().item() for name in start)
    assert moved > 1e-3
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in start) <= 1e-5 * moved
