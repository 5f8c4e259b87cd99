"""What we rely on inside TRL, in one place. Runs on the lowest and the highest TRL that we declare."""

import dataclasses
import hashlib
import inspect
from pathlib import Path

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, options
from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer
from trl_archer.grpo.trainer import IMAGE_INPUTS
from trl_archer.methods import MethodConfig

from ..helpers.tiny import make_inputs, make_trainer

# Source of each method that we override or mirror. When one changes, read the difference, follow it, update the hash.
SOURCES = {
    "compute_loss": "a2d6ef8bd29c3e26",  # overridden
    "_compute_loss": "80295546bbdbf6f7",  # mirrored by compute_loss: keys, normalisers, order of the factors
    "_calculate_rewards": "736ae29b083840b5",  # extended: gathered rewards of shape (N, F)
    "_generate_and_score_completions": "1fa48922792dcd5c",  # extended: keys and masks of its output
    "_get_per_token_logps_and_entropies": "ea73c3909275851d",  # called
    "_get_train_sampler": "36497afb4d311dc9",  # extended: one permutation per epoch from the sampler's generator
    "_save_checkpoint": "ec91bde123649111",  # extended: all of a checkpoint is written inside
    "_prepare_inputs": "f824e7fb07147956",  # splits and shuffles what has a first dimension
    "get_off_policy_mask": "8ee1e196461141a7",  # called
    "log": "1e7772819cc8cf09",  # extended: averages and clears _metrics
    "prediction_step": "008b555451073a5a",  # calls compute_loss in evaluation
    "training_step": "9e18632f7dd8e8d8",  # counts the micro-batches of a generation batch in _step
}
VLLM_SOURCES = {
    (VLLMGeneration, "_iter_named_params"): "baab615d5c7bc3e1",  # replaced, for adapters
    (VLLMGeneration, "_fix_param_name_to_vllm"): "c42c3965795e12dc",  # called, for adapters
    (VLLMGeneration, "sync_weights"): "63d669fb32304ff5",  # walks _iter_named_params on all ranks
    (VLLMGeneration, "generate"): "2d2ac2be5b1309c4",  # broadcasts what the client returns, also if it is nothing
    (VLLMClient, "generate"): "63635cf59ca8bb70",  # wrapped: keys of its answer
    (VLLMClient, "update_named_params"): "6acaa216cc7e2174",  # wrapped: weights are named and gathered by the iterator
    (VLLMClient, "reset_prefix_cache"): "ac75596a9e9bf2b2",  # wrapped: follows the weights
    (VLLMClient, "close_communicator"): "70cd79521a6987bb",  # called, before a new one is made
}

# Fields that exist in only one of the supported versions of TRL and transformers
NOT_EVERYWHERE = frozenset({"activation_checkpointing", "activation_checkpointing_kwargs"})

TABLES = {
    "HONORED_BY_LOSS": set(options.HONORED_BY_LOSS),
    "HONORED_BY_TRL": set(options.HONORED_BY_TRL),
    "HONORED_BY_TRAINER": set(options.HONORED_BY_TRAINER),
    "REJECTED": set(options.REJECTED),
    "IRRELEVANT": set(options.IRRELEVANT),
}


@pytest.mark.parametrize("method", SOURCES)
def test_source_of_trl_is_the_one_we_read(method: str) -> None:
    source = inspect.getsource(getattr(GRPOTrainer, method))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == SOURCES[method]


@pytest.mark.parametrize(("owner", "method"), VLLM_SOURCES)
def test_source_of_trls_side_of_vllm_is_the_one_we_read(owner: type, method: str) -> None:
    source = inspect.getsource(getattr(owner, method))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == VLLM_SOURCES[owner, method]


def test_constructors_take_what_trl_takes() -> None:
    """The first arguments by position, all others by keyword."""
    theirs = list(inspect.signature(GRPOTrainer.__init__).parameters)
    for cls in (DurableGRPOTrainer, ArcherGRPOTrainer):
        ours = inspect.signature(cls.__init__).parameters
        by_position = [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert by_position == theirs[: len(by_position)]
        assert any(p.kind is p.VAR_KEYWORD for p in ours.values())


def test_log_prob_helper(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    names = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
    assert set(IMAGE_INPUTS) <= set(names)
    text_only = {"model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"}
    assert set(names) == {"self", *IMAGE_INPUTS, *text_only, "compute_entropy", "compute_aux_loss"}
    inputs = make_inputs(trainer)
    outputs = trainer._policy_forward(trainer.model, inputs)
    assert len(outputs) == 3
    logps, entropies, aux_loss = outputs
    assert logps.shape == entropies.shape == inputs["completion_ids"].shape
    assert logps.requires_grad
    assert aux_loss is None


def test_keys_of_a_rollout(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, num_iterations=2)
    trainer.model.train()
    rollout = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert set(rollout) == {
        *("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"),
        *("ref_per_token_logps", "num_sequences_in_batch", "rewards", "num_items_in_micro_batch"),
    }
    assert rollout["num_items_in_batch"].ndim == rollout["num_sequences_in_batch"].ndim == 0
    assert torch.equal(rollout["num_sequences_in_batch"], torch.tensor(8.0))


def test_every_inherited_field_is_in_exactly_one_table() -> None:
    inherited = {field.name for field in dataclasses.fields(GRPOConfig)}
    listed = [name for table in TABLES.values() for name in table]
    assert sorted(listed) == sorted(set(listed)), "listed twice"
    assert inherited - set(listed) == set(), "not accounted for"
    assert set(listed) - inherited <= NOT_EVERYWHERE, "no longer a field of GRPOConfig"


@pytest.mark.parametrize(
    ("config", "base", "fields"),
    [
        (
            ArcherGRPOConfig,
            MethodConfig,
            "entropy_quantile gate_width epsilon_reasoning epsilon_reasoning_high beta beta_reasoning "
            "use_bias_correction_kl mask_zero_std_groups token_records_steps",
        ),
        (
            MethodConfig,
            DurableGRPOConfig,
            "surrogate clip_range token_weights aspo_cap clip_schedule clip_slope_low clip_slope_high clip_offset_low "
            "clip_offset_high opefo_off_policy probability_alpha steer_min_weight clip_cov_ratio clip_cov_low "
            "clip_cov_high",
        ),
        (
            DurableGRPOConfig,
            GRPOConfig,
            "remove_padding max_skipped_updates max_failed_saves max_generation_retries",
        ),
    ],
)
def test_our_fields_are_documented_and_have_a_help_text(config: type, base: type, fields: str) -> None:
    ours = {field.name: field for field in dataclasses.fields(config)}
    inherited = {field.name: field for field in dataclasses.fields(base)}
    changed = {
        name for name, field in ours.items() if name not in inherited or field.default != inherited[name].default
    }
    assert changed == set(fields.split())
    for name in changed:
        assert ours[name].metadata["help"]
        assert f"{name} (`" in (config.__doc__ or "")
