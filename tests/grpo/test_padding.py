"""Without padding, company of unequal length and dropped rows: same loss, same gradient, less work."""

import random
from itertools import accumulate, combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from trl_archer import ArcherGRPOTrainer
from trl_archer.grpo.padding import _least_padded, group_by_length, loss_mask, real_tokens

from ..helpers.tiny import (
    PROMPTS,
    SIZES,
    TOKENIZER,
    loss_and_gradients,
    make_inputs,
    make_trainer,
    relative_difference,
    rows_of,
)
from ..helpers.tolerances import REMOVE_PADDING

LOSS_TYPES = ["dapo", "grpo", "bnpo", "dr_grpo"]
PROMPT_LENGTHS = (3, 6, 1, 4, 2, 5, 6, 2)
COMPLETION_LENGTHS = (9, 4, 1, 30, 3, 12, 1, 5)


def batch_of(trainer: Any, **extras: Any) -> dict[str, Any]:
    inputs = make_inputs(trainer, PROMPT_LENGTHS, COMPLETION_LENGTHS)
    return {**inputs, **extras}


def micro_batches(inputs: dict[str, Any], size: int) -> list[dict[str, Any]]:
    return [rows_of(inputs, range(start, start + size)) for start in range(0, len(inputs["advantages"]), size)]


def assert_same(trainer: Any, layout: list[dict[str, Any]], plain: list[dict[str, Any]]) -> None:
    loss, gradients = loss_and_gradients(trainer, *layout)
    expected_loss, expected = loss_and_gradients(trainer, *plain)
    assert abs(loss - expected_loss) <= REMOVE_PADDING * abs(expected_loss)
    assert relative_difference(gradients, expected) <= REMOVE_PADDING


