"""The updates of examples/single_file.py equal the trainer's on the same rollout."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import Dataset

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.playground import countdown_reward, load_policy, sample_problems

FILE = Path(__file__).parents[2] / "examples" / "single_file.py"
PROMPTS = 8
# Adam's first step is close to lr * sign(gradient). A larger epsilon smooths the jump at 0, where float32 noise decides
ADAM_EPSILON = 1e-5
SAME = {"rel": 0, "abs": 1e-5}


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("single_file", FILE)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def replay(rollout: Any, tokenizer: Any) -> Callable[..., dict[str, Any]]:
    """A `rollout_func` for TRL that hands out the completions of a rollout by prompt, in any order of the prompts."""
    rows: dict[str, list[tuple[list[int], list[int]]]] = {}
    for prompt, completion, mask in zip(rollout.prompt_ids, rollout.completion_ids, rollout.mask, strict=True):
        rows.setdefault(tokenizer.decode(prompt), []).append((prompt.tolist(), completion[mask].tolist()))

    def rollout_func(prompts: list[str], trainer: Any) -> dict[str, Any]:
        ids = [rows[prompt].pop() for prompt in prompts]
        return {"prompt_ids": [p for p, _ in ids], "completion_ids": [c for _, c in ids], "logprobs": None}

    return rollout_func


@pytest.mark.filterwarnings("ignore:.*rollout_func.*experimental:UserWarning")
@pytest.mark.parametrize("passes", [1, 3])
def test_updates_equal_the_trainers(example: ModuleType, passes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy, tokenizer = load_policy()
    prompts = [problem.prompt for problem in sample_problems("rl", PROMPTS, seed=0)]
    rollout = example.roll_out(policy, tokenizer, prompts)
    group, other = slice(0, example.GROUP), example.GROUP
    rollout.mask[group, 5:] = False  # a group without a correct completion, which is dropped
    rollout.mask[other, 9:] = False  # and a short completion in another group
    rollout.rewards[group] = rollout.rewards[other] = 0
    trainer = ArcherGRPOTrainer(
        load_policy()[0],
        countdown_reward,
        args=ArcherGRPOConfig(
            str(tmp_path),
            num_iterations=example.PASSES,
            num_generations=example.GROUP,
            per_device_train_batch_size=len(rollout.mask),
            max_completion_length=example.MAX_TOKENS,
            learning_rate=example.LEARNING_RATE,
            adam_epsilon=ADAM_EPSILON,
            max_grad_norm=example.MAX_GRAD_NORM,
            lr_scheduler_type="constant",
            max_steps=passes,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        rollout_func=replay(rollout, tokenizer),
    )
    assert trainer.args.constraints == example.CONSTRAINTS
    trainer.train()

    optimizer = torch.optim.AdamW(policy.parameters(), lr=example.LEARNING_RATE, weight_decay=0.0, eps=ADAM_EPSILON)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    batch = example.prepare(policy, load_policy()[0], rollout)
    assert example.GROUP < len(batch.mask) < len(rollout.mask)  # some groups are dropped, others are not
    for logged in trainer.state.log_history[:passes]:
        metrics = example.update(policy, optimizer, batch)
        assert metrics["loss"] == pytest.approx(logged["loss"], **SAME)
        for role in ("reasoning", "knowledge"):
            clipped = logged[f"clip_ratio/{role}/low_mean"] + logged[f"clip_ratio/{role}/high_mean"]
            assert metrics[f"clipped/{role}"] == pytest.approx(clipped, **SAME)
            assert metrics[f"entropy/{role}"] == pytest.approx(logged[f"entropy/{role}"], **SAME)
            assert metrics[f"kl/{role}"] == pytest.approx(logged[f"kl/{role}"], **SAME)
    if passes > 1:  # ratios have left 1
        assert metrics["clipped/knowledge"] + metrics["clipped/reasoning"] > 0
        assert metrics["kl/knowledge"] > 0
    parameters = list(zip(before, policy.parameters(), trainer.model.parameters(), strict=True))
    assert max((ours - old).abs().max().item() for old, ours, _ in parameters) > 1e-4
    for _, ours, theirs in parameters:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_rollout_without_signal_gives_no_batch(example: ModuleType) -> None:
    policy, tokenizer = load_policy()
    rollout = example.roll_out(policy, tokenizer, [sample_problems("rl", 1, seed=0)[0].prompt])
    assert example.prepare(policy, policy, rollout._replace(rewards=torch.ones(example.GROUP))) is None
