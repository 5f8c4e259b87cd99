"""The command line: help, wrong usage, and the demo from end to end; `train` has tests of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trl_archer import __version__
from trl_archer.cli import main


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--help"], "demo"),
        (["--help"], "train"),
        (["demo", "--help"], "--lora"),
        (["export", "--help"], "--checkpoint"),
        (["train", "--help"], "--epsilon_reasoning"),
        (["train", "-h"], "--reward_funcs"),
        (["train", "--help"], "--resume [PATH]"),
        (["train", "--help"], "--config RECIPE.yaml"),
        (["--version"], __version__),
    ],
)
def test_help(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [[], ["train-me"], ["demo", "--steps", "0"], ["demo", "--method", "ppo"], ["demo", "--config", "x"], ["demo", "x"]],
)
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: trl-archer" in capsys.readouterr().err


def test_wrong_usage_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dataset_nmae", "playground"]) == 2
    err = capsys.readouterr().err
    assert err == "trl-archer train: error: There is no flag 'dataset_nmae'. Did you mean 'dataset_name'?\n"


def test_other_commands_do_not_import_what_train_needs() -> None:
    code = (
        "import sys; from trl_archer.cli import main\ntry: main(['-h'])\nexcept SystemExit: print('trl' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.training
@pytest.mark.parametrize("flags", [[], ["--lora"], ["--method", "grpo"]])
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    argv = ["demo", "--steps", "10", "--problems", "16", "--output-dir", str(tmp_path), *flags]
    assert main(argv) == 0
    out = capsys.readouterr().out
    for text in ("step   10", "avg@8", "pass@8", "greedy accuracy", "entropy of reasoning tokens", "Completions"):
        assert text in out
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["before"]["avg_at_k"] != result["after"]["avg_at_k"]
    weights = "adapter_model.safetensors" if "--lora" in flags else "model.safetensors"
    assert (tmp_path / weights).exists()
