"""Old and reference policies score the micro-batches that are trained on: the same weights give ratio 1 and KL 0."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from trl import GRPOConfig, GRPOTrainer

from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer
from trl_archer.grpo.dropout import active_dropout
from trl_archer.grpo.scoring import importance_sampling_ratio

from ..helpers.tiny import SIZES, TOKENIZER, make_trainer, save_model

DEEP = {**SIZES, "num_hidden_layers": 6, "intermediate_size": 48, "initializer_range": 0.1}
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16, "factor": 8.0}
ROPE: dict[str, dict[str, Any]] = {
    "longrope": {**LONG_ROPE, "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2.0, 1.5]},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16},
}
RUN: dict[str, Any] = {
    "learning_rate": 0.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "num_iterations": 3,
    "max_steps": 6,
    "max_completion_length": 40,
    "beta": 0.1,
}


def model_of(kind: str, path: Path) -> str:
    torch.manual_seed(0)
    if kind == "moe":
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
        model: Any = Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**DEEP, **experts}))
    elif kind in ROPE:
        sizes = {**DEEP, "num_hidden_layers": 2, "initializer_range": 0.3}
        model = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=dict(ROPE[kind])))
    else:
        layers = 24 if kind == "llama" else 6  # so many that rounding in 16 bits shows
        model = LlamaForCausalLM(LlamaConfig(**{**DEEP, "num_hidden_layers": layers}))
    model.save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    return str(path)


def some_groups_equal(completions: list[str], **kwargs: Any) -> list[float]:
    """Every other group has no signal."""
    return [float(index % 2) if index // 4 % 2 else 1.0 for index in range(len(completions))]


def metrics_of(path: str, tmp_path: Path, **config: Any) -> list[dict[str, float]]:
    trainer = make_trainer(path, tmp_path, reward_funcs=some_groups_equal, **{**RUN, **config})
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


SLOW = pytest.mark.slow


@pytest.mark.training
@pytest.mark.parametrize("remove_padding", [True, False], ids=["trimmed", "TRL's layout"])
@pytest.mark.parametrize("kind", ["llama", "moe", "longrope", "dynamic", "lora"])
@pytest.mark.parametrize("dtype", ["bf16", pytest.param("fp16", marks=SLOW), pytest.param("float32", marks=SLOW)])
def test_unchanged_weights_have_ratio_1_and_kl_0(tmp_path: Path, dtype: str, kind: str, remove_padding: bool) -> None:
    """In every update, with half of the groups dropped."""
    path = model_of(kind, tmp_path / "model")
    config: dict[str, Any] = {"bf16": dtype == "bf16", "fp16": dtype == "fp16", "remove_padding": remove_padding}
    if kind == "lora":
        config["trainer_kwargs"] = {"peft_config": LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")}
    entries = metrics_of(path, tmp_path, **config)
    assert len(entries) == 6
    for entry in entries:
        assert entry["kl"] == 0.0
        assert entry["clip_ratio/region_mean"] == 0.0
        assert entry["log_ratio/max"] == 0.0


@pytest.mark.parametrize("remove_padding", [True, False], ids=["trimmed", "TRL's layout"])
def test_first_step_of_a_rollout_takes_no_pass_of_the_old_policy(
    model_path: str, tmp_path: Path, remove_padding: bool
) -> None:
    """4 micro-batches, 2 of them in the first step: 2 passes of the old policy, 4 of the reference."""
    trainer = make_trainer(model_path, tmp_path, remove_padding=remove_padding, **{**RUN, "learning_rate": 0.1})
    passes = []

    def count(model: Any) -> None:
        record = lambda *_: passes.append((model is trainer.ref_model, torch.is_grad_enabled()))  # noqa: E731
        model.model.register_forward_pre_hook(record)

    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    generated = trainer._generate_and_score_completions(batch)
    trainer._generate_and_score_completions = lambda _: generated
    count(trainer.model)
    count(trainer.ref_model)
    trainer._prepare_inputs(batch)
    assert passes == [(False, False)] * 2 + [(True, False)] * 4
    present = ["old_per_token_logps" in batch for batch in trainer._buffered_inputs]
    assert present == [False, False, True, True]


def test_later_passes_use_the_first_one(model_path: str, tmp_path: Path) -> None:
    """The first step's log-probabilities are those of the policy that sampled, not of a later one."""
    trainer = make_trainer(model_path, tmp_path, **{**RUN, "learning_rate": 0.1, "max_steps": 3})
    old: list[list[torch.Tensor]] = []
    step = trainer.training_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        loss = step(*args, **kwargs)
        old.append([b["old_per_token_logps"].clone() for b in trainer._buffered_inputs if "old_per_token_logps" in b])
        return loss

    trainer.training_step = watched
    trainer.train()
    assert [len(found) for found in old] == [3, 4, 4, 4, 4, 4]
    assert all(torch.equal(x, y) for x, y in zip(old[1], old[-1], strict=True))


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
@pytest.mark.parametrize(("low", "high"), [(None, 1.2), (0.8, None), (0.8, 1.2)])
def test_importance_ratio_is_trls(
    model_path: str, tmp_path: Path, mode: str, low: float | None, high: float | None
) -> None:
    """Of a rollout whose sampler disagrees, with a token that vLLM could not score. Metrics are compared, too."""
    results = []
    for trainer_class, config_class in ((DurableGRPOTrainer, DurableGRPOConfig), (GRPOTrainer, GRPOConfig)):
        trainer = make_trainer(
            model_path,
            tmp_path,
            trainer_class=trainer_class,
            config_class=config_class,
            vllm_importance_sampling_mode=mode,
            vllm_importance_sampling_clip_min=low,
            vllm_importance_sampling_clip_max=high,
            num_iterations=2,
            seed=3,
        )
        trainer.use_vllm = True
        trainer._generate_single_turn = sampler_of(trainer)
        trainer.model.train()
        torch.manual_seed(0)
        inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        order = inputs["advantages"].argsort()
        width = inputs["importance_sampling_ratio"].size(1)
        mask = inputs["completion_mask"][order].bool() if width > 1 else torch.ones(8, 1, dtype=torch.bool)
        metrics = {k: v for k, v in trainer._metrics["train"].items() if k.startswith("sampling/")}
        results.append((inputs["importance_sampling_ratio"][order][mask], metrics))
    (ours, our_metrics), (theirs, their_metrics) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (theirs != 1).any()
    assert our_metrics.keys() == their_metrics.keys()
    for name, (value,) in their_metrics.items():
        assert our_metrics[name] == [pytest.approx(value, rel=1e-4, abs=1e-5)], name


