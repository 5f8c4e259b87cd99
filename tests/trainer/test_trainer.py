"""The trainer as a user meets it: what it refuses, what it warns of, PEFT, images, evaluation, model card."""

import copy
import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.grpo import preflight

from ..helpers.tiny import PROMPTS, SIZES, TOKENIZER, length_reward, loss_and_gradients, make_inputs, make_trainer

LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def test_dataset_without_prompts_is_refused(model_path: str, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"question": PROMPTS, "answer": PROMPTS})
    message = "train_dataset has no column 'prompt', which the trainer needs. Its columns: 'question', 'answer'"
    with pytest.raises(ValueError, match=message):
        make_trainer(model_path, tmp_path, dataset=rows)


def test_streams_and_dictionaries_of_data_are_checked() -> None:
    stream = IterableDataset.from_generator(lambda: iter([{"question": "2 + 2"}]))
    message = "train_dataset has no column 'prompt', which the trainer needs. Its columns: 'question'"
    with pytest.raises(ValueError, match=message):
        preflight.check_dataset("train_dataset", stream)
    good = Dataset.from_dict({"prompt": PROMPTS})
    bad = Dataset.from_dict({"text": PROMPTS})
    with pytest.raises(ValueError, match=r"eval_dataset\['hard'\] has no column 'prompt'"):
        preflight.check_dataset("eval_dataset", {"easy": good, "hard": bad})
    for sound in (None, good, IterableDataset.from_generator(lambda: iter([{"prompt": "2 + 2"}]))):
        preflight.check_dataset("train_dataset", sound)


def test_column_that_a_reward_needs_is_missed_before_a_rollout(model_path: str, tmp_path: Path) -> None:
    def exact(completions: list[str], solution: list[str], weight: float = 1.0, **kwargs: Any) -> list[float]:
        return [weight * (c == s) for c, s in zip(completions, solution, strict=True)]

    rows = Dataset.from_dict({"prompt": PROMPTS, "answer": PROMPTS})
    message = r"train_dataset has no column 'solution', which the reward 'exact' needs\. Its columns: 'prompt', 'a"
    for rewards in (exact, [length_reward, exact]):
        with pytest.raises(ValueError, match=message):
            make_trainer(model_path, tmp_path, reward_funcs=rewards, dataset=rows)
    make_trainer(model_path, tmp_path, reward_funcs=exact, dataset=rows.rename_column("answer", "solution"))


def test_rows_without_a_prompt_are_refused(model_path: str, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"prompt": [*PROMPTS, None, None]})
    with pytest.raises(ValueError, match=rf"train_dataset has no prompt in 2 of {len(rows)} rows"):
        make_trainer(model_path, tmp_path, dataset=rows)
    make_trainer(model_path, tmp_path, dataset=rows.filter(lambda row: row["prompt"] is not None))


def test_data_that_would_train_nothing_are_refused(model_path: str, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"prompt": PROMPTS[:3]})
    with pytest.raises(ValueError, match=r"has 3 prompts, but one rollout takes 4 \(generation_batch_size=16 / "):
        make_trainer(model_path, tmp_path, dataset=rows, steps_per_generation=2)
    enough = Dataset.from_dict({"prompt": PROMPTS[:4]})
    for options in ({"dataset": rows}, {"dataset": enough, "steps_per_generation": 2}):
        trainer = make_trainer(model_path, tmp_path, max_steps=1, **options)
        trainer.train()
        assert trainer.state.global_step == 1


def test_prompts_made_by_a_transform_are_accepted(model_path: str, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"question": PROMPTS})
    rows.set_transform(lambda batch: {"prompt": batch["question"]})
    make_trainer(model_path, tmp_path, dataset=rows, max_steps=1).train()
    rows.set_transform(lambda batch: {"text": batch["question"]})
    with pytest.raises(ValueError, match=r"train_dataset has no column 'prompt'.*'text'"):
        make_trainer(model_path, tmp_path, dataset=rows)


def test_rewards_that_do_not_accept_what_trl_passes_are_refused(model_path: str, tmp_path: Path) -> None:
    def narrow(prompts: list[str], completions: list[str]) -> list[float]:
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match=r"The reward 'narrow' does not accept completion_ids, .*Add `\*\*kwargs`"):
        make_trainer(model_path, tmp_path, reward_funcs=narrow)


def changed(args: Any, **values: Any) -> Any:
    args = copy.copy(args)
    for name, value in values.items():
        setattr(args, name, value)
    return args


