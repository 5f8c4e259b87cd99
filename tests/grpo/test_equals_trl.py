"""DurableGRPOTrainer runs TRL's own loss types: same loss, same gradient, same weights, exact resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer

from ..helpers.tiny import loss_and_gradients, make_inputs, make_trainer, relative_difference
from ..helpers.tolerances import REMOVE_PADDING

LOSSES: dict[str, dict[str, Any]] = {
    "dapo": {},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 3.0},
    "sapo": {"loss_type": "sapo"},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "luspo by token": {"loss_type": "luspo"},
    "vespo": {"loss_type": "vespo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.2},
    "80/20": {"top_entropy_quantile": 0.2},
    "entropy bonus": {"entropy_coef": 0.05},
    "adaptive entropy": {"use_adaptive_entropy": True, "entropy_coef": 0.05, "entropy_target": 5.0},
    "kl": {"beta": 0.1},
    "dual clip": {"delta": 1.5, "off_policy_mask_threshold": 0.05},
}
# These depend on which completions share a micro-batch, which is only trimmed then
BY_SPLIT = {"bnpo", "80/20", "entropy bonus", "adaptive entropy"}
WINDOW = {"per_device_train_batch_size": 2, "steps_per_generation": 4, "gradient_accumulation_steps": 2}
PROMPT_LENGTHS = (3, 6, 1, 4, 2, 5, 6, 2)
COMPLETION_LENGTHS = (9, 4, 1, 12, 3, 10, 1, 5)


def pair(path: str, tmp_path: Path, **config: Any) -> tuple[Any, Any]:
    config = {"beta": 0.0, "num_generations": 2, **WINDOW, **config}
    durable = make_trainer(
        path, tmp_path / "durable", trainer_class=DurableGRPOTrainer, config_class=DurableGRPOConfig, **config
    )
    plain = make_trainer(path, tmp_path / "plain", trainer_class=GRPOTrainer, config_class=GRPOConfig, **config)
    return durable, plain


def micro_batches(trainer: Any, rollout: dict[str, Any]) -> list[dict[str, Any]]:
    """What the update phase sees of a scored rollout, as the trainer splits and shuffles it."""
    trainer._generate_and_score_completions = lambda _: dict(rollout)
    trainer._score = lambda batches: batches
    trainer.model.train()
    set_seed(7)
    batches = []
    for step in range(trainer.args.steps_per_generation):
        trainer._step = step
        batches.append(trainer._prepare_inputs([{}]))
    return batches


@pytest.mark.parametrize("ratio", [False, True], ids=["", "vLLM ratio"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient(model_path: str, tmp_path: Path, name: str, ratio: bool) -> None:
    """Of both updates of a ragged rollout. One of its completions is truncated, so none of its tokens count."""
    durable, plain = pair(model_path, tmp_path, **LOSSES[name])
    rollout = make_inputs(plain, PROMPT_LENGTHS, COMPLETION_LENGTHS)
    del rollout["num_sequences_in_batch"]
    rollout["completion_mask"][5] = 0
    rollout["num_items_in_batch"] = rollout["completion_mask"].sum()
    if ratio:
        real = rollout["completion_mask"].bool()
        rollout["importance_sampling_ratio"] = torch.where(real, 0.5 + torch.rand(real.shape), 1.0)
        durable.use_vllm = plain.use_vllm = True
    ours, theirs = micro_batches(durable, rollout), micro_batches(plain, rollout)
    for update in (slice(0, 2), slice(2, 4)):
        loss, gradients = loss_and_gradients(durable, *ours[update])
        expected_loss, expected = loss_and_gradients(plain, *theirs[update])
        assert abs(loss - expected_loss) <= REMOVE_PADDING * abs(expected_loss)
        assert relative_difference(gradients, expected) <= REMOVE_PADDING
    slots, their_slots = (sum(b["completion_ids"].numel() for b in batches) for batches in (ours, theirs))
    assert slots < their_slots
    members = [[sorted(b["advantages"].tolist()) for b in batches] for batches in (ours, theirs)]
    assert (members[0] == members[1]) is (name in BY_SPLIT)


@pytest.mark.parametrize("name", ["dapo", "cispo", "adaptive entropy", "gspo"])
def test_a_run_gives_trls_weights(model_path: str, tmp_path: Path, name: str) -> None:
    """Sampling included: the same seed gives the same completions."""
    weights = []
    for trainer in pair(model_path, tmp_path, **LOSSES[name], num_iterations=2, max_steps=4, optim="sgd", seed=1):
        trainer.train()
        weights.append(dict(trainer.model.named_parameters()))
    assert relative_difference(*weights) <= REMOVE_PADDING


@pytest.mark.parametrize("name", ["cispo", "adaptive entropy"])
def test_resume_is_exact(model_path: str, tmp_path: Path, name: str) -> None:
    """In the middle of a rollout, with the state of the entropy controller."""
    config = {**WINDOW, "num_generations": 2, "num_iterations": 2, "learning_rate": 1e-2, **LOSSES[name]}

    def train(folder: str, max_steps: int, resume: bool = False) -> Any:
        trainer = make_trainer(
            model_path,
            tmp_path / folder,
            trainer_class=DurableGRPOTrainer,
            config_class=DurableGRPOConfig,
            save_steps=3,
            lr_scheduler_type="constant",
            max_steps=max_steps,
            **config,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = train("whole", 6)
    train("parts", 3)
    resumed = train("parts", 6, resume=True)
    weights = dict(whole.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in resumed.model.named_parameters())
    assert resumed.entropy_coef == whole.entropy_coef


def test_other_configurations_are_refused(model_path: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="DurableGRPOTrainer needs DurableGRPOConfig"):
        make_trainer(model_path, tmp_path, trainer_class=DurableGRPOTrainer, config_class=GRPOConfig)
