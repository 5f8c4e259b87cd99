"""Whole runs on a device: precision, adapters, compilation, bad numbers, resuming."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from .conftest import CUDA, EACH_PRECISION
from .rollouts import PRECISIONS, micro_batches, on, step

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
needs_scaler = "fp16 needs the loss scaler of a GPU"


def weights(trainer: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().cpu().clone() for name, parameter in trainer.model.named_parameters()}


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def moved(after: dict[str, Tensor], before: dict[str, Tensor]) -> Tensor:
    return torch.cat([(after[name] - before[name]).flatten() for name in before]).double()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_train_the_weights_of_float32(device: str, path: str, output: Path, precision: str) -> None:
    if precision == "fp16" and device == "cpu":
        pytest.skip(needs_scaler)
    changes = []
    for settings in ({"bf16": False}, {"bf16": False, precision: True}):
        # The scaler skips updates until its scale fits
        trainer = on(device, path, output, max_steps=8 if precision == "fp16" else 3, **settings)
        before = weights(trainer)
        trainer.train()
        after = weights(trainer)
        assert all(value.dtype == torch.float32 for value in after.values())
        assert all(math.isfinite(loss) for loss in losses(trainer))
        changes.append(moved(after, before))
    assert torch.cosine_similarity(*changes, dim=0) > 0.8
    if precision == "fp16":
        assert trainer.accelerator.scaler.get_scale() > 1


def test_overflow_of_the_loss_scale_is_not_a_bad_update(device: str, path: str, output: Path) -> None:
    if device == "cpu":
        pytest.skip(needs_scaler)
    trainer = on(device, path, output, max_steps=4, fp16=True)
    trainer.accelerator.scaler = torch.amp.GradScaler(device, init_scale=2.0**40)
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() < 2.0**40
    assert trainer.state.log_history[-2]["skipped_updates"] == 0


def test_generation_and_updates_on_the_device(device: str, path: str, output: Path) -> None:
    trainer = on(device, path, output, fixed=False, max_steps=2, max_completion_length=12, bf16=True)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert all(math.isfinite(entry[name]) for entry in logs for name in ("reward", "kl", "entropy", "grad_norm"))
    assert 1 <= logs[0]["completions/mean_length"] <= 12


@pytest.mark.parametrize(("device", "precision"), EACH_PRECISION)
def test_reference_of_an_adapter_is_the_base_model(device: str, path: str, output: Path, precision: str) -> None:
    settings = {"trainer_kwargs": {"peft_config": LORA}, **PRECISIONS[precision]}
    trainer = on(device, path, output, max_steps=2, learning_rate=1.0, **settings)
    full = on(device, path, output, **PRECISIONS[precision])
    before = weights(trainer)
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    (mine, *_), (base, *_) = micro_batches(trainer), micro_batches(full)
    torch.testing.assert_close(mine["ref_per_token_logps"], base["ref_per_token_logps"], rtol=0, atol=1e-5)
    assert not torch.allclose(mine["old_per_token_logps"], mine["ref_per_token_logps"], atol=1e-4)


# Compilation by Inductor takes a minute on a CPU; there, the captured graph runs as it is
COMPILERS = {"cpu": "eager", "cuda": "inductor"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::UserWarning:torch")
@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def test_compiled_model(device: str, path: str, output: Path) -> None:
    found = []
    for compiled in (False, True):
        torch.compiler.reset()
        options = {"torch_compile": True, "torch_compile_backend": COMPILERS[device]} if compiled else {}
        trainer = on(device, path, output, max_steps=2, remove_padding=False, **options)
        trainer.train()
        found.append(losses(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-5)


def test_bad_numbers_are_not_trained_on(device: str, path: str, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = on(device, path, output, max_steps=3, bf16=True)
    before, calls, compute = weights(trainer), [], trainer.compute_loss

    def poisoned(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(trainer.state.global_step)
        loss = compute(*args, **kwargs)
        return loss * math.inf if trainer.state.global_step == 1 else loss

    monkeypatch.setattr(trainer, "compute_loss", poisoned)
    trainer.train()
    assert set(calls) == {0, 1, 2}
    assert trainer.state.log_history[-2]["skipped_updates"] == 1
    after = weights(trainer)
    assert all(value.isfinite().all() for value in after.values())
    assert moved(after, before).norm() > 0


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("device", "precision"), EACH_PRECISION)
def test_resumed_run_is_bit_for_bit_the_undisturbed_one(device: str, path: str, output: Path, precision: str) -> None:
    """A checkpoint in the middle of a rollout's updates, with sampling on the device."""
    options = {"fixed": False, "num_iterations": 2, "max_steps": 4, "save_steps": 3, "optim": "adamw_torch"}
    options |= {"max_completion_length": 12, "learning_rate": 1e-3, **PRECISIONS[precision]}
    undisturbed = on(device, path, output, **options)
    undisturbed.train()
    resumed = on(device, path, output, **options)
    resumed.train(resume_from_checkpoint=str(output / "out" / "checkpoint-3"))
    expected, found = weights(undisturbed), weights(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert losses(resumed) == losses(undisturbed)


@pytest.mark.usefixtures("deterministic")
def test_same_seed_same_gradient(device: str, path: str, output: Path) -> None:
    (first, one), (second, other) = (
        step(trainer, micro_batches(trainer)) for trainer in (on(device, path, output, bf16=True) for _ in range(2))
    )
    assert first == second
    assert all(torch.equal(one[name], other[name]) for name in one)
