"""Loss and gradient on a device: equal to TRL's, and to the oracle in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from trl_archer.objective import reasoning_gate

from ..helpers import oracle
from .conftest import EACH_PRECISION
from .rollouts import PRECISIONS, distance, equal_roles, micro_batches, move, on, step, update

SAME_OPERATIONS = 1e-5  # relative L2 distance of gradients in float32, also with other padding
STEP = 1e-3  # of the central difference; a float64 model still has norms in float32


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("remove_padding", [True, False], ids=["trimmed", "padded"])
def test_equals_trl(device: str, path: str, output: Path, precision: str, remove_padding: bool) -> None:
    settings = PRECISIONS[precision]
    loss, ours = update(on(device, path, output, **equal_roles(remove_padding=remove_padding), **settings))
    trl = {"trainer_class": GRPOTrainer, "config_class": GRPOConfig, "use_bias_correction_kl": False}
    expected, theirs = update(on(device, path, output, **trl, **settings))
    tolerance = SAME_OPERATIONS
    if precision == "bfloat16":
        # Other padding rounds differently: as far apart as rounding moves TRL's own gradient
        _, exact = update(on(device, path, output, **trl))
        tolerance = distance(theirs, exact)
        assert 1e-4 < tolerance < 0.5  # a token at the edge of a clip range changes sides
    assert distance(ours, theirs) <= tolerance
    assert loss == pytest.approx(expected, rel=1e-5 if precision == "float32" else 0.05, abs=1e-6)


def oracle_loss(trainer: Any, model: Any, batches: list[dict[str, Any]]) -> float:
    """Runs the model row by row, without padding, and gives the numbers to the oracle."""
    fields, total = oracle.Settings.__dataclass_fields__, 0.0
    for batch in batches:
        logps, entropies, old, reference, mask = [], [], [], [], []
        for row in range(len(batch["completion_ids"])):
            real = batch["completion_mask"][row].bool()
            prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
            ids = batch["completion_ids"][row][real]
            with torch.no_grad():
                logits = model(torch.cat([prompt, ids]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
            row_logps, row_entropies = oracle.logps_and_entropies(logits.tolist(), ids.tolist())
            logps.append(row_logps)
            entropies.append(row_entropies)
            old.append(batch["old_per_token_logps"][row][real].tolist())
            reference.append(batch["ref_per_token_logps"][row][real].tolist())
            mask.append([1] * len(ids))
        total += oracle.archer_loss(
            oracle.Batch(logps, old, reference, entropies, mask, batch["advantages"].tolist()),
            oracle.Settings(**{name: getattr(trainer.args, name) for name in fields}),
            num_items_in_batch=batch["num_items_in_batch"].item(),
            gradient_accumulation_steps=len(batches),
            steps_per_generation=trainer.args.steps_per_generation,
        )
    return total


def as_lists(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batches without their empty rows, which the oracle does not read."""
    kept = []
    for batch in batches:
        rows = batch["completion_mask"].any(dim=1)
        kept.append({name: value[rows] if value.ndim else value for name, value in batch.items()})
    return kept


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equals_the_oracle(device: str, path: str, output: Path, precision: str) -> None:
    """The loss, and how fast it rises along the gradient, by central differences of the oracle."""
    trainer = on(device, path, output, beta_reasoning=0.02, **PRECISIONS[precision])
    batches = micro_batches(trainer)
    move(trainer.model)
    loss, gradient = step(trainer, batches)
    # A copy would keep TRL's patched forward pass, which runs the model that it was copied from
    model = type(trainer.model)(trainer.model.config).double().eval().to(device)
    model.load_state_dict(trainer.model.state_dict())
    norm = sum(x.square().sum() for x in gradient.values()).sqrt()
    losses = []
    for distance_moved in (0, STEP, -2 * STEP):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += (distance_moved / norm * gradient[name]).to(parameter)
        losses.append(oracle_loss(trainer, model, as_lists(batches)))
    slope = (losses[1] - losses[2]) / (2 * STEP)
    close = {"float32": 1e-5, "bfloat16": 0.03}[precision]
    assert loss == pytest.approx(losses[0], rel=close, abs=close / 10)
    assert norm.item() == pytest.approx(slope, rel={"float32": 2e-3, "bfloat16": 0.1}[precision])


@pytest.mark.parametrize(("device", "precision"), EACH_PRECISION)
def test_gate_on_the_devices_entropies(device: str, path: str, output: Path, precision: str) -> None:
    """A bf16 model gives float32 entropies. Those rounded to bf16, with ties, are split as the oracle does."""
    trainer = on(device, path, output, **PRECISIONS[precision])
    batch = micro_batches(trainer)[0]
    ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
    width = batch["completion_ids"].size(1)
    _, entropies, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, compute_entropy=True)
    assert entropies.dtype == torch.float32
    real = batch["completion_mask"]
    for values in (entropies, entropies.bfloat16()):
        found = reasoning_gate(values, real)
        for row, row_mask, gate in zip(values.tolist(), real.tolist(), found.tolist(), strict=True):
            assert gate == oracle.gate(row, row_mask, 0.8, 0.0)
    lengths = real.sum(1)
    share = reasoning_gate(entropies, real).sum(1)
    assert ((share - 0.2 * lengths).abs() <= 1).all()


@pytest.mark.parametrize(("device", "precision"), EACH_PRECISION)
def test_gradient_checkpointing_changes_nothing(device: str, path: str, output: Path, precision: str) -> None:
    (loss, gradient), (again, recomputed) = (
        update(on(device, path, output, gradient_checkpointing=on_or_off, **PRECISIONS[precision]))
        for on_or_off in (False, True)
    )
    assert again == pytest.approx(loss, rel=1e-6)
    assert distance(recomputed, gradient) <= 1e-5
