"""Adapters: what their reference is, what is trained and saved, gradient checkpointing, what vLLM is sent, MoE."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, set_seed
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import add_fused_lm_head

from trl_archer.grpo import adapters, preflight

from ..helpers.tiny import (
    loss_and_gradients,
    make_inputs,
    make_trainer,
    relative_difference,
    rows_of,
    save_model,
    scored_rollout,
)
from ..helpers.tolerances import SAME_AS_TRL
from ..trainer.test_equals_grpo import assert_same, pair

ATTENTION = ["q_proj", "v_proj"]


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": ATTENTION, "task_type": "CAUSAL_LM", **changes})


@pytest.fixture(scope="module")
def tied_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("tied"), tie_word_embeddings=True)


@pytest.fixture
def start_path(model_path: str, tmp_path: Path) -> str:
    """An adapter with an output layer of its own, both far from the base model, as an earlier training leaves it."""
    torch.manual_seed(1)
    model = get_peft_model(load(model_path), lora(init_lora_weights=False, modules_to_save=["lm_head"]))
    head = model.get_output_embeddings().weight
    head.data += 0.1 * torch.randn_like(head)
    model.save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def load(path: str, adapter: str | None = None, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model if adapter is None else PeftModel.from_pretrained(model, adapter, **options)


def logps_of(trainer: Any, model: Any, rollout: dict[str, Any]) -> Tensor:
    """Log-probabilities of a model that the trainer has not seen, by the trainer's own pass."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    add_fused_lm_head(base, temperature=trainer.temperature, outputs=("log_probs", "entropy"))
    ids, mask = (torch.cat([rollout[f"prompt_{x}"], rollout[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            model, ids, mask, rollout["completion_ids"].size(1), trainer.args.per_device_train_batch_size
        )
    return logps


def train_some(trainer: Any) -> dict[str, Tensor]:
    """Trains; returns the weights of before."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    return before


LONG_WAY = {"learning_rate": 0.05, "num_iterations": 2, "max_steps": 4, "beta": 0.1, "mask_zero_std_groups": False}
NEW_ADAPTERS = {
    "attention": {},
    "all linear": {"target_modules": "all-linear"},
    "dora": {"use_dora": True},
    "own head": {"modules_to_save": ["lm_head"]},
    "own embeddings": {"modules_to_save": ["embed_tokens"]},
}


@pytest.mark.training
@pytest.mark.parametrize(
    ("kind", "tied"), [*((kind, tied) for kind in NEW_ADAPTERS for tied in (False, True)), ("both as one", True)]
)
def test_reference_of_a_new_adapter_is_the_base_model(
    model_path: str, tied_path: str, tmp_path: Path, kind: str, tied: bool
) -> None:
    path = tied_path if tied else model_path
    as_one = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    trainer = make_trainer(
        path, tmp_path, trainer_kwargs={"peft_config": lora(**NEW_ADAPTERS.get(kind, as_one))}, **LONG_WAY
    )
    before = train_some(trainer)
    for name, parameter in trainer.model.named_parameters():
        trained = "lora_" in name or "modules_to_save" in name
        assert torch.equal(parameter, before[name]) != trained, name
    rollout = scored_rollout(trainer)
    reference = logps_of(trainer, load(path), rollout)
    assert torch.equal(rollout["ref_per_token_logps"], reference)
    policy = logps_of(trainer, trainer.model, rollout)
    assert (policy - reference).abs().max() > 0.05


def test_kl_metric_is_that_to_the_base_model(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, trainer_kwargs={"peft_config": lora()}, **LONG_WAY)
    train_some(trainer)
    rollout = scored_rollout(trainer)
    trainer._metrics["train"].clear()
    loss_and_gradients(trainer, rollout)
    logs: dict[str, float] = {}
    trainer.log(logs)
    base, model = load(model_path), trainer.model
    difference = (logps_of(trainer, base, rollout) - logps_of(trainer, model, rollout)).double()
    kl = (difference.exp() - difference - 1)[rollout["completion_mask"].bool()]
    assert logs["kl"] == pytest.approx(kl.mean().item(), rel=1e-5)
    assert kl.mean() > 1e-3


def test_reference_of_an_adapter_trained_further_is_its_start(model_path: str, start_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, model=load(model_path, start_path, is_trainable=True), **LONG_WAY)
    assert list(trainer.model.peft_config) == ["default", "ref"]
    before = train_some(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad == (".default." in name), name
        assert torch.equal(parameter, before[name]) != (".default." in name), name
    kl = [entry["kl"] for entry in trainer.state.log_history if "loss" in entry]
    assert kl[0] == 0.0
    rollout = scored_rollout(trainer)
    start = logps_of(trainer, load(model_path, start_path), rollout)
    assert torch.equal(rollout["ref_per_token_logps"], start)
    for other in (load(model_path), trainer.model):
        assert (logps_of(trainer, other, rollout) - start).abs().max() > 0.05


def test_adapter_trained_further_without_kl_has_no_reference(model_path: str, start_path: str, tmp_path: Path) -> None:
    model = load(model_path, start_path, is_trainable=True)
    trainer = make_trainer(model_path, tmp_path, model=model, **{**LONG_WAY, "beta": 0.0})
    train_some(trainer)
    assert list(trainer.model.peft_config) == ["default"]
    assert "ref_per_token_logps" not in scored_rollout(trainer)


def test_resumed_run_keeps_the_start_as_its_reference(model_path: str, start_path: str, tmp_path: Path) -> None:
    def trainer(name: str) -> Any:
        model = load(model_path, start_path, is_trainable=True)
        return make_trainer(model_path, tmp_path / name, model=model, save_steps=2, **LONG_WAY)

    whole = trainer("whole")
    set_seed(0)
    whole.train()
    resumed = trainer("resumed")
    with torch.no_grad():
        for parameter in resumed.model.parameters():  # all of it has to come from the checkpoint
            if parameter.requires_grad:
                parameter.zero_()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "out" / "checkpoint-2"))
    expected = whole.model.state_dict()
    for name, weight in resumed.model.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    rollout = scored_rollout(resumed)
    assert torch.equal(rollout["ref_per_token_logps"], logps_of(resumed, load(model_path, start_path), rollout))


@pytest.mark.training
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["attention", "own head", "own embeddings"])
def test_saved_adapter_is_the_trained_one(
    model_path: str, tied_path: str, tmp_path: Path, kind: str, tied: bool
) -> None:
    path = tied_path if tied else model_path
    trainer = make_trainer(path, tmp_path, trainer_kwargs={"peft_config": lora(**NEW_ADAPTERS[kind])}, **LONG_WAY)
    train_some(trainer)
    trainer.save_model(str(tmp_path / "saved"))
    rollout = scored_rollout(trainer)
    saved = logps_of(trainer, load(path, str(tmp_path / "saved")), rollout)
    assert torch.equal(saved, logps_of(trainer, trainer.model, rollout))


def test_adapter_under_another_name_is_refused(model_path: str, start_path: str, tmp_path: Path) -> None:
    model = load(model_path, start_path, adapter_name="mine", is_trainable=True)
    with pytest.raises(ValueError, match=r"beta=0\.001 with adapters called 'mine'.*without adapter_name"):
        make_trainer(model_path, tmp_path, model=model)
    make_trainer(model_path, tmp_path, model=model, beta=0.0, max_steps=1).train()


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_adapter_loaded_for_inference_is_refused(model_path: str, start_path: str, tmp_path: Path, beta: float) -> None:
    with pytest.raises(ValueError, match="load the adapter with `is_trainable=True`"):
        make_trainer(model_path, tmp_path, model=load(model_path, start_path), beta=beta)


# Gradient checkpointing, which TRL switches on by default


def count_passes(trainer: Any) -> list[None]:
    """Grows by one with each pass through the first layer."""
    passes: list[None] = []
    layer = trainer.model.get_base_model().model.layers[0]
    layer.mlp.register_forward_pre_hook(lambda *_: passes.append(None))
    return passes


@pytest.mark.training
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_trains_the_same_adapter(model_path: str, tmp_path: Path, use_reentrant: bool) -> None:
    runs = []
    options = {"optim": "sgd", "learning_rate": 0.5, "num_iterations": 2, "max_steps": 3, "beta": 0.1}
    for checkpointing in (False, True):
        trainer = make_trainer(
            model_path,
            tmp_path,
            trainer_kwargs={"peft_config": lora(target_modules="all-linear")},
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
            **options,
        )
        passes = count_passes(trainer)
        set_seed(0)
        before = train_some(trainer)
        after = {name: p.detach() for name, p in trainer.model.named_parameters()}
        losses = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        runs.append((before, after, losses, len(passes)))
    (before, plain, losses, once), (_, checkpointed, same_losses, twice) = runs
    assert twice == once + 3  # a second pass in each of the three backward passes
    assert losses == same_losses
    moved = max((plain[name] - before[name]).abs().max().item() for name in plain)
    assert moved > 1e-3
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


# What vLLM is sent


def engine(model: Any, trainer: Any) -> Any:
    """TRL's vLLM side without an engine behind it."""
    generation = VLLMGeneration.__new__(VLLMGeneration)
    generation.model, generation._dist = model, DistributedBackend(trainer.accelerator)
    return generation


def drift(model: Any, base: dict[str, Tensor]) -> float:
    return max((p - base[name]).abs().max().item() for name, p in model.named_parameters() if name in base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["all linear", "dora", "own head"])
def test_vllm_gets_what_trl_would_send(model_path: str, tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = lora(**{"target_modules": "all-linear", **NEW_ADAPTERS[kind]}, init_lora_weights=False)
    model = get_peft_model(load(model_path, dtype=dtype), config)
    generation = engine(model, make_trainer(model_path, tmp_path))
    adapters.sync_without_drift(generation)
    ours = list(generation._iter_named_params())
    theirs = {name: weight.clone() for name, weight in VLLMGeneration._iter_named_params(generation)}
    assert [name for name, _ in ours] == list(theirs)
    assert theirs.keys() == dict(load(model_path).named_parameters()).keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours)


def test_many_syncs_leave_the_reference_alone(model_path: str, tmp_path: Path) -> None:
    def moving_adapter() -> Iterator[tuple[Any, Any, dict[str, Tensor]]]:
        torch.manual_seed(0)
        model = get_peft_model(load(model_path, dtype=torch.bfloat16), lora(target_modules="all-linear"))
        generation = engine(model, trainer)
        base = {name: p.clone() for name, p in model.named_parameters() if "base_layer" in name}
        for _ in range(20):
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data += 1e-3 * torch.randn_like(parameter)
            yield generation, model, base

    trainer = make_trainer(model_path, tmp_path)
    for generation, model, base in moving_adapter():
        adapters.sync_without_drift(generation)
        for _ in generation._iter_named_params():
            assert drift(model, base) == 0.0
    for generation, model, base in moving_adapter():  # noqa: B007
        for _ in VLLMGeneration._iter_named_params(generation):
            pass
    assert drift(model, base) > 1e-3


def test_vllm_gets_the_trained_adapter_and_not_its_start(model_path: str, start_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, model=load(model_path, start_path, is_trainable=True), **LONG_WAY)
    train_some(trainer)
    generation = trainer.vllm_generation = engine(trainer.model, trainer)
    generation.accelerator, generation.mode, generation.enable_sleep_mode = trainer.accelerator, "colocate", False
    generation.llm = MagicMock()
    trainer.use_vllm = True  # as a trainer with an engine has it
    adapters.sync_without_drift(generation)
    generation.sync_weights()
    load_weights = generation.llm.llm_engine.model_executor.driver_worker.model_runner.model.load_weights
    sent = dict(call.args[0][0] for call in load_weights.call_args_list)
    fresh = load(model_path)
    fresh.load_state_dict(sent, strict=True)
    trainer.use_vllm = False
    rollout = scored_rollout(trainer)
    policy = logps_of(trainer, trainer.model, rollout)
    torch.testing.assert_close(logps_of(trainer, fresh, rollout), policy, rtol=0, atol=1e-5)
    assert (rollout["ref_per_token_logps"] - policy).abs().max() > 0.05


def test_tied_weights_trained_as_one_reach_vllm_as_one(tied_path: str, tmp_path: Path) -> None:
    config = lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    trainer = make_trainer(tied_path, tmp_path, trainer_kwargs={"peft_config": config}, **LONG_WAY)
    train_some(trainer)
    preflight.check_synced_weights(trainer.model, SimpleNamespace(use_vllm=True))
    generation = engine(trainer.model, trainer)
    adapters.sync_without_drift(generation)
    sent = dict(generation._iter_named_params())
    assert "lm_head.weight" not in sent
    fresh = load(tied_path)
    fresh.load_state_dict(sent, strict=False)
    assert fresh.lm_head.weight is fresh.model.embed_tokens.weight
    rollout = scored_rollout(trainer)
    difference = logps_of(trainer, fresh, rollout) - logps_of(trainer, trainer.model, rollout)
    assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [{"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}, {"target_modules": ["embed_tokens"]}],
)
def test_vllm_with_tied_weights_that_part_is_refused(model_path: str, tied_path: str, changes: dict[str, Any]) -> None:
    args = SimpleNamespace(use_vllm=True)
    with pytest.raises(ValueError, match=r"use_vllm=True: the model ties its embeddings .*ensure_weight_tying=True"):
        preflight.check_synced_weights(get_peft_model(load(tied_path), lora(**changes)), args)
    preflight.check_synced_weights(get_peft_model(load(model_path), lora(**changes)), args)
    preflight.check_synced_weights(get_peft_model(load(tied_path), lora()), args)
    preflight.check_synced_weights(get_peft_model(load(tied_path), lora(**changes)), SimpleNamespace(use_vllm=False))


# Mixture of experts


@pytest.mark.parametrize("loss_type", ["dapo", "bnpo"])
def test_load_balancing_loss_trains_an_adapter_on_attention_as_in_trl(
    moe_path: str, tmp_path: Path, loss_type: str
) -> None:
    gradients = []
    for coefficient in (0.0, 0.5):
        options = {"loss_type": loss_type, "steps_per_generation": 2, "router_aux_loss_coef": coefficient}
        adapter = {"peft_config": lora(init_lora_weights=False)}
        archer, grpo = pair(moe_path, tmp_path, trainer_kwargs=adapter, **options)
        grpo.model.load_state_dict(archer.model.state_dict())
        inputs = make_inputs(archer)
        inputs["num_sequences_in_batch"] = torch.tensor(4)
        micro_batches = rows_of(inputs, [0, 2]), rows_of(inputs, [3, 1])
        assert_same(archer, grpo, *micro_batches)
        gradients.append(loss_and_gradients(archer, *micro_batches)[1])
    logs: list[dict[str, float]] = [{}, {}]
    archer.log(logs[0])
    grpo.log(logs[1])
    assert logs[0]["aux_loss"] == pytest.approx(logs[1]["aux_loss"], rel=SAME_AS_TRL)
    assert logs[0]["aux_loss"] > 1.0
    assert relative_difference(*gradients) > 0.01


def test_checkpoints_have_the_card_of_the_run(model_path: str, tmp_path: Path) -> None:
    """PEFT writes an empty template into each."""
    config = {"save_steps": 1, "max_steps": 1, "save_strategy": "steps"}
    trainer = make_trainer(model_path, tmp_path, trainer_kwargs={"peft_config": lora()}, **config)
    trainer.train()
    card = (tmp_path / "out" / "checkpoint-1" / "README.md").read_text()
    assert "More Information Needed" not in card
    assert "Dual-Token Constraints" in card
