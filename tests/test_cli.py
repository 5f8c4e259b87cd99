"""The command line: help, wrong usage, and the demo from end to end."""

import json
from pathlib import Path

import pytest

from trl_archer import __version__
from trl_archer.cli import main


@pytest.mark.parametrize(
    ("argv", "expected"), [(["--help"], "demo"), (["demo", "--help"], "--lora"), (["--version"], __version__)]
)
def test_help(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["train-me"], ["demo", "--steps", "0"], ["demo", "--method", "ppo"]])
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: trl-archer" in capsys.readouterr().err


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