def test_columns_of_unused_data_are_not_needed(model_path: str, tmp_path: Path) -> None:
    def exact(completions: list[str], solution: list[str], **kwargs: Any) -> list[float]:
        return [float(c == s) for c, s in zip(completions, solution, strict=True)]

    args = make_trainer(model_path, tmp_path).args
    train = Dataset.from_dict({"prompt": PROMPTS, "solution": PROMPTS})
    bare = Dataset.from_dict({"prompt": PROMPTS})
    preflight.check_data(train, bare, [exact], args)
    with pytest.raises(ValueError, match="eval_dataset has no column 'solution'"):
        preflight.check_data(train, bare, [exact], changed(args, eval_strategy="epoch"))
    with pytest.raises(
        ValueError, match=r"remove_unused_columns=True removes the columns 'solution', which the reward"
    ):
        preflight.check_data(train, None, [exact], changed(args, remove_unused_columns=True))


def test_prompts_without_tokens_or_beyond_the_positions_are_refused(model_path: str, tmp_path: Path) -> None:
    positions = SIZES["max_position_embeddings"]
    empty = Dataset.from_dict({"prompt": [*PROMPTS, "", ""]})
    with pytest.raises(ValueError, match=r"train_dataset has prompts without a token in 2 of 10 rows: 8, 9\."):
        make_trainer(model_path, tmp_path, dataset=empty)
    long = Dataset.from_dict({"prompt": [*PROMPTS, "1 " * positions]})
    with pytest.raises(ValueError, match=rf"of at least {positions} tokens, .* in 1 of 9 rows: 8\."):
        make_trainer(model_path, tmp_path, dataset=long)


def test_rename_suggests_a_column_that_looks_like_it() -> None:
    rows = Dataset.from_dict({"prompt": PROMPTS, "data_source": PROMPTS, "ground_truth": PROMPTS})
    with pytest.raises(ValueError, match=r"`dataset.rename_column\('ground_truth', 'solution'\)`"):
        preflight.check_dataset("train_dataset", rows, {"solution": "the reward"})


def test_plain_grpo_config_is_refused(model_path: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="args is of type GRPOConfig; ArcherGRPOTrainer needs ArcherGRPOConfig"):
        make_trainer(model_path, tmp_path, config_class=GRPOConfig)


def test_model_without_trainable_parameters_is_refused(model_path: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).requires_grad_(False)
    args = make_trainer(model_path, tmp_path).args
    with pytest.raises(ValueError, match=r"None of the model's [\d,]+ parameters requires a gradient.*peft_config"):
        ArcherGRPOTrainer(
            model, length_reward, args, Dataset.from_dict({"prompt": PROMPTS}), processing_class=TOKENIZER
        )


def test_unsloth_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = type("UnslothGRPOTrainer", (GRPOTrainer,), {"__module__": "unsloth_compiled_cache.UnslothGRPOTrainer"})
    subclass = type("Mine", (patched,), {})
    with pytest.raises(RuntimeError, match="Unsloth has replaced TRL's GRPOTrainer"):
        preflight.refuse_unsloth(subclass)
    preflight.refuse_unsloth(ArcherGRPOTrainer)
    monkeypatch.setattr("trl.GRPOTrainer", patched)
    with pytest.raises(RuntimeError, match="import unsloth"):
        ArcherGRPOTrainer("never loaded", length_reward)


