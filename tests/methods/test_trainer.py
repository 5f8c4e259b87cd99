"""Each method in the trainer, on the logits of a real model: loss, gradient, statistics of a step, and resume."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from trl_archer.methods import uniform_by_token

from ..helpers import method_oracle, oracle
from ..helpers.guards_worker import Watch
from ..helpers.method_oracle import Choice
from ..helpers.tiny import (
    loss_and_gradients,
    make_inputs,
    make_trainer,
    relative_difference,
    rows_of,
    unpadded_logps_and_entropies,
)
from ..helpers.tolerances import OTHER_LAYOUT, SAME_AS_TRL

METHODS: dict[str, dict[str, Any]] = {
    "aspo": {"surrogate": "aspo", "epsilon_reasoning": 0.4},
    "cispo": {"surrogate": "cispo"},
    "dppo": {"surrogate": "dppo", "epsilon": 0.05, "epsilon_reasoning": 0.1},
    "probability range": {"clip_range": "probability"},
    "opefo": {"token_weights": "opefo", "opefo_off_policy": True, "num_iterations": 2},
    "probability": {"token_weights": "probability"},
    "steer": {"token_weights": "steer"},
    "clip_cov": {"token_weights": "clip_cov", "clip_cov_ratio": 0.2, "clip_cov_low": 0.1},
}
KL = {"beta": 0.1, "beta_reasoning": 0.02}


def inputs_with_everything(trainer: Any, off_policy: bool) -> dict[str, Any]:
    """Padding, tokens of a tool, and a completion that was cut off and so does not count."""
    inputs = make_inputs(trainer, (3, 6, 1, 4, 2), (9, 4, 3, 12, 7), off_policy=off_policy)
    inputs["advantages"] = torch.tensor([1.2, -1.5, 0.7, -0.4, 1.0])
    inputs["completion_mask"][4] = 0
    inputs["tool_mask"] = torch.ones_like(inputs["completion_mask"])
    inputs["tool_mask"][:, 1:3] = 0
    inputs["num_items_in_batch"] = (inputs["completion_mask"] * inputs["tool_mask"]).sum()
    return inputs


def choice_of(trainer: Any) -> Choice:
    names = Choice.__dataclass_fields__.keys() - {"state", "shares"}
    state = {} if trainer._method.weights is None else dict(trainer._method.weights.state)
    return Choice(**{name: getattr(trainer.args, name) for name in names}, state=state)


def terms_of(trainer: Any, inputs: dict[str, Any]) -> tuple[method_oracle.Terms, dict[str, Any]]:
    """The oracle's terms, and its statistics for the next step."""
    mask = (inputs["completion_mask"] * inputs["tool_mask"]).tolist()
    logps, entropies = unpadded_logps_and_entropies(trainer, inputs)
    old = inputs.get("old_per_token_logps")
    old = None if old is None else old.tolist()
    settings = oracle.Settings(**{name: getattr(trainer.args, name) for name in oracle.Settings.__dataclass_fields__})
    choice = choice_of(trainer)
    seed = trainer.args.seed * 1_000_003 + trainer.state.global_step
    uniform = uniform_by_token(inputs["completion_ids"], inputs["completion_mask"], seed).tolist()
    advantages, ref = inputs["advantages"].tolist(), inputs["ref_per_token_logps"].tolist()
    terms = method_oracle.terms(logps, old, ref, entropies, mask, advantages, settings, choice, uniform)
    without_weights = method_oracle.terms(
        logps, old, None, entropies, mask, [1e9 * a for a in advantages], settings, choice
    )
    stopped = [
        [keep and slope == 0 for keep, slope in zip(*rows, strict=True)]
        for rows in zip(mask, without_weights.gradient, strict=True)
    ]
    statistics = method_oracle.statistics(
        logps, old, entropies, mask, advantages, stopped, choice, trainer.args.clip_cov_ratio
    )
    return terms, statistics


def expected_gradients(trainer: Any, inputs: dict[str, Any], terms: method_oracle.Terms) -> dict[str, torch.Tensor]:
    """The oracle's derivatives by each log-probability, through the model."""
    trainer.model.zero_grad()
    logps = trainer._policy_forward(trainer.model, inputs)[0]
    mask = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
    weighted = torch.where(mask, logps, 0.0) * torch.tensor(terms.gradient)
    (weighted.sum() / inputs["num_items_in_batch"]).backward()
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("off_policy", [True, False], ids=["off-policy", "on-policy"])
@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_in_two_steps(model_path: str, tmp_path: Path, name: str, off_policy: bool) -> None:
    """The second step uses the statistics of the first."""
    trainer = make_trainer(model_path, tmp_path, **KL, **METHODS[name])
    inputs = inputs_with_everything(trainer, off_policy)
    for step in range(2):
        trainer.state.global_step = step
        terms, statistics = terms_of(trainer, inputs)
        loss, gradients = loss_and_gradients(trainer, inputs)
        difference = loss.item() * inputs["num_items_in_batch"].item() - math.fsum(sum(row) for row in terms.loss)
        assert abs(difference) <= OTHER_LAYOUT * math.fsum(abs(x) for row in terms.loss for x in row)
        assert relative_difference(gradients, expected_gradients(trainer, inputs, terms)) <= OTHER_LAYOUT
        if statistics:
            assert trainer._method.weights.state == pytest.approx(statistics, rel=1e-4)
            assert any(statistics.values())


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches(model_path: str, tmp_path: Path, name: str) -> None:
    """Loss, gradient and statistics of a step do not depend on how it is split, in the second step either."""
    results = []
    for split in ([[0, 1, 2, 3, 4]], [[0], [1, 2], [4, 3]]):
        trainer = make_trainer(model_path, tmp_path, **KL, **METHODS[name])
        inputs = inputs_with_everything(trainer, off_policy=True)
        trainer.args.steps_per_generation = len(split)
        for step in range(2):
            trainer.state.global_step = step
            trainer.model.zero_grad()
            trainer.current_gradient_accumulation_steps = len(split)
            trainer.model.train()
            losses = []
            for number, rows in enumerate(split):
                trainer.accelerator.gradient_state._set_sync_gradients(number == len(split) - 1)
                losses.append(trainer.compute_loss(trainer.model, rows_of(inputs, rows)))
                losses[-1].backward()
            gradients = {key: p.grad.clone() for key, p in trainer.model.named_parameters()}
            state = {} if trainer._method.weights is None else dict(trainer._method.weights.state)
            results.append((sum(x.item() for x in losses), gradients, state))
        trainer.accelerator.gradient_state._set_sync_gradients(True)
    for (loss, gradients, state), (other_loss, other, other_state) in zip(results[:2], results[2:], strict=True):
        assert abs(loss - other_loss) <= OTHER_LAYOUT * abs(loss)
        assert relative_difference(other, gradients) <= OTHER_LAYOUT
        assert other_state == pytest.approx(state, rel=1e-5)


