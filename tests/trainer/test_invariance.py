"""What must not change the loss and the gradient: padding, what lies in it, row order, and how a batch is split."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ..helpers.tiny import TOKENIZER, loss_and_gradients, make_inputs, make_trainer, relative_difference, rows_of
from ..helpers.tolerances import OTHER_LAYOUT

LOSS_TYPES = ["dapo", "grpo", "bnpo", "dr_grpo"]
SPLIT_INVARIANT = ["dapo", "grpo", "dr_grpo"]  # bnpo divides by the tokens of a micro-batch
PER_TOKEN = ("old_per_token_logps", "ref_per_token_logps")


def assert_same(trainer: Any, inputs: dict[str, Any], other: dict[str, Any]) -> None:
    loss, gradients = loss_and_gradients(trainer, inputs)
    other_loss, other_gradients = loss_and_gradients(trainer, other)
    assert abs(loss - other_loss) <= OTHER_LAYOUT * abs(loss)
    assert relative_difference(other_gradients, gradients) <= OTHER_LAYOUT


def padded(inputs: dict[str, Any], left: int, right: int) -> dict[str, Any]:
    """The batch with more prompt padding on the left and more completion padding on the right."""
    out = dict(inputs)
    for key, value in (("prompt_ids", TOKENIZER.pad_token_id), ("prompt_mask", 0)):
        out[key] = torch.nn.functional.pad(inputs[key], (left, 0), value=value)
    for key, value in (("completion_ids", TOKENIZER.pad_token_id), ("completion_mask", 0)):
        out[key] = torch.nn.functional.pad(inputs[key], (0, right), value=value)
    for key in PER_TOKEN:
        out[key] = torch.nn.functional.pad(inputs[key], (0, right))
    return out


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_padding(model_path: str, tmp_path: Path, loss_type: str) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1)
    inputs = make_inputs(trainer)
    assert_same(trainer, inputs, padded(inputs, left=3, right=17))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_poison_in_the_padding_changes_nothing_at_all(model_path: str, tmp_path: Path, poison: float) -> None:
    trainer = make_trainer(model_path, tmp_path, beta=0.1, off_policy_mask_threshold=0.1)
    trainer.use_vllm = True
    inputs = make_inputs(trainer)
    inputs["importance_sampling_ratio"] = torch.rand(inputs["completion_mask"].shape)
    poisoned = dict(inputs)
    blank = inputs["completion_mask"] == 0
    for key in (*PER_TOKEN, "importance_sampling_ratio"):
        poisoned[key] = inputs[key].masked_fill(blank, poison)
    loss, gradients = loss_and_gradients(trainer, inputs)
    other_loss, other = loss_and_gradients(trainer, poisoned)
    assert loss.isfinite()
    assert torch.equal(loss, other_loss)
    assert all(torch.equal(gradients[name], other[name]) for name in gradients)
    logs: dict[str, float] = {}
    trainer.log(logs)
    assert all(torch.tensor(value).isfinite() for value in logs.values() if value is not None)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_row_order(model_path: str, tmp_path: Path, loss_type: str) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1)
    inputs = make_inputs(trainer)
    assert_same(trainer, inputs, rows_of(inputs, [2, 0, 3, 1]))


@pytest.mark.parametrize("loss_type", SPLIT_INVARIANT)
@pytest.mark.parametrize("split", [[[0], [1], [2], [3]], [[3, 0], [1, 2]]])
@pytest.mark.parametrize("entropy_coef", [0.0, 0.05])
def test_accumulation_over_micro_batches(
    model_path: str, tmp_path: Path, loss_type: str, split: list[list[int]], entropy_coef: float
) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1, entropy_coef=entropy_coef)
    inputs = make_inputs(trainer)
    trainer.args.steps_per_generation = 1
    loss, gradients = loss_and_gradients(trainer, inputs)
    trainer.args.steps_per_generation = len(split)
    parts = [rows_of(inputs, rows) for rows in split]
    other_loss, other = loss_and_gradients(trainer, *parts)
    assert abs(loss - other_loss) <= OTHER_LAYOUT * abs(loss)
    assert relative_difference(other, gradients) <= OTHER_LAYOUT


@pytest.mark.parametrize("loss_type", SPLIT_INVARIANT)
def test_generation_window_wider_than_the_accumulation(model_path: str, tmp_path: Path, loss_type: str) -> None:
    """Two updates of two micro-batches each out of one generation batch: their mean is the whole batch's gradient."""
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1)
    inputs = make_inputs(trainer)
    trainer.args.steps_per_generation = 1
    loss, gradients = loss_and_gradients(trainer, inputs)
    trainer.args.steps_per_generation = 4
    updates = [loss_and_gradients(trainer, *(rows_of(inputs, [row]) for row in rows)) for rows in ([0, 1], [2, 3])]
    mean = {name: (updates[0][1][name] + updates[1][1][name]) / 2 for name in gradients}
    assert abs((updates[0][0] + updates[1][0]) / 2 - loss) <= OTHER_LAYOUT * abs(loss)
    assert relative_difference(mean, gradients) <= OTHER_LAYOUT


def test_no_gradient_reaches_the_gate(model_path: str, tmp_path: Path) -> None:
    """Entropies with a gradient and without give the same gradient, bit for bit."""
    trainer = make_trainer(model_path, tmp_path, beta=0.1, gate_width=0.5)
    inputs = make_inputs(trainer)
    _, gradients = loss_and_gradients(trainer, inputs)
    helper = trainer._get_per_token_logps_and_entropies

    def detached(*args: Any, **kwargs: Any) -> Any:
        logps, entropies, aux_loss = helper(*args, **kwargs)
        assert entropies.requires_grad
        return logps, entropies.detach(), aux_loss

    trainer._get_per_token_logps_and_entropies = detached
    _, expected = loss_and_gradients(trainer, inputs)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_one_forward_pass(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    inputs = make_inputs(trainer)
    calls = []
    trainer.model.model.register_forward_hook(lambda *_: calls.append(1))
    loss_and_gradients(trainer, inputs)
    assert len(calls) == 1
