"""Random configurations: plain TRL is the judge where both must agree, and padding removal off where only ours exists.

`make test-fuzz` draws 40 configurations of each kind; `FUZZ=1000 make test-fuzz` draws more. A failure names its seed,
and `make test-fuzz ARGS="-k 'trl and 17-'"` runs it again.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer

from ..helpers.tiny import PROMPTS, TOKENIZER, make_trainer, relative_difference

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore::UserWarning")]
SEEDS = [pytest.param(seed, id=f"{seed}-") for seed in range(int(os.environ.get("FUZZ", "40")))]
SAME = 1e-5  # relative to the largest weight change


def draw_shared(draw: random.Random) -> dict[str, Any]:
    """Settings that every trainer has."""
    group = draw.choice([2, 4])
    rows = draw.choice([size for size in (2, 4, 8) if size % group == 0 or group % size == 0])
    steps = draw.choice([n for n in (1, 2, 3, 4) if rows * n % group == 0])
    return {
        "num_generations": group,
        "per_device_train_batch_size": rows,
        "steps_per_generation": steps,
        "gradient_accumulation_steps": draw.choice([n for n in (1, 2, 3) if steps % n == 0]),
        "num_iterations": draw.choice([1, 2, 3]),
        "beta": draw.choice([0.0, 0.05]),
        "temperature": draw.choice([0.7, 1.0, 1.3]),
        "scale_rewards": draw.choice(["group", "batch", "none"]),
        "multi_objective_aggregation": draw.choice(["sum_then_normalize", "normalize_then_sum"]),
        "mask_truncated_completions": draw.random() < 0.3,
        "use_bias_correction_kl": draw.random() < 0.5,
        "off_policy_mask_threshold": draw.choice([None, None, 0.05]),
        "pad_to_multiple_of": draw.choice([None, None, 4]),
        "max_completion_length": 16,
        "max_steps": draw.choice([2, 3, 4]),
        "eval_strategy": draw.choice(["no", "steps"]),
        "eval_steps": 2,
        "num_generations_eval": 2,
        "per_device_eval_batch_size": 8,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "learning_rate": 0.05,
        "max_grad_norm": draw.choice([0.0, 1.0]),
        "seed": draw.randrange(1000),
    }


def draw_loss(draw: random.Random) -> dict[str, Any]:
    """One of TRL's losses."""
    loss = draw.choice(["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"])
    options: dict[str, Any] = {"loss_type": loss}
    if loss in ("grpo", "luspo", "dapo") and draw.random() < 0.3:
        options["importance_sampling_level"] = "sequence"
    if loss in ("dapo", "grpo", "bnpo", "dr_grpo") and draw.random() < 0.5:
        options |= {"epsilon_high": 0.3, "delta": draw.choice([None, 1.5])}
    if loss == "cispo":
        options["epsilon_high"] = 3.0
    if draw.random() < 0.2:
        options["top_entropy_quantile"] = 0.3
    if draw.random() < 0.2:
        options |= {"entropy_coef": 0.02, "use_adaptive_entropy": draw.random() < 0.5, "entropy_target": 3.0}
    return options