def test_cispo_has_the_gradient_of_trl(model_path: str, tmp_path: Path) -> None:
    """TRL's `epsilon_high` is the cap itself."""
    common = {"beta": 0.0, "num_iterations": 2}
    equal = {"epsilon_high": 0.3, "epsilon_reasoning_high": 0.3, "mask_zero_std_groups": False}
    ours = make_trainer(model_path, tmp_path, surrogate="cispo", **common, **equal)
    theirs = make_trainer(
        model_path,
        tmp_path,
        trainer_class=GRPOTrainer,
        config_class=GRPOConfig,
        loss_type="cispo",
        epsilon_high=1.3,
        **common,
    )
    inputs = make_inputs(ours)
    _, gradients = loss_and_gradients(ours, inputs)
    _, expected = loss_and_gradients(theirs, inputs)
    assert relative_difference(gradients, expected) <= SAME_AS_TRL


def test_opefo_knows_its_lambda_before_the_step(model_path: str, tmp_path: Path) -> None:
    """On-policy, the lambda of a step is that of its own tokens, over all micro-batches."""
    config = {"gradient_accumulation_steps": 2, "steps_per_generation": 2, "beta": 0.0}
    trainer = make_trainer(model_path, tmp_path, token_weights="opefo", max_steps=1, **config)
    used: list[Any] = []
    of = trainer._method.of
    trainer._method.of = lambda inputs, *args: (used.append(inputs), of(inputs, *args))[1]
    trainer.train()
    assert len(used) == 2
    raised, lowered = 0.0, 0.0
    untrained = make_trainer(model_path, tmp_path, **config)
    for inputs in used:
        inputs["tool_mask"] = torch.ones_like(inputs["completion_mask"])
        logps, entropies = unpadded_logps_and_entropies(untrained, inputs)
        advantages = inputs["advantages"].tolist()
        for i, row in enumerate(inputs["completion_mask"].tolist()):
            for t, keep in enumerate(row):
                change = -advantages[i] * (1 - math.exp(logps[i][t])) ** 2 * (logps[i][t] + entropies[i][t])
                raised, lowered = raised + max(change, 0) * keep, lowered + max(-change, 0) * keep
    expected = (lowered - raised) / (lowered + raised)
    assert [inputs["entropy_balance"] for inputs in used] == pytest.approx([expected] * 2, rel=1e-4)
    assert expected != 0
    logged = [entry["opefo/lambda"] for entry in trainer.state.log_history if "opefo/lambda" in entry]
    assert logged == pytest.approx([expected], rel=1e-4)
    assert all("old_per_token_logps" not in inputs for inputs in used)


@pytest.mark.parametrize("name", ["flexible", "clip-cov"])
def test_resume_is_exact_in_the_middle_of_a_schedule_and_a_rollout(model_path: str, tmp_path: Path, name: str) -> None:
    methods: dict[str, dict[str, Any]] = {
        "flexible": {"clip_range": "probability", "clip_schedule": "oscillate", "token_weights": "steer"},
        "clip-cov": {**METHODS["clip_cov"], "clip_range": "probability", "clip_schedule": "increase_decrease"},
    }
    config = {"num_iterations": 2, "steps_per_generation": 2, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}

    def train(folder: str, resume: bool = False, **changes: Any) -> Any:
        trainer = make_trainer(
            model_path, tmp_path / folder, save_steps=3, max_steps=6, **config, **methods[name], **changes
        )
        if folder == "parts" and not resume:  # as if it was killed
            trainer.add_callback(Watch(stop_after=3))
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = train("whole")
    train("parts")
    resumed = train("parts", resume=True)
    weights = dict(whole.model.named_parameters())
    assert all(torch.equal(p, weights[key]) for key, p in resumed.model.named_parameters())
    assert resumed._method.state(6) == whole._method.state(6)
    assert resumed._method.state(6)["weights"]


def test_another_number_of_steps_is_said(model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"clip_range": "probability", "clip_schedule": "increase_decrease", "num_iterations": 2, "save_steps": 2}
    make_trainer(model_path, tmp_path, max_steps=2, **config).train()
    make_trainer(model_path, tmp_path, max_steps=4, **config).train(resume_from_checkpoint=True)
    assert "The run now has 4 optimizer steps instead of 2" in caplog.text