def test_outputs_are_refused(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    with pytest.raises(ValueError, match="return_outputs"):
        trainer.compute_loss(trainer.model, make_inputs(trainer), return_outputs=True)


@pytest.mark.parametrize(
    ("config", "warnings"),
    [({}, 1), ({"num_iterations": 2}, 0), ({"steps_per_generation": 2, "gradient_accumulation_steps": 1}, 0)],
)
def test_one_warning_when_no_clip_range_can_act(
    model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, config: dict[str, Any], warnings: int
) -> None:
    with caplog.at_level(logging.WARNING, logger="trl_archer.trainer"):
        trainer = make_trainer(model_path, tmp_path, per_device_train_batch_size=4, **config)
        trainer.train()
    said = [record.getMessage() for record in caplog.records if "strictly on-policy" in record.getMessage()]
    assert len(said) == warnings
    assert all("`num_iterations`" in text and "`steps_per_generation`" in text for text in said)
    ratios = [entry["clip_ratio/region_mean"] for entry in trainer.state.log_history if "loss" in entry]
    assert ratios
    if warnings:
        assert ratios == [0.0] * len(ratios)


def test_default_arguments(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    on_cpu = partial(ArcherGRPOConfig, use_cpu=True, bf16=False, report_to=[])
    monkeypatch.setattr(ArcherGRPOTrainer, "config_class", on_cpu)
    trainer = ArcherGRPOTrainer(
        model_path, length_reward, train_dataset=Dataset.from_dict({"prompt": PROMPTS}), processing_class=TOKENIZER
    )
    assert trainer.args.output_dir == f"{Path(model_path).name}-Archer"
    assert trainer.args.epsilon_reasoning == 0.5
    assert trainer.ref_model is not None


def test_lora_trains_the_adapter_against_the_base_model(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(
        model_path,
        tmp_path,
        trainer_kwargs={"peft_config": LORA},
        learning_rate=1e-2,
        num_iterations=3,
        max_steps=6,
        beta=0.1,
    )
    assert trainer.ref_model is None
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, p in trainer.model.named_parameters() if not torch.equal(before[name], p)}
    assert changed
    assert all("lora_" in name for name in changed)
    divergence = [entry["kl/knowledge"] for entry in trainer.state.log_history if "loss" in entry]
    assert divergence[0] == 0.0
    assert divergence[-1] > 0.0


def test_gradient_checkpointing_gives_the_same_gradient(model_path: str, tmp_path: Path) -> None:
    plain = make_trainer(model_path, tmp_path, beta=0.1)
    checkpointed = make_trainer(model_path, tmp_path, beta=0.1, gradient_checkpointing=True)
    inputs = make_inputs(plain)
    _, expected = loss_and_gradients(plain, inputs)
    checkpointed.model.gradient_checkpointing_enable()
    _, gradients = loss_and_gradients(checkpointed, inputs)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_bf16_autocast_keeps_the_loss_in_float32(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, bf16=True, beta=0.1, num_iterations=2)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(torch.tensor(loss).isfinite() for loss in losses)
    loss, _ = loss_and_gradients(trainer, make_inputs(trainer))
    assert loss.dtype == torch.float32


def test_image_inputs_reach_the_model(model_path: str, tmp_path: Path) -> None:
    """Whatever TRL puts into a batch for a vision model is handed to its log-prob helper under the same name."""
    trainer = make_trainer(model_path, tmp_path)
    inputs = make_inputs(trainer)
    images = {"pixel_values": torch.rand(4, 3, 8, 8), "num_images": [1, 1, 1, 1], "image_grid_thw": torch.ones(4, 3)}
    seen: dict[str, Any] = {}
    helper: Callable[..., Any] = trainer._get_per_token_logps_and_entropies

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update({key: kwargs.pop(key) for key in images})
        return helper(*args, **kwargs)

    trainer._get_per_token_logps_and_entropies = spy
    trainer.compute_loss(trainer.model, {**inputs, **images})
    assert all(seen[key] is images[key] for key in images)


def test_evaluation_logs_our_metrics(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, num_iterations=2)
    metrics = trainer.evaluate()
    assert torch.tensor(metrics["eval_loss"]).isfinite()
    logged = trainer.state.log_history[-1]
    for name in ("archer/reasoning_fraction", "entropy/reasoning", "kl/knowledge", "completions/repetition"):
        assert f"eval_{name}" in logged
    assert 0.1 < logged["eval_archer/reasoning_fraction"] < 0.35


def test_model_card_cites_the_paper(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, num_iterations=2, max_steps=1, save_steps=1)
    trainer.train()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2507.15778" in card
    assert "Dual-Token Constraints" in card
    assert "archer" in card.split("---")[1]
    assert (tmp_path / "out" / "checkpoint-1" / "model.safetensors").exists()


def test_same_seed_twice_gives_identical_weights(model_path: str, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        trainer = make_trainer(model_path, tmp_path, num_iterations=2, max_steps=4, learning_rate=1e-3)
        trainer.train()
        runs.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_import_is_quick_and_leaves_torch_alone() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import trl_archer; took = time.perf_counter() - start;"
        "import trl_archer.playground, trl_archer.cli;"
        "heavy = {'torch', 'trl', 'transformers', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'ArcherGRPOTrainer' in dir(trl_archer); print(took)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.5
    with pytest.raises(AttributeError, match="no attribute 'Archer'"):
        __import__("trl_archer").Archer  # noqa: B018