def environment(draw: random.Random) -> dict[str, Any]:
    """Fixed rollouts and rewards, the same at every call with the same number, so that trainers see the same tokens."""
    seed, tools, kinds = (
        draw.randrange(10**6),
        draw.random() < 0.3,
        draw.choice([["plain"], ["plain", "rare"], ["rare"]]),
    )
    calls = {"rollout": 0}

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        calls["rollout"] += 1
        choose = random.Random(f"{seed} {calls['rollout']}")
        completions = []
        for _ in prompts:
            ids = [choose.randrange(3, len(TOKENIZER)) for _ in range(choose.randrange(1, 17))]
            completions.append([*ids[:-1], TOKENIZER.eos_token_id] if choose.random() < 0.7 else ids)
        masks = [[int(choose.random() < 0.7) for _ in ids[1:]] for ids in completions]
        return {
            "prompt_ids": [TOKENIZER(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": completions,
            "logprobs": None,
            **({"env_mask": [[1, *mask] for mask in masks]} if tools else {}),
        }

    def plain(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(sum(ids) % 5) for ids in completion_ids]

    def rare(completion_ids: list[list[int]], **kwargs: Any) -> list[float | None]:
        """Groups without a signal, and completions that cannot be scored."""
        return [None if sum(ids) % 7 == 0 else float(sum(ids) % 4 == 0) for ids in completion_ids]

    return {
        "reward_funcs": [{"plain": plain, "rare": rare}[kind] for kind in kinds],
        "trainer_kwargs": {"rollout_func": rollout},
    }


def data(kind: str) -> Any:
    if kind == "map":
        return Dataset.from_dict({"prompt": PROMPTS * 4})
    return IterableDataset.from_generator(lambda: ({"prompt": prompt} for prompt in PROMPTS * 4))


def run(path: str, folder: Path, number: int, kind: str, **options: Any) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Weights and logs of a run. Rewards and rollouts follow from the number of the draw."""
    set_seed(0)
    trainer = make_trainer(path, folder, dataset=data(kind), **environment(random.Random(f"env {number}")), **options)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}, logs


TOKEN_MEANS = ("kl", "entropy")  # in TRL, means over micro-batches, which hold other completions there


def assert_same(path: str, tmp_path: Path, ours: Any, theirs: Any, seed: int, names: tuple[str, ...] = ()) -> None:
    start = {name: p.detach().clone() for name, p in make_trainer(path, tmp_path / "start").model.named_parameters()}
    moves = [{name: weights[name] - start[name] for name in start} for weights, _ in (ours, theirs)]
    if any(move.abs().max() > 1e-6 for move in moves[1].values()):
        assert relative_difference(*moves) <= SAME * 100, f"seed {seed}"  # float32 weights limit how small a move shows
    for mine, other in zip(ours[1], theirs[1], strict=True):
        for name in ("loss", "eval_loss", "reward", *names):
            if other.get(name) is not None and mine.get(name) is not None:
                assert mine[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), f"seed {seed}: {name}"


@pytest.mark.parametrize("seed", SEEDS)
def test_durable_equals_trl(model_path: str, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    options = {**draw_shared(draw), **draw_loss(draw)}
    kind = draw.choice(["map", "stream"])
    try:
        GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **options)
    except ValueError as error:
        pytest.skip(f"TRL refuses the configuration: {error}")
    theirs = run(
        model_path, tmp_path / "theirs", seed, kind, trainer_class=GRPOTrainer, config_class=GRPOConfig, **options
    )
    ours = run(
        model_path,
        tmp_path / "ours",
        seed,
        kind,
        trainer_class=DurableGRPOTrainer,
        config_class=DurableGRPOConfig,
        **options,
    )
    assert_same(model_path, tmp_path, ours, theirs, seed)


def draw_archer(draw: random.Random) -> dict[str, Any]:
    return {
        **draw_shared(draw),
        "loss_type": draw.choice(["dapo", "grpo", "bnpo", "dr_grpo"]),
        "beta": draw.choice([0.0, 0.05]),
        "entropy_quantile": draw.choice([0.5, 0.8, 0.9]),
        "gate_width": draw.choice([0.0, 0.0, 0.3]),
        "epsilon_reasoning": draw.choice([0.3, 0.5]),
        "delta": draw.choice([None, 3.0]),
        "entropy_coef": draw.choice([0.0, 0.0, 0.02]),
        "mask_zero_std_groups": draw.random() < 0.7,
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_archer_without_padding_equals_archer_with_it(model_path: str, tmp_path: Path, seed: int) -> None:
    draw = random.Random(10_000 + seed)
    options, kind = draw_archer(draw), draw.choice(["map", "stream"])
    ours = run(model_path, tmp_path / "trimmed", seed, kind, remove_padding=True, **options)
    theirs = run(model_path, tmp_path / "plain", seed, kind, remove_padding=False, **options)
    assert_same(model_path, tmp_path, ours, theirs, seed, TOKEN_MEANS)


@pytest.mark.parametrize("seed", SEEDS)
def test_unchanged_weights(model_path: str, moe_path: str, tmp_path: Path, seed: int) -> None:
    """With learning rate 0, in bfloat16 or float32: ratio 1, KL 0, nothing clipped, in every update."""
    draw = random.Random(20_000 + seed)
    options, kind = draw_archer(draw), draw.choice(["map", "stream"])
    options |= {"learning_rate": 0.0, "beta": 0.05, "bf16": draw.random() < 0.7, "remove_padding": draw.random() < 0.7}
    path = draw.choice([model_path, model_path, moe_path])
    made = environment(random.Random(f"env {seed}"))
    if path == model_path and draw.random() < 0.4:
        made["trainer_kwargs"]["peft_config"] = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_trainer(path, tmp_path, dataset=data(kind), **made, **options)
    trainer.train()
    for entry in trainer.state.log_history:
        for name in ("kl", "log_ratio/max", "clip_ratio/region_mean"):
            assert entry.get(name) in (None, 0.0), f"seed {seed}: {name}"
