"""QLoRA on real 4-bit weights: what is trained, what is not, the reference, and what is refused."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

from trl_archer import ArcherGRPOConfig
from trl_archer.commands.train.run import main
from trl_archer.grpo import preflight

from ..helpers.tiny import loss_and_gradients, make_inputs, make_trainer, save_model, scored_rollout
from .test_adapters import count_passes, logps_of, train_some

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not there for this platform"
)

LORA: dict[str, Any] = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("wide"), hidden_size=64, intermediate_size=128)  # whole blocks of 64


def four_bits(compute: torch.dtype = torch.float32) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )


def load(path: str, compute: torch.dtype = torch.float32) -> Any:
    # In evaluation mode CPUs with AVX-512 BF16 would compute in bfloat16
    return AutoModelForCausalLM.from_pretrained(path, dtype=compute, quantization_config=four_bits(compute)).train()


def make_qlora(path: str, tmp_path: Path, compute: torch.dtype = torch.float32, **config: Any) -> Any:
    options = {
        "learning_rate": 0.05,
        "num_iterations": 2,
        "max_steps": 3,
        "beta": 0.1,
        "bf16": compute == torch.bfloat16,
        "model_init_kwargs": {"dtype": str(compute).removeprefix("torch.")},
    }
    kwargs = {"peft_config": LoraConfig(**LORA), "quantization_config": four_bits(compute)}
    return make_trainer(path, tmp_path, model=path, trainer_kwargs=kwargs, **{**options, **config})


def four_bit_weights(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.dtype == torch.uint8}


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_three_steps(path: str, tmp_path: Path, compute: torch.dtype) -> None:
    trainer = make_qlora(path, tmp_path, compute)
    weights = four_bit_weights(trainer.model)
    assert len(weights) == 14
    before = train_some(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name
        assert parameter.requires_grad == ("lora_" in name), name
        assert parameter.dtype == torch.uint8 or parameter.isfinite().all(), name
    kl = [entry["kl"] for entry in trainer.state.log_history if "loss" in entry]
    assert kl[0] == 0.0
    assert kl[1] > 1e-3
    rollout = scored_rollout(trainer)
    reference = logps_of(trainer, load(path, compute), rollout)
    assert torch.equal(rollout["ref_per_token_logps"], reference)
    unquantized = AutoModelForCausalLM.from_pretrained(path, dtype=compute)
    for other in (unquantized, trainer.model):
        assert (logps_of(trainer, other, rollout) - reference).abs().max() > 0.05
    for name, weight in four_bit_weights(trainer.model).items():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("learning_rate", [1e-5, 1e-6])
def test_small_updates_reach_the_whole_adapter(path: str, tmp_path: Path, learning_rate: float) -> None:
    """In bfloat16, as TRL leaves the adapter, nearly all of its first matrices would stay where they are."""
    trainer = make_qlora(path, tmp_path, learning_rate=learning_rate, max_steps=4, lr_scheduler_type="constant")
    before = train_some(trainer)
    matrices = {name: p for name, p in trainer.model.named_parameters() if "lora_A" in name}
    assert {p.dtype for p in matrices.values()} == {torch.float32}
    moved = sum((p != before[name]).sum().item() for name, p in matrices.items())
    assert moved > 0.95 * sum(p.numel() for p in matrices.values())
    assert sum((p.bfloat16() != before[name].bfloat16()).sum().item() for name, p in matrices.items()) < 0.1 * moved


def test_adapter_trained_further_starts_unrounded_and_is_its_own_reference(path: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    start = get_peft_model(load(path), LoraConfig(**LORA, init_lora_weights=False))
    start.save_pretrained(tmp_path / "start")
    model = PeftModel.from_pretrained(load(path), tmp_path / "start", is_trainable=True)
    given = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}
    trainer = make_trainer(
        path, tmp_path, model=model, beta=0.1, max_steps=2, num_iterations=2, learning_rate=0.05, bf16=False
    )
    weights = dict(trainer.model.named_parameters())
    assert all(torch.equal(weights[name], given[name]) for name in given)
    trainer.train()
    kl = [entry["kl"] for entry in trainer.state.log_history if "loss" in entry]
    assert kl[0] == 0.0
    assert kl[1] > 1e-3
    rollout = scored_rollout(trainer)
    again = PeftModel.from_pretrained(load(path), tmp_path / "start").train()
    assert torch.equal(rollout["ref_per_token_logps"], logps_of(trainer, again, rollout))


def test_evaluation_leaves_loss_and_gradient_alone(path: str, tmp_path: Path) -> None:
    trainer = make_qlora(path, tmp_path)
    trainer.model.train()
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    inputs = make_inputs(trainer)
    loss, gradients = loss_and_gradients(trainer, inputs)
    trainer.evaluate()
    same_loss, same = loss_and_gradients(trainer, inputs)
    assert loss == same_loss
    assert all(torch.equal(same[name], gradients[name]) for name in gradients)
    first_layer = [g.abs().max().item() for name, g in gradients.items() if "layers.0" in name and "lora_" in name]
    assert min(first_layer) > 0.0


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_trains_the_same_adapter(path: str, tmp_path: Path, use_reentrant: bool) -> None:
    runs = []
    for checkpointing in (False, True):
        trainer = make_qlora(
            path,
            tmp_path,
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
            optim="sgd",
        )
        passes = count_passes(trainer)
        set_seed(0)
        before = train_some(trainer)
        after = {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}
        runs.append((after, len(passes)))
    (plain, once), (checkpointed, twice) = runs
    assert twice == once + 3
    assert max((plain[name] - before[name]).abs().max().item() for name in plain) > 1e-3
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_quantized_model_without_adapter_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attach trainable adapters"):
        make_trainer(path, tmp_path, model=path, trainer_kwargs={"quantization_config": four_bits()})


def test_quantized_model_with_vllm_is_refused(path: str, tmp_path: Path) -> None:
    args = ArcherGRPOConfig(str(tmp_path), use_cpu=True, bf16=False, use_vllm=True)
    message = r"use_vllm=True with a quantized model: .* Set use_vllm=False, or train the adapter on the model in bf"
    for model, config in ((path, four_bits()), (load(path), None)):
        with pytest.raises(ValueError, match=message):
            preflight.check_adapter(model, args, config)
    with pytest.raises(ValueError, match=message):
        preflight.check_synced_weights(get_peft_model(load(path), LoraConfig(**LORA)), args)
    preflight.check_adapter(path, args)


# `trl-archer train`

RUN = """--dataset_name playground --reward_funcs tests.helpers.tiny.length_reward --use_cpu --bf16 false
--report_to none
--save_strategy no --gradient_checkpointing false --num_generations 4 --per_device_train_batch_size 8
--max_completion_length 6 --num_iterations 2 --max_steps 2 --learning_rate 0.01"""


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ACCELERATE_") or name == "WORLD_SIZE":
            monkeypatch.delenv(name)


def test_run_by_flags(path: str, tmp_path: Path, no_launcher: None) -> None:
    flags = "--load_in_4bit --use_bnb_nested_quant --use_peft --lora_r 4 --lora_target_modules all-linear"
    model = ["--model_name_or_path", path, "--output_dir", str(tmp_path / "out")]
    assert main([*RUN.split(), *flags.split(), *model]) == 0
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(weights) == 28
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())
    assert max(weight.abs().max().item() for name, weight in weights.items() if "lora_B" in name) > 1e-3
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["load_in_4bit"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--load_in_4bit", "load_in_4bit=True without use_peft: quantized weights cannot be trained. Set use_peft"),
        ("--load_in_8bit", "load_in_8bit=True without use_peft"),
        ("--load_in_4bit --use_peft --use_vllm", "load_in_4bit=True, use_vllm=True with a quantized model"),
        ("--load_in_4bit --use_peft", "bitsandbytes is not installed. Run `pip install 'trl-archer[quantization]'`"),
    ],
)
def test_flags_that_cannot_work_are_refused_first(
    flags: str,
    message: str,
    tmp_path: Path,
    no_launcher: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("trl_archer.commands.train.launch.check_vllm", lambda *_: None)  # installed, say
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    model = ["--model_name_or_path", "./nowhere", "--output_dir", str(tmp_path / "out")]
    assert main([*RUN.split(), *flags.split(), *model]) == 2
    assert message in capsys.readouterr().err