def sampler_of(trainer: Any) -> Any:
    """Completions of unequal length, and log-probabilities near the policy's, as vLLM returns them."""

    def generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(5)
        lengths = torch.arange(3, 3 + len(prompt_ids))
        completions = [torch.randint(3, len(TOKENIZER), (int(n),), generator=generator).tolist() for n in lengths]
        logprobs: list[list[float | None]] = []
        for prompt, completion in zip(prompt_ids, completions, strict=True):
            ids = torch.tensor([prompt + completion])
            with torch.no_grad():
                scores, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
                    trainer, trainer.model, ids, torch.ones_like(ids), len(completion)
                )
            noise = 0.3 * torch.randn(scores.shape, generator=generator)
            logprobs.append((scores + noise)[0].tolist())
        logprobs[0][1] = None
        return completions, logprobs

    return generate


def test_masked_slots_have_ratio_1(model_path: str, tmp_path: Path) -> None:
    args = make_trainer(model_path, tmp_path, vllm_importance_sampling_mode="token_truncate").args
    old, sampling = torch.zeros(1, 3), torch.tensor([[0.5, math.nan, 9.0]])
    ratio = importance_sampling_ratio(old, sampling, torch.tensor([[1, 1, 0]]), args)
    assert ratio.tolist() == [[pytest.approx(math.exp(-0.5)), 1.0, 1.0]]


# Reference


def test_reference_is_a_copy_of_the_model_in_memory(model_path: str, tmp_path: Path) -> None:
    """Its weights and vocabulary have changed since it was loaded."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    model.resize_token_embeddings(len(TOKENIZER) + 3)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight += 0.5
    trainer = make_trainer(model_path, tmp_path, model=model, beta=0.1, max_steps=1, learning_rate=0.1)
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == 0.0
    assert not any(p.requires_grad for p in trainer.ref_model.parameters())
    assert not trainer.ref_model.training


def test_model_without_a_name_trains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48))
    trainer = make_trainer("", tmp_path, model=model, beta=0.1, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == 0.0


def test_another_reference_is_refused(model_path: str, tmp_path: Path) -> None:
    """PiSSA moves part of the base weights into the adapter, so the base model is not the start."""
    config = LoraConfig(r=4, init_lora_weights="pissa", target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_trainer(model_path, tmp_path, trainer_kwargs={"peft_config": config}, beta=0.1)
    with pytest.raises(ValueError, match=r"beta=0\.1: before the first update, the reference.*PiSSA.*beta=0\.0"):
        trainer.train()


# Dropout


def test_functional_dropout_is_turned_off(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    }
    torch.manual_seed(0)
    config = OPTConfig(**sizes, vocab_size=len(TOKENIZER), max_position_embeddings=128, dropout=0.1, layerdrop=0.1)
    model = OPTForCausalLM(config)
    assert active_dropout(model)
    trainer = make_trainer(
        "", tmp_path, model=model, beta=0.1, disable_dropout=True, learning_rate=0.0, num_iterations=2, max_steps=2
    )
    assert active_dropout(trainer.model) is None
    trainer.train()
    for entry in trainer.state.log_history[:2]:
        assert entry["kl"] == entry["clip_ratio/region_mean"] == 0.0


def test_active_dropout_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_model(tmp_path / "model", attention_dropout=0.1)
    make_trainer(path, tmp_path, beta=0.1, max_steps=1).train()
    assert "Dropout is active (attention_dropout=0.1 in Llama" in caplog.text
    assert "disable_dropout=True" in caplog.text
