"""`trl-archer train` from recipe to saved model, in this process and as a user starts it."""

import json
import logging
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, call

import pytest
import torch
import yaml
from safetensors.torch import load_file

import trl_archer
from trl_archer.commands.train import run as run_module
from trl_archer.commands.train.card import command_line
from trl_archer.commands.train.recipe import read_recipe
from trl_archer.commands.train.resume import check_same_model
from trl_archer.commands.train.run import main, train
from trl_archer.grpo import DurableGRPOConfig, checkpoints, preflight
from trl_archer.grpo.checkpoints import find_checkpoint

from ..helpers.tiny import PROMPTS, TOKENIZER, save_model

ROOT = Path(__file__).parents[2]
REWARDS = """
import os, signal

def length(completions, answer, **kwargs):
    assert answer[0] == "4"
    return [float(len(completion) % 7) for completion in completions]

def constant(value):
    def same(completions, **kwargs):
        return [value for _ in completions]

    return same

def broken(completions, **kwargs):
    raise ValueError("boom")

def terminating(completions, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return [float(len(completion)) for completion in completions]
"""


@pytest.fixture
def folder(tmp_path: Path, model_path: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user has it, with data, rewards and a recipe, and no launcher around it."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"question": p, "gold": "4"}) + "\n" for p in PROMPTS))
    (tmp_path / "own_rewards.py").write_text(REWARDS)
    recipe = {
        "model_name_or_path": model_path,
        "dataset_name": "data.jsonl",
        "dataset_columns": {"prompt": "question", "answer": "gold"},
        "reward_funcs": ["own_rewards.length", {"name": "own_rewards.constant", "value": 0.5}],
        "reward_weights": [1.0, 0.1],
        "output_dir": "out",
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,
        "max_completion_length": 6,
        "learning_rate": 0.01,
        "max_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ACCELERATE_") or name == "WORLD_SIZE":
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def threads() -> Any:
    """Small models train fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps_of(run_dir: Path) -> list[int]:
    state = json.loads(
        (max(run_dir.glob("checkpoint-*"), key=lambda p: p.stat().st_mtime) / "trainer_state.json").read_text()
    )
    return [entry["step"] for entry in state["log_history"] if "loss" in entry]


def test_run(folder: Path, model_path: str, capsys: pytest.CaptureFixture[str], threads: Any) -> None:
    assert main(["--config", "recipe.yaml"]) == 0
    out = capsys.readouterr().out
    assert (
        "4 prompts x 4 responses per rollout; 2 updates per rollout, of 2 prompts each, in 1 pass, on 1 process." in out
    )
    assert "Model saved to out." in out
    state = json.loads((folder / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    first, second = state["log_history"]
    assert "reward" not in second  # the same rollout
    assert first["rewards/same/mean"] == 0.5
    assert first["reward"] == pytest.approx(first["rewards/length/mean"] + 0.1 * 0.5)
    before, after = load_file(f"{model_path}/model.safetensors"), load_file(folder / "out" / "model.safetensors")
    assert max((after[name] - before[name]).abs().max().item() for name in before) > 1e-3
    for card in (folder / "out" / "README.md", folder / "out" / "checkpoint-2" / "README.md"):
        if card.is_file():
            text = card.read_text()
            assert "| `reward_funcs` | length, same |" in text
            assert "| `epsilon_reasoning` | 0.5 |" in text
            assert text.count("## Training settings") == 1
            assert "huggingface.co/None" not in text
    card = (folder / "out" / "README.md").read_text()
    assert "- trl-archer\n" in card
    assert f"trl-archer {trl_archer.__version__} on 1 process" in card
    assert "```bash\ntrl-archer train --config recipe.yaml\n```" in card
    assert "# Model Card for out\n" in card
    assert 'model="out"' in card
    assert "huggingface.co/papers/2507.15778" in card
    assert "huggingface.co/datasets" not in card  # the data is a local file
    assert "| `dataset` | data.jsonl |" in card
    record = json.loads((folder / "out" / "run.json").read_text())
    assert record["model"]["model_name_or_path"] == model_path
    assert record["training"]["learning_rate"] == 0.01
    assert record["data"]["dataset_columns"] == {"prompt": "question", "answer": "gold"}
    assert {"torch", "trl", "transformers"} <= record["versions"].keys()


def test_adapter_with_evaluation(folder: Path, capsys: pytest.CaptureFixture[str], threads: Any) -> None:
    flags = (
        "--use_peft --lora_r 4 --lora_target_modules q_proj v_proj --eval_strategy steps --eval_steps 1 --max_steps 1"
    )
    splits = ["--dataset_train_split", "train[:6]", "--dataset_test_split", "train[6:]"]
    assert main(["--config", "recipe.yaml", *flags.split(), *splits, "--save_strategy", "no"]) == 0
    assert (folder / "out" / "adapter_model.safetensors").is_file()
    adapter = json.loads((folder / "out" / "adapter_config.json").read_text())
    assert (adapter["r"], set(adapter["target_modules"])) == (4, {"q_proj", "v_proj"})
    assert "evaluation   reward" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["stop", "warn", "none", None])
def test_collapse(folder: Path, caplog: pytest.LogCaptureFixture, threads: Any, action: str | None) -> None:
    """Set on the command line, or by null in the recipe."""
    flags = ["--collapse_entropy_floor", "100", "--collapse_patience", "2", "--save_steps", "1", "--max_steps", "4"]
    if action is None:
        (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text() + "\ncollapse_action: null\n")
    else:
        flags += ["--collapse_action", action]
    with caplog.at_level(logging.WARNING, logger="trl_archer.collapse"):
        assert main(["--config", "recipe.yaml", *flags]) == (action == "stop")
    assert (folder / "out" / "model.safetensors").is_file() is (action != "stop")
    assert ("entropy has been below 100.0 for 2 logs in a row" in caplog.text) is (action in ("warn", "stop"))
    saved = {path.name for path in (folder / "out").glob("checkpoint-*")}
    assert saved == {f"checkpoint-{step}" for step in ((1,) if action == "stop" else (1, 2, 3, 4))}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rte", "1"], "There is no flag 'learning_rte'. Did you mean 'learning_rate'?"),
        (
            ["--dataset_columns", "{}"],
            "'data.jsonl' (split 'train') has no column 'prompt', which the trainer needs. Its ",
        ),
        (["--dataset_columns", '{"prompt": "question"}'], "no column 'answer', which the reward 'length' needs"),
        (["--reward_funcs", "own_rewards.size"], "'own_rewards' has no 'size'"),
        (["--reward_funcs", "countdown"], "reward_weights has 2 entries for 1 rewards"),
        (["--num_generations", "5"], "A rollout of 16 completions"),
        (["--num_processes", "2"], "written for num_processes=2, but 1 started"),
        (["--beta", "-1"], "beta=-1.0 is negative"),
        (["--loss_type", "cispo"], "loss_type='cispo' has no clip range per token"),
        (["--deepspeed", "{bad"], "deepspeed='{bad' is not valid JSON: Expecting property name"),
        (["--report_to", "wandb"], "report_to=['wandb']: 'wandb' is not installed."),
        (["--report_to", "trackio", "wandb"], "report_to=['trackio', 'wandb']: 'wandb' is not installed."),
        (["--attn_implementation", "kernels-community/flash-attn2"], "pip install 'trl-archer[kernels]'"),
        (["--collapse_patience", "0"], "collapse_patience=0"),
        (["--use_vllm"], "vLLM is not installed. Run `pip install 'trl-archer[vllm]'`"),
        (["--resume"], "output_dir='out' has no complete checkpoint to resume from (there is none)"),
        (
            ["--resume", "elsewhere"],
            "resume_from_checkpoint='elsewhere' is not a complete checkpoint: it is not a folder.",
        ),
        (["--config", "nowhere.yaml"], "--config is given 2 times"),
        ([], "nowhere"),  # the model itself, which is looked for last
    ],
)
def test_refused_before_a_model_is_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # not installed
    monkeypatch.setattr(run_module, "is_kernels_available", lambda: False)
    monkeypatch.setattr(run_module, "get_available_reporting_integrations", lambda: ["trackio"])
    assert main(["--config", "recipe.yaml", "--model_name_or_path", "./nowhere", *flags]) == 2
    err = capsys.readouterr().err
    assert "trl-archer train: error: " in err
    assert message in err
    assert "Traceback" not in err


def test_traceback_of_a_refusal_on_demand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_ARCHER_TRACEBACK", "1")
    with pytest.raises(ValueError, match="num_processes=2"):
        main(["--config", "recipe.yaml", "--num_processes", "2"])


def test_errors_while_training_are_raised(folder: Path) -> None:
    with pytest.raises(Exception, match="boom"):
        main(["--config", "recipe.yaml", "--reward_funcs", "own_rewards.broken", "own_rewards.length"])


def test_deepspeed_file_is_refused_before_anything_else(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "ds.json").write_text('{"gradient_accumulation_steps": 2, "zero_optimization": {"stage": 2}}')
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "ds.json")
    assert main(["--config", "recipe.yaml"]) == 2
    err = capsys.readouterr().err
    assert "ds.json contradicts the training arguments: gradient_accumulation_steps is 2, but" in err
    assert "gradient_clipping is missing, so max_grad_norm=1.0 would not reach DeepSpeed" in err


def test_other_models_checkpoint_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: Any
) -> None:
    assert main(["--config", "recipe.yaml"]) == 0
    other = save_model(tmp_path / "other", moe=True)
    cases = [
        (["--resume", "--use_peft"], "has all weights, but use_peft=True"),
        (["--resume", "--model_name_or_path", other], f"not '{other}'"),
        (["--resume", "out"], "It contains out/checkpoint-2: choose one of these"),
        ([], "output_dir='out' already has checkpoint-2 from an earlier run. Continue it with --resume"),
    ]
    for flags, message in cases:
        capsys.readouterr()
        assert main(["--config", "recipe.yaml", *flags]) == 2
        assert message in capsys.readouterr().err
    (folder / "out" / "run.json").unlink()  # then only the weights tell
    assert main(["--config", "recipe.yaml", "--resume", "--model_name_or_path", other]) == 2
    assert "model_type" in capsys.readouterr().err
    assert not (folder / "out" / "run.json").exists()  # a run that was refused leaves no record


def test_weights_in_16_bits_draw_a_warning(folder: Path, caplog: pytest.LogCaptureFixture, threads: Any) -> None:
    flags = ["--config", "recipe.yaml", "--dtype", "bfloat16", "--max_steps", "1", "--save_strategy", "no"]
    for adapter, warned in ((["--use_peft"], False), ([], True)):
        caplog.clear()
        assert main([*flags, *adapter]) == 0
        assert ("in 16 bits an update with learning_rate=0.01 rounds to zero" in caplog.text) is warned


def test_sigterm(folder: Path, capsys: pytest.CaptureFixture[str], threads: Any) -> None:
    """Saves a checkpoint but no final model, and can be resumed."""
    flags = ["--config", "recipe.yaml", "--save_strategy", "no", "--enable_jit_checkpoint", "true"]
    assert main([*flags, "--reward_funcs", "own_rewards.terminating", "--reward_weights", "1"]) == 0
    assert "Stopped by SIGTERM. No final model was saved; --resume continues" in capsys.readouterr().out
    assert [path.name for path in (folder / "out").glob("checkpoint-*")] == ["checkpoint-1"]
    assert not (folder / "out" / "model.safetensors").exists()
    assert main([*flags, "--resume"]) == 0
    assert (folder / "out" / "model.safetensors").is_file()


def test_end_of_a_run(tmp_path: Path) -> None:
    trainer = MagicMock()
    trainer.callback_handler.callbacks = []
    trainer.args = SimpleNamespace(
        output_dir="out", push_to_hub=True, world_size=1, per_device_train_batch_size=8, gradient_accumulation_steps=1
    )
    trainer.args.generation_batch_size = trainer.args.num_generations = 8
    trainer.args.num_iterations = 1
    train(trainer, Path("out/checkpoint-2"))
    assert trainer.method_calls[-4:] == [
        call.accelerator.print("Model saved to out."),
        call.push_to_hub(),
        call.accelerator.print(f"Model pushed to https://huggingface.co/{trainer.hub_model_id}."),
        call.end(),
    ]
    trainer.train.assert_called_once_with(resume_from_checkpoint="out/checkpoint-2")
    trainer.save_model.assert_called_once_with("out")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--config", "my recipe.yaml"], "trl-archer train --config 'my recipe.yaml'"),
        (["--hub_token", "hf_secret", "--seed", "1"], "trl-archer train --hub_token ... --seed 1"),
        (["--hub-token=hf_secret", "--push_to_hub_token", "hf_secret"], "--hub-token=... --push_to_hub_token ..."),
    ],
)
def test_a_card_holds_no_token(arguments: list[str], command: str) -> None:
    assert command_line(arguments).endswith(command)


def test_a_hub_that_cannot_be_used_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def whoami(self: Any, token: str | None) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", whoami)
    assert main(["--config", "recipe.yaml", "--push_to_hub", "true"]) == 2
    error = capsys.readouterr().err
    assert "push_to_hub=True, but the Hub cannot be used (ConnectionError: Name or service not known)" in error
    assert "run `hf upload REPOSITORY out` after training" in error


def test_what_resume_means(tmp_path: Path) -> None:
    args = DurableGRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    assert find_checkpoint(None, args) is None
    assert find_checkpoint("auto", args) is None
    for step in (2, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "pytorch_model.bin").write_bytes(b"")
        (checkpoint / "trainer_state.json").write_text("{}" if step == 2 else "{")  # the later one is truncated
    torch.save({}, tmp_path / "checkpoint-2" / "pytorch_model.bin")
    for resume in ("auto", "latest", "true", "True", str(tmp_path / "checkpoint-2")):
        assert find_checkpoint(resume, args) == tmp_path / "checkpoint-2"
    with pytest.raises(ValueError, match=r"checkpoint-10' is not a complete .*: trainer_state.json is truncated"):
        find_checkpoint(str(tmp_path / "checkpoint-10"), args)


def test_nothing_is_checked_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], threads: Any
) -> None:
    """Each checkpoint is validated once, and vLLM is checked once, before and after the model is loaded."""
    assert main(["--config", "recipe.yaml", "--save_steps", "1"]) == 0
    counts: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            counts[f"{name} {Path(args[0]).name}" if name == "validate" else name] += 1
            return function(*args)

        return counted

    monkeypatch.setattr(checkpoints, "why_incomplete", counting("validate", checkpoints.why_incomplete))
    monkeypatch.setattr(preflight, "check_generation", counting("vLLM", preflight.check_generation))
    monkeypatch.setattr(preflight, "check_deepspeed_version", counting("ds", preflight.check_deepspeed_version))
    assert main(["--config", "recipe.yaml", "--save_strategy", "no", "--resume", "--max_steps", "3"]) == 0
    assert "Resuming from out/checkpoint-2." in capsys.readouterr().out
    assert counts == {"validate checkpoint-1": 1, "validate checkpoint-2": 1, "vLLM": 1, "ds": 1}


@pytest.mark.parametrize("by_flag", [True, False])
def test_grpo_trains_the_same_recipe(
    folder: Path, caplog: pytest.LogCaptureFixture, threads: Any, by_flag: bool
) -> None:
    """With any of TRL's losses; fields of Archer are ignored, and said to be."""
    fields = "epsilon_reasoning: 0.4\nmask_zero_std_groups: true\nloss_type: cispo\nepsilon_high: 5.0\n"
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text() + fields + ("" if by_flag else "method: grpo\n"))
    with caplog.at_level(logging.WARNING, logger="trl_archer.commands.train.recipe"):
        assert main(["--config", "recipe.yaml", *(["--method", "grpo"] if by_flag else [])]) == 0
    assert "epsilon_reasoning, mask_zero_std_groups: only Archer has these fields" in caplog.text
    record = json.loads((folder / "out" / "run.json").read_text())
    assert record["data"]["method"] == "grpo"
    assert record["training"]["beta"] == 0.0
    assert "epsilon_reasoning" not in record["training"]


