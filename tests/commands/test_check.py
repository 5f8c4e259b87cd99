"""`trl-archer check` finds what a run would be refused for, without GPUs, and predicts its memory."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, GPT2Config, Qwen3MoeConfig

from trl_archer.cli import main
from trl_archer.commands.forecast.models import MODELS, read_shape
from trl_archer.grpo.config import DurableGRPOConfig

from ..helpers.tiny import TOKENIZER, save_model


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TOKENIZER, "chat_template", "{% for m in messages %}> {{ m['content'] }} {% endfor %}=")
    rows = [{"question": f"{n} + 1", "gold": f"\\boxed{{{n + 1}}}"} for n in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model_name_or_path": save_model(tmp_path / "model"),
        "dataset_name": "data.jsonl",
        "dataset_columns": {"prompt": "question", "solution": "gold"},
        "conversational": True,
        "reward_funcs": ["math"],
        "num_processes": 2,
        "num_generations": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "num_iterations": 2,
        "max_completion_length": 16,
        "use_vllm": True,  # need not be installed here
        "output_dir": "out",
    }


def check(recipe: dict[str, Any], *flags: str) -> int:
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    return main(["check", "--config", "recipe.yaml", *flags])


def test_report(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(recipe) == 0
    out = capsys.readouterr().out
    assert "on 2 processes\n" in out
    assert "4 prompts x 4 responses per rollout; 2 updates per rollout, of 4 prompts each, in 2 passes" in out
    assert "40 rows of data.jsonl, with the columns solution, prompt" in out
    assert "math_reward can score 32 of 32 sampled rows" in out
    assert "Warning   None of 40 prompts asks for \\boxed{}" in out
    assert "--- prompt 9, as the model sees it\n> 9 + 1 =\n--- solution: '\\\\boxed{10}'" in out
    assert "of 80 GiB on each GPU with ddp, predicted" in out
    assert out.rstrip().endswith("checked when training starts.")
    assert not Path("out").exists()
    assert "world_size" not in vars(DurableGRPOConfig)  # as before


def test_benchmarks_and_a_cpu(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    recipe |= {"eval_benchmarks": ["countdown"], "eval_benchmarks_steps": 1, "use_cpu": True, "use_vllm": False}
    assert check(recipe) == 0
    out = capsys.readouterr().out
    assert "Benchmark countdown: 256 of 256 problems can be scored, 16 samples each" in out
    assert out.endswith("no GPU memory is predicted. Installed packages are checked when training starts.\n")
    assert "All checks pass. The recipe sets use_cpu, so no GPU memory is predicted." in out


def test_other_numbers_of_gpus_keep_the_batch(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(recipe, "--gpus", "1", "--memory", "24") == 0
    out = capsys.readouterr().out
    assert "4 prompts x 4 responses per rollout; 2 updates per rollout, of 4 prompts each" in out
    assert "of 24 GiB on each GPU with single_gpu" in out


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"num_generations": 3}, [], "is not a whole number of groups of num_generations=3"),
        ({"dataset_columns": {"prompt": "question"}}, [], "`dataset_columns: {solution: gold}`"),
        ({"lora_r": 8}, [], "lora_r=8 has no effect without use_peft"),
        ({"epsilon": -1.0}, [], "epsilon=-1.0"),
        ({}, ["--memory", "0.0005"], "vLLM's cache would hold 0 tokens"),
        ({}, ["--gpus", "3"], "num_processes=3 does not divide the recipe's batch"),
        ({"model_name_or_path": "./nowhere"}, [], "model_name_or_path='./nowhere' cannot be loaded"),
        (
            {"eval_benchmarks": [{"name": "own", "dataset": "own.jsonl"}], "eval_benchmarks_steps": 1},
            [],
            "own: there is no file 'own.jsonl'",
        ),
    ],
)
def test_refused(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], changes: dict[str, Any], flags: list[str], message: str
) -> None:
    assert check({**recipe, **changes}, *flags) == 2
    assert message in capsys.readouterr().err


def test_help_and_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "--help"])
    assert end.value.code == 0
    assert "--memory" in capsys.readouterr().out
    assert main(["check"]) == 2
    assert "--config is missing. Name a recipe; `trl-archer recipes` lists" in capsys.readouterr().err
    assert main(["check", "--config", "nothing"]) == 2
    assert "There is no recipe 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "qwen3-4b", "qwen3-30b-a3b"])
def test_shapes_from_configurations(name: str, tmp_path: Path) -> None:
    from benchmarks.scaling.measured import configuration

    configuration(MODELS[name]).save_pretrained(tmp_path)
    read = read_shape(str(tmp_path))
    kept = [field for field in vars(read) if field != "name"]
    assert {field: getattr(read, field) for field in kept} == {field: getattr(MODELS[name], field) for field in kept}


def test_shapes_of_other_families(tmp_path: Path) -> None:
    GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=100).save_pretrained(tmp_path / "gpt2")
    path = save_model(tmp_path / "llama")
    for folder in (str(tmp_path / "gpt2"), path):
        shape = read_shape(folder)
        assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads) == (2, 32, 4, shape.kv_heads)
    model = AutoModelForCausalLM.from_pretrained(path)
    assert read_shape(path).parameters == sum(parameter.numel() for parameter in model.parameters())
    Qwen3MoeConfig(num_hidden_layers=2, num_experts=4, num_experts_per_tok=2).save_pretrained(tmp_path / "moe")
    assert read_shape(str(tmp_path / "moe")).experts_per_token == 2
    assert os.environ.get("WORLD_SIZE") is None