def extras_of(kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    shape = inputs["completion_mask"].shape
    torch.manual_seed(0)
    if kind == "tool tokens":
        tool_mask = (torch.rand(shape) > 0.3).long()
        return {"tool_mask": tool_mask, "num_items_in_batch": (tool_mask * inputs["completion_mask"]).sum()}
    return {
        "none": {},
        "dropped": {"completion_mask": inputs["completion_mask"] * torch.tensor([[1], [0]] * (shape[0] // 2))},
        "ratio per token": {"importance_sampling_ratio": torch.rand(shape)},
        "ratio per row": {"importance_sampling_ratio": torch.rand(shape[0], 1)},
        "advantage per token": {"advantages": torch.randn(shape)},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["none", "dropped", "tool tokens", "ratio per token", "ratio per row", "advantage per token"]
)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_trimming(model_path: str, tmp_path: Path, loss_type: str, kind: str) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1, off_policy_mask_threshold=0.1)
    trainer.use_vllm = "ratio" in kind
    inputs = batch_of(trainer)
    inputs.update(extras_of(kind, inputs))
    plain = micro_batches(inputs, 4)
    trimmed = [real_tokens(batch) for batch in plain]
    assert_same(trainer, trimmed, plain)
    assert all(batch["completion_mask"].any(dim=0)[-1] for batch in trimmed)
    assert all(batch["prompt_mask"].any(dim=0)[0] for batch in trimmed)
    assert sum(batch["completion_ids"].numel() for batch in trimmed) < inputs["completion_ids"].numel()


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("kind", ["none", "dropped", "tool tokens"])
def test_grouping(model_path: str, tmp_path: Path, loss_type: str, kind: str) -> None:
    trainer = make_trainer(model_path, tmp_path, loss_type=loss_type, beta=0.1)
    inputs = batch_of(trainer)
    inputs.update(extras_of(kind, inputs))
    plain = micro_batches(inputs, 2)
    slots = {}
    for equal_rows in (False, True):
        grouped = [real_tokens(batch) for batch in group_by_length(plain, 4, equal_rows)]
        assert len(grouped) == len(plain)
        assert_same(trainer, grouped, plain)
        slots[equal_rows] = [batch["completion_ids"].numel() + batch["prompt_ids"].numel() for batch in grouped]
    assert slots[True] == sorted(slots[True], reverse=True)
    assert sum(slots[False]) < sum(slots[True])
    assert max(slots[False]) <= max(slots[True])


def test_grouping_keeps_the_members_of_each_update(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    inputs = batch_of(trainer, advantages=torch.arange(8.0))
    for equal_rows, longest in ((True, [3, 0]), (False, [3])):
        grouped = group_by_length(micro_batches(inputs, 2), 2, equal_rows)
        members = [batch["advantages"].tolist() for batch in grouped]
        assert sorted(members[0] + members[1]) == [0, 1, 2, 3]
        assert sorted(members[2] + members[3]) == [4, 5, 6, 7]
        assert members[0] == longest  # of the first update


def test_nothing_left_is_a_stand_in_of_two_tokens(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    inputs = batch_of(trainer)
    inputs["completion_mask"] = torch.zeros_like(inputs["completion_mask"])
    stand_in = real_tokens(inputs)
    assert stand_in["prompt_ids"].shape == stand_in["completion_ids"].shape == (1, 1)
    loss, gradients = loss_and_gradients(trainer, stand_in)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients.values())
    assert all(p.grad is not None for p in trainer.model.parameters())  # the backward pass ran through everything


@pytest.mark.parametrize("multiple", [None, 4, 64])
def test_widths_are_rounded_up(model_path: str, tmp_path: Path, multiple: int | None) -> None:
    inputs = batch_of(make_trainer(model_path, tmp_path))
    trimmed = real_tokens(rows_of(inputs, [0, 1]), multiple=multiple)
    widths = (trimmed["prompt_ids"].size(1), trimmed["completion_ids"].size(1))
    assert widths == {None: (6, 9), 4: (6, 12), 64: (6, 30)}[multiple]


def passes(trainer: Any) -> list[torch.Size]:
    """Shapes of the forward passes of a whole run, both models, generation left out."""
    shapes: list[torch.Size] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["use_cache"] is False:
            shapes.append(kwargs["input_ids"].shape)

    for model in (trainer.model, trainer.ref_model):
        model.model.register_forward_pre_hook(record, with_kwargs=True)
    trainer.train()
    return shapes


@pytest.mark.parametrize("steps_per_generation", [2, 4, 3])
def test_a_run_forwards_fewer_tokens_in_as_many_passes(
    model_path: str, tmp_path: Path, steps_per_generation: int
) -> None:
    config = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": steps_per_generation,
        "mask_zero_std_groups": False,
        "num_iterations": 2,
        "max_steps": 3,
        "max_completion_length": 40,
        "optim": "sgd",
    }
    shapes, losses = {}, {}
    for remove_padding in (True, False):
        trainer = make_trainer(model_path, tmp_path, remove_padding=remove_padding, **config)
        shapes[remove_padding] = passes(trainer)
        losses[remove_padding] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(shapes[True]) == len(shapes[False])
    tokens = {key: sum(shape.numel() for shape in value) for key, value in shapes.items()}
    assert tokens[True] < tokens[False]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4, abs=1e-5)


def test_absolute_positions_are_refused(tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=SIZES["vocab_size"],
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        pad_token_id=TOKENIZER.pad_token_id,
        bos_token_id=None,
        eos_token_id=TOKENIZER.eos_token_id,
    )
    path = str(tmp_path / "gpt2")
    GPT2LMHeadModel(config).save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    assert AutoModelForCausalLM.from_pretrained(path).config.model_type == "gpt2"
    with pytest.raises(ValueError, match=r"padding on the left changes .*'gpt2' by .* nats.*remove_padding=False"):
        make_trainer(path, tmp_path)
    make_trainer(path, tmp_path, remove_padding=False).train()


def test_models_with_images_keep_their_layout(model_path: str, tmp_path: Path) -> None:
    """With and without images in the batch: a rank without them must run as many passes as the others."""
    trainer = make_trainer(model_path, tmp_path)
    trainer.model.eval()
    inputs = batch_of(trainer)
    trainer._generate_and_score_completions = lambda _: inputs
    assert trainer._prepare_inputs([]) is not inputs
    trainer._is_vlm = True
    assert trainer._prepare_inputs([]) is inputs


def test_mixture_of_experts_keeps_every_row_and_micro_batch(moe_path: str, tmp_path: Path) -> None:
    """The load-balancing loss sees prompts of dropped rows too, and is not a sum over rows."""
    trainer = make_trainer(moe_path, tmp_path, router_aux_loss_coef=0.1, beta=0.1)
    inputs = batch_of(trainer)
    inputs.update(extras_of("dropped", inputs))
    plain = micro_batches(inputs, 4)
    assert_same(trainer, [trainer._lay_out([batch])[0] for batch in plain], plain)
    assert not loss_mask(plain[0]).any(dim=1).all()


def test_completions_that_count_are_spread_over_all_micro_batches(model_path: str, tmp_path: Path) -> None:
    inputs = batch_of(make_trainer(model_path, tmp_path), advantages=torch.arange(8.0))
    inputs["completion_mask"][[0, 2, 5, 6]] = 0
    grouped = group_by_length(micro_batches(inputs, 4), per_update=2)
    assert [batch["advantages"].tolist() for batch in grouped] == [[3], [1, 7, 4, 0, 2, 5, 6]]
    inputs["completion_mask"][[3, 4, 7]] = 0  # fewer than micro-batches
    grouped = group_by_length(micro_batches(inputs, 2), per_update=4)
    assert [loss_mask(batch).any(dim=1).tolist() for batch in grouped] == [[True], [False], [False], [False] * 5]


@pytest.mark.parametrize("seed", range(40))
def test_split_with_the_least_padding(seed: int) -> None:
    """Against all splits."""
    draw = random.Random(seed)
    parts, rows = draw.randint(1, 5), draw.randint(1, 3)
    lengths = sorted((draw.randint(1, 30) for _ in range(draw.randint(1, parts * rows))), reverse=True)

    def slots(sizes: list[int]) -> list[int]:
        ends = list(accumulate(sizes))
        return [size * lengths[end - size] for size, end in zip(sizes, ends, strict=True)]

    sizes = _least_padded(torch.tensor(lengths, dtype=torch.long), parts, rows)
    assert len(sizes) == min(parts, len(lengths))
    assert sum(sizes) == len(lengths)
    everyone = [
        slots([b - a for a, b in pairwise([0, *cuts, len(lengths)])])
        for cuts in combinations(range(1, len(lengths)), len(sizes) - 1)
    ]
    assert sum(slots(sizes)) == min(sum(split) for split in everyone if max(split) <= rows * lengths[0])
    assert max(slots(sizes)) <= rows * lengths[0]


def test_micro_batches_in_which_nothing_counts_need_no_pass(
    model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four prompts have equal rewards: the same weights, bit for bit, with half of the passes."""
    config = {
        **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "steps_per_generation": 16},
        **{"num_iterations": 2, "max_steps": 5, "beta": 0.1, "beta_reasoning": 0.05},
    }

    def even_prompts_differ(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
        return [
            len(text) % 5 if PROMPTS.index(prompt) % 2 else 1.0
            for prompt, text in zip(prompts, completions, strict=True)
        ]

    runs = {}
    for skips in (True, False):
        with monkeypatch.context() as patched:
            if not skips:
                patched.setattr(ArcherGRPOTrainer, "_needs_no_pass", lambda *_: False)
            trainer = make_trainer(model_path, tmp_path, reward_funcs=even_prompts_differ, **config)
            runs[skips] = (passes(trainer), trainer)
    (few, one), (many, other) = runs[True], runs[False]
    assert one.state.log_history[0]["archer/dropped_groups"] == 2
    assert few == [shape for shape in many if shape != (1, 2)]
    assert len(few) == len(many) / 2
    for left, right in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(left, right)
    entropies = [[entry.get("entropy") for entry in run.state.log_history] for run in (one, other)]
    assert entropies[0] == entropies[1]
