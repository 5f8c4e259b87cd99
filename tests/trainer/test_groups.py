"""Rewards are checked, and groups whose rewards are all equal leave loss, normaliser and metrics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from trl_archer import ArcherGRPOTrainer
from trl_archer.groups import zero_std_groups
from trl_archer.grpo.padding import deal_evenly, loss_mask
from trl_archer.grpo.reward_checks import check_reward_models, checked_reward
from trl_archer.rewards.repetition import generated_ids

from ..helpers.tiny import PROMPTS, loss_and_gradients, make_trainer, relative_difference, rows_of, scored_rollout
from ..helpers.tolerances import OTHER_LAYOUT

NAN = float("nan")


@pytest.mark.parametrize(
    ("rewards", "weights", "by_func", "expected"),
    [
        ([[1], [1], [0], [1]], [1.0], False, [True, False]),
        ([[0], [0], [0.5], [0.5]], [1.0], False, [True, True]),
        ([[NAN], [1], [NAN], [NAN]], [1.0], False, [True, True]),  # a single scorable one, none at all
        ([[NAN], [NAN], [0], [1]], [1.0], False, [True, False]),
        ([[1, 0], [0, 1], [1, 0], [0, 0]], [1.0, 1.0], False, [True, False]),  # the sum is what counts
        ([[1, 0], [0, 1], [1, 0], [1, 0]], [1.0, 1.0], True, [False, True]),  # unless each is normalized by itself
        ([[1, 0], [0, 1], [1, 5], [1, 0]], [2.0, 0.0], False, [False, True]),
        ([[0.1, 0.2], [0.3, 0.0], [1, 1], [1, 1.00001]], [1.0, 1.0], False, [True, False]),  # rounding is no signal
        ([[1, NAN], [1, NAN], [1, NAN], [1, 2]], [1.0, 1.0], False, [True, False]),
        ([[1, 0], [1, 5], [1, 0], [2, 0]], [1.0, 0.0], True, [True, False]),  # a function of weight 0 is no signal
    ],
)
def test_zero_std_groups(rewards: Any, weights: Any, by_func: bool, expected: list[bool]) -> None:
    got = zero_std_groups(torch.tensor(rewards, dtype=torch.float32), torch.tensor(weights), 2, by_func)
    assert got.tolist() == expected


def even_prompts_differ(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    """Only groups of every other prompt have rewards that differ."""
    return [float(len(c) % 7) if PROMPTS.index(p) % 2 == 0 else 1.0 for p, c in zip(prompts, completions, strict=True)]


def all_equal(completions: list[str], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


def rollout(trainer: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    trainer.model.train()
    return scored_rollout(trainer)


GEOMETRY = {"per_device_train_batch_size": 16, "num_generations": 4, "num_iterations": 2, "beta": 0.1}


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_dropped_groups_leave_loss_and_normaliser(model_path: str, tmp_path: Path, loss_type: str) -> None:
    trainer = make_trainer(model_path, tmp_path, reward_funcs=even_prompts_differ, loss_type=loss_type, **GEOMETRY)
    inputs = rollout(trainer)
    inputs["old_per_token_logps"] += 0.4 * torch.randn(inputs["old_per_token_logps"].shape)
    kept = inputs["completion_mask"].any(dim=1)
    assert 0 < kept.sum() < len(kept)
    logs: dict[str, float] = {}
    loss, gradients = loss_and_gradients(trainer, inputs)
    trainer.log(logs)
    assert logs["archer/dropped_groups"] == (~kept).sum() / 4

    survivors = rows_of(inputs, kept.nonzero().flatten().tolist())
    survivors["num_items_in_batch"] = survivors["completion_mask"].sum()
    survivors["num_sequences_in_batch"] = kept.sum()
    expected_loss, expected = loss_and_gradients(trainer, survivors)
    expected_logs: dict[str, float] = {}
    trainer.log(expected_logs)
    assert abs(loss - expected_loss) <= OTHER_LAYOUT * abs(expected_loss)
    assert relative_difference(gradients, expected) <= OTHER_LAYOUT
    tokens = [name for name in logs if name.startswith(("entropy", "kl", "clip", "archer/e", "archer/r"))]
    assert len(tokens) > 10
    for name in tokens:
        assert logs[name] == pytest.approx(expected_logs[name], rel=1e-5, abs=1e-7), name


def test_switched_off(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(
        model_path, tmp_path, reward_funcs=even_prompts_differ, mask_zero_std_groups=False, **GEOMETRY
    )
    inputs = rollout(trainer)
    assert inputs["completion_mask"].any(dim=1).all()
    assert inputs["num_sequences_in_batch"] == len(inputs["completion_mask"])
    assert "archer/dropped_groups" not in trainer._metrics["train"]


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_all_dropped_is_a_finite_zero(model_path: str, tmp_path: Path, loss_type: str) -> None:
    trainer = make_trainer(
        model_path,
        tmp_path,
        reward_funcs=all_equal,
        loss_type=loss_type,
        optim="sgd",
        learning_rate=1.0,
        steps_per_generation=2,
        max_steps=2,
        beta=0.1,
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == [0.0, 0.0]
    assert all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    assert trainer.state.log_history[0]["archer/dropped_groups"] == 4
    assert trainer.state.log_history[0]["entropy"] is None


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
def test_update_without_a_signal_moves_nothing(model_path: str, tmp_path: Path, optim: str) -> None:
    """Neither by momentum nor by weight decay. The first step has a signal, the others have none."""
    calls = iter(range(100))

    def reward(completions: list[str], **kwargs: Any) -> list[float]:
        first = next(calls) == 0
        return [float(index % 2) if first else 1.0 for index in range(len(completions))]

    weights: list[list[torch.Tensor]] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, model: Any, **kwargs: Any) -> None:
            weights.append([p.detach().clone() for p in model.parameters()])

    config = {"optim": optim, "learning_rate": 1e-2, "weight_decay": 0.1, "max_steps": 3, "beta": 0.1}
    trainer = make_trainer(model_path, tmp_path, reward_funcs=reward, trainer_kwargs={"callbacks": [Watch()]}, **config)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert not all(map(torch.equal, before, weights[0]))
    assert all(torch.equal(x, y) for later in weights[1:] for x, y in zip(weights[0], later, strict=True))
    assert [entry["empty_updates"] for entry in trainer.state.log_history if "loss" in entry] == [0, 1, 2]
    assert [entry["skipped_updates"] for entry in trainer.state.log_history if "loss" in entry] == [0, 0, 0]


def test_kept_completions_are_dealt_evenly(model_path: str, tmp_path: Path) -> None:
    """8 of 16 completions count; each of the 4 updates gets 2 of them, in both layouts, whatever the shuffle."""
    config = {**GEOMETRY, "per_device_train_batch_size": 2, "steps_per_generation": 8, "gradient_accumulation_steps": 2}
    for remove_padding in (True, False):
        trainer = make_trainer(
            model_path, tmp_path, reward_funcs=even_prompts_differ, remove_padding=remove_padding, seed=3, **config
        )
        trainer.model.train()
        trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        kept = [loss_mask(batch).any(dim=1).sum().item() for batch in trainer._buffered_inputs]
        assert [a + b for a, b in zip(kept[::2], kept[1::2], strict=True)] == [2, 2, 2, 2]


def test_dealing_moves_nothing_if_all_count_and_handles_lists() -> None:
    batch = {
        "completion_mask": torch.ones(2, 3, dtype=torch.long),
        "row": torch.tensor([0, 1]),
        "names": ["a", "b"],
        "total": torch.tensor(7.0),
        "nothing": None,
    }
    batches = [batch, {**batch, "row": torch.tensor([2, 3]), "names": ["c", "d"]}]
    for dealt, given in zip(deal_evenly(batches, per_update=1), batches, strict=True):
        assert dealt["row"].tolist() == given["row"].tolist()
        assert dealt["names"] == given["names"]
        assert dealt["nothing"] is None
    empty = {**batch, "completion_mask": torch.zeros(2, 3, dtype=torch.long)}
    first, second = deal_evenly([batches[1], empty], per_update=1)
    assert (first["names"], second["names"]) == (["c", "a"], ["d", "b"])


def test_update_over_several_rollouts_is_refused(model_path: str, tmp_path: Path) -> None:
    config = {"gradient_accumulation_steps": 2, "steps_per_generation": 1}
    with pytest.raises(ValueError, match=r"steps_per_generation=1 is not a multiple of gradient_accumulation_steps=2"):
        make_trainer(model_path, tmp_path, **config)
    make_trainer(model_path, tmp_path, mask_zero_std_groups=False, **config)


def test_rewards_of_a_subclass_without_super(model_path: str, tmp_path: Path) -> None:
    class Mine(ArcherGRPOTrainer):
        def _calculate_rewards(self, inputs: Any, *args: Any) -> torch.Tensor:
            return torch.tensor([float(index % 2) if index < 4 else 1.0 for index in range(len(inputs))])[:, None]

    trainer = make_trainer(model_path, tmp_path, trainer_class=Mine, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["archer/dropped_groups"] == 1


def test_what_tools_wrote_is_no_repetition() -> None:
    ids = [[1, 2, 9, 9, 9], [3, 4]]
    mask = torch.tensor([[1, 1, 0, 0, 1], [1, 1, 1, 1, 1]])
    assert generated_ids(ids, mask) == [[1, 2, 9], [3, 4]]
    assert generated_ids(ids, None) == ids


@pytest.mark.parametrize("num_generations_eval", [1, 4])
def test_evaluation_drops_nothing(model_path: str, tmp_path: Path, num_generations_eval: int) -> None:
    trainer = make_trainer(
        model_path, tmp_path, reward_funcs=all_equal, num_generations_eval=num_generations_eval, beta=0.1
    )
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == 0.0
    logged = trainer.state.log_history[-1]
    assert logged["eval_entropy"] > 0
    assert "eval_archer/dropped_groups" not in logged


def test_functions_normalized_by_themselves(model_path: str, tmp_path: Path) -> None:
    """Two rewards whose sum is constant have an advantage each; only their sum has none."""

    def up(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(index % 2) for index in range(len(completions))]

    def down(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(1 - index % 2) for index in range(len(completions))]

    for aggregation, kept in (("sum_then_normalize", 0), ("normalize_then_sum", 16)):
        trainer = make_trainer(
            model_path, tmp_path, reward_funcs=[up, down], multi_objective_aggregation=aggregation, **GEOMETRY
        )
        assert rollout(trainer)["num_sequences_in_batch"] == kept


def test_reward_model_that_breaks_is_refused() -> None:
    models, rewards = [torch.nn.Linear(1, 1), all_equal], torch.tensor([[1.0, NAN], [0.5, 1.0]])
    check_reward_models(models, ["judge", "all_equal"], rewards)  # None of a function is NaN by now
    with pytest.raises(ValueError, match="The reward model 'judge' returned non-finite rewards for 1 of 2 completions"):
        check_reward_models(models, ["judge", "all_equal"], rewards.flip(1))


def test_truncated_completions_leave_too(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, mask_truncated_completions=True, **GEOMETRY)
    inputs = rollout(trainer)
    truncated = inputs["completion_ids"][:, -1] != trainer._tokenizer.pad_token_id
    truncated &= inputs["completion_ids"][:, -1] != trainer._tokenizer.eos_token_id
    assert truncated.any()
    assert not truncated.all()
    assert not inputs["completion_mask"][truncated].any()
    assert inputs["num_items_in_batch"] == inputs["completion_mask"].sum()


def test_unscorable_is_not_wrong(model_path: str, tmp_path: Path) -> None:
    """A completion whose reward is None has no advantage, whatever its group does; a wrong one has a negative one."""

    def reward(completions: list[str], **kwargs: Any) -> list[float | None]:
        return [None, 0.0, 1.0, 1.0] * (len(completions) // 4)

    inputs = rollout(make_trainer(model_path, tmp_path, reward_funcs=reward, **GEOMETRY))
    advantages = inputs["advantages"].view(-1, 4)
    assert (advantages[:, 0] == 0).all()
    assert (advantages[:, 1] < 0).all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], r"returned 1 rewards for 3 completions"),
        ([1.0] * 4, r"returned 4 rewards for 3 completions"),
        ([1.0, 0.0, float("inf")], r"returned inf for completion 2"),
        (["good", 0.0, 0.0], r"returned 'good' for completion 0"),
        (1.0, r"returned float; it must return a list of 3"),
        (None, r"returned NoneType"),
        ("abc", r"returned str"),
        (torch.tensor([1.0, torch.inf, 0.0]), r"returned tensor\(inf\) for completion 1"),
    ],
)
def test_unsound_rewards(returned: Any, message: str) -> None:
    def my_reward(completions: list[str], **kwargs: Any) -> Any:
        return returned

    with pytest.raises(ValueError, match=f"The reward function 'my_reward' {message}"):
        checked_reward(my_reward)(prompts=["p"] * 3, completions=["c"] * 3)


def test_nan_is_not_scorable_and_iterators_are_read() -> None:
    """As in TRL."""

    def my_reward(completions: list[str], **kwargs: Any) -> Any:
        return iter([1.0, NAN, torch.tensor(torch.nan)])

    assert checked_reward(my_reward)(prompts=["p"] * 3, completions=["c"] * 3) == [1.0, None, None]


@pytest.mark.parametrize("returned", [[1, None, 0.5], (1, 0, True), torch.tensor([1.0, 0.0, 0.5])])
def test_sound_rewards_pass(returned: Any) -> None:
    def my_reward(completions: list[str], **kwargs: Any) -> Any:
        return returned

    expected = [None if reward is None else float(reward) for reward in returned]
    assert checked_reward(my_reward)(prompts=["p"] * 3, completions=["c"] * 3) == expected


def test_reward_that_raises_is_named(model_path: str, tmp_path: Path) -> None:
    def broken_reward(completions: list[str], **kwargs: Any) -> list[float]:
        raise KeyError("solution")

    trainer = make_trainer(model_path, tmp_path, reward_funcs=broken_reward)
    with pytest.raises(KeyError, match="solution") as error:
        trainer.train()
    assert error.value.__notes__ == ["Raised in the reward function 'broken_reward'."]


def test_asynchronous_rewards_are_checked_too(model_path: str, tmp_path: Path) -> None:
    async def async_reward(completions: list[str], **kwargs: Any) -> list[float]:
        return [torch.inf] * len(completions)

    trainer = make_trainer(model_path, tmp_path, reward_funcs=async_reward)
    with pytest.raises(ValueError, match="'async_reward' returned inf for completion 0"):
        trainer.train()


def test_reward_columns_and_loggers_reach_the_function(model_path: str, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Reward:
        def __call__(self, completions: list[str], answer: list[int], log_metric: Any, **kwargs: Any) -> list[float]:
            seen.update(answer=answer, **kwargs)
            log_metric("custom", 7.0)
            return [float(index) for index in range(len(completions))]

    dataset = Dataset.from_dict({"prompt": PROMPTS, "answer": list(range(len(PROMPTS)))})
    trainer = make_trainer(model_path, tmp_path, reward_funcs=Reward(), dataset=dataset, max_steps=1)
    trainer.train()
    assert len(seen["answer"]) == 8
    assert {"prompts", "completion_ids", "trainer_state"} <= seen.keys()
    assert trainer.state.log_history[0]["custom"] == 7.0
    assert "rewards/Reward/mean" in trainer.state.log_history[0]
