"""The trainer's loss on a real model equals the oracle's, which shares no code with it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ..helpers import oracle
from ..helpers.tiny import loss_and_gradients, make_inputs, make_trainer, unpadded_logps_and_entropies
from ..helpers.tolerances import TRAINER_LOSS

LOSS_TYPES = ["dapo", "grpo", "bnpo", "dr_grpo"]
LENGTHS = {
    "ragged": {"prompt_lengths": (3, 6, 1, 4), "completion_lengths": (9, 4, 1, 12)},
    "equal": {"prompt_lengths": (4, 4), "completion_lengths": (8, 8)},
    "single token": {"prompt_lengths": (2, 5), "completion_lengths": (1, 1)},
}


def oracle_loss(trainer: Any, inputs: dict[str, Any]) -> float:
    """Runs the model row by row without padding and hands float64 numbers to the oracle."""
    mask = inputs["completion_mask"] * inputs.get("tool_mask", torch.ones_like(inputs["completion_mask"]))
    logps, entropies = unpadded_logps_and_entropies(trainer, inputs)
    fields = oracle.Settings.__dataclass_fields__
    weight = inputs.get("importance_sampling_ratio")
    old = inputs.get("old_per_token_logps")
    batch = oracle.Batch(
        logps=logps,
        old_logps=None if old is None else old.tolist(),
        ref_logps=inputs["ref_per_token_logps"].tolist(),
        entropies=entropies,
        mask=mask.tolist(),
        advantages=inputs["advantages"].tolist(),
        surrogate_weight=None if weight is None else weight.expand(mask.shape).tolist(),
    )
    return oracle.archer_loss(
        batch,
        oracle.Settings(**{name: getattr(trainer.args, name) for name in fields}),
        trainer.loss_type,
        num_items_in_batch=inputs["num_items_in_batch"].item(),
        num_sequences=inputs["num_sequences_in_batch"].item(),
        gradient_accumulation_steps=trainer.current_gradient_accumulation_steps,
        steps_per_generation=trainer.args.steps_per_generation,
        max_completion_length=trainer.max_completion_length,
    )


def assert_equals_oracle(trainer: Any, inputs: dict[str, Any]) -> None:
    loss, _ = loss_and_gradients(trainer, inputs)
    torch.testing.assert_close(loss.item(), oracle_loss(trainer, inputs), **TRAINER_LOSS)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("off_policy", [True, False])
def test_loss(model_path: str, tmp_path: Path, loss_type: str, lengths: str, off_policy: bool) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.04, beta_reasoning=0.01)
    assert_equals_oracle(trainer, make_inputs(trainer, **LENGTHS[lengths], off_policy=off_policy))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize(
    "config",
    [
        {"delta": 1.6},
        {"use_bias_correction_kl": True, "beta": 0.1},
        {"temperature": 0.7},
        {"epsilon_high": 0.28, "epsilon_reasoning_high": 0.9, "epsilon_reasoning": 0.3},
        {"gate_width": 0.6, "beta": 0.1},
        {"entropy_quantile": 0.35, "beta": 0.1},
        {"steps_per_generation": 4, "num_iterations": 2},
    ],
    ids=lambda config: ",".join(config),
)
def test_settings(model_path: str, tmp_path: Path, loss_type: str, config: dict[str, Any]) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, **config)
    assert_equals_oracle(trainer, make_inputs(trainer))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("per", ["token", "sequence"])
def test_importance_ratio_of_vllm_weighs_the_surrogate(
    model_path: str, tmp_path: Path, loss_type: str, per: str
) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1)
    trainer.use_vllm = True  # as a trainer with an engine has it
    inputs = make_inputs(trainer)
    shape = inputs["completion_mask"].shape if per == "token" else (len(inputs["completion_mask"]), 1)
    inputs["importance_sampling_ratio"] = torch.rand(shape) * 3
    assert_equals_oracle(trainer, inputs)
    weighted, _ = loss_and_gradients(trainer, inputs)
    trainer.vllm_importance_sampling_correction = False
    plain, _ = loss_and_gradients(trainer, inputs)
    assert weighted != plain


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_tool_tokens_are_not_the_policys(model_path: str, tmp_path: Path, loss_type: str) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type)
    inputs = make_inputs(trainer, completion_lengths=(9, 4, 3, 7))
    inputs["tool_mask"] = torch.ones_like(inputs["completion_mask"])
    inputs["tool_mask"][:, 1:3] = 0
    inputs["num_items_in_batch"] = (inputs["completion_mask"] * inputs["tool_mask"]).sum()
    assert_equals_oracle(trainer, inputs)


def test_mixture_of_experts_adds_the_load_balancing_loss_as_trl_does(moe_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(moe_path, tmp_path, router_aux_loss_coef=0.5)
    without = make_trainer(moe_path, tmp_path, router_aux_loss_coef=0.0)
    inputs = make_inputs(trainer)
    difference = loss_and_gradients(trainer, inputs)[0] - loss_and_gradients(without, inputs)[0]
    _, _, aux_loss = trainer._get_per_token_logps_and_entropies(
        trainer.model,
        torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        inputs["completion_ids"].size(1),
        compute_aux_loss=True,
    )
    torch.testing.assert_close(difference.item(), 0.5 * aux_loss.item(), **TRAINER_LOSS)