def test_flags_of_archer_are_refused_for_grpo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "recipe.yaml", "--method", "grpo", "--epsilon_reasoning", "0.4"]) == 2
    assert "There is no flag 'epsilon_reasoning'" in capsys.readouterr().err
    assert main(["--config", "recipe.yaml", "--method", "ppo"]) == 2
    assert "invalid choice: 'ppo'" in capsys.readouterr().err


def test_record_of_a_run_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "run.json").write_text("")
    with pytest.raises(ValueError, match=r"run.json cannot be read: .* Remove it to resume without this check"):
        check_same_model(tmp_path / "checkpoint-2", {"use_peft": False})


def run(command: Sequence[str], cwd: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.training
def test_command_and_resume(folder: Path) -> None:
    command = ["trl_archer.cli", "train", "--config", "recipe.yaml"]
    run(command, folder)
    assert steps_of(folder / "out") == [1, 2]
    out = run([*command, "--resume", "--max_steps", "4"], folder)
    assert steps_of(folder / "out") == [1, 2, 3, 4]
    assert len(re.findall(r"^step ", out, re.MULTILINE)) == 2  # the first two steps were not taken again
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1", "-m", *command]
    out = run([*launch, "--resume", "out/checkpoint-4", "--max_steps", "5"], folder)
    assert len(re.findall(r"^step ", out, re.MULTILINE)) == 1
    assert "on 1 process." in out
    assert "Resuming from out/checkpoint-4." in out


@pytest.mark.slow
@pytest.mark.training
def test_playground_recipe_trains(tmp_path: Path) -> None:
    recipe = ROOT / "examples" / "recipes" / "playground.yaml"
    out = run(["trl_archer.cli", "train", "--config", str(recipe), "--max_steps", "60"], tmp_path)
    rewards = [float(value) for value in re.findall(r"reward ([\d.]+)", out)]
    assert len(rewards) == 60 / read_recipe(recipe)["logging_steps"]
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.05
    assert (tmp_path / "runs" / "playground" / "model.safetensors").is_file()


@pytest.mark.parametrize(("name", "column"), [("math", "solution"), ("code", "ground_truth")])
def test_example_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Any, name: str, column: str) -> None:
    """With stand-ins for the two rewards, which have tests of their own."""
    seen: list[dict[str, Any]] = []

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        seen.append({"prompt": kwargs["prompts"][0], **{k: kwargs[k][0] for k in ("solution", "tests") if k in kwargs}})
        return [float(len(completion[0]["content"]) % 7) for completion in completions]

    module = ModuleType(f"trl_archer.rewards.{name}.reward")
    setattr(module, f"{name}_reward", reward)
    setattr(module, f"get_{name}_reward", lambda **_: reward)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(TOKENIZER, "chat_template", "{% for m in messages %}{{ m['content'] }} {% endfor %}")
    model = save_model(tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps({"prompt": p, column: "4"}) + "\n" for p in PROMPTS))
    flags = f"--model_name_or_path {model} --dataset_name {data} --output_dir {tmp_path / 'out'} --max_steps 2 "
    flags += "--num_generations 4 --per_device_train_batch_size 4 --generation_batch_size 8 --max_completion_length 6 "
    flags += "--report_to none --use_cpu --bf16 False --use_peft --lora_target_modules all-linear "
    flags += "--logging_steps 1 --save_steps 1 --save_total_limit 1"
    for goes_on in ("", "--resume_from_checkpoint true --max_steps 3"):
        monkeypatch.setattr(sys, "argv", ["script", *flags.split(), *goes_on.split()])
        runpy.run_path(str(ROOT / "examples" / f"archer_{name}.py"), run_name="__main__")
    assert steps_of(tmp_path / "out") == [1, 2, 3]
    assert len(seen) == 2  # rollouts of two steps each: the first two were not taken again
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert seen[0]["prompt"][-1]["role"] == "user"
    assert seen[0]["prompt"][-1]["content"].startswith(tuple(PROMPTS))
    assert seen[0]["solution" if name == "math" else "tests"] == "4"
