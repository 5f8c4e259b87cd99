"""The command line: help, wrong usage, and the demo from end to end; `train` has tests of its own."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from trl_archer import __version__
from trl_archer.cli import main
from trl_archer.commands.demo import figure_commands
from trl_archer.records.parquet import read_token_records, step_path


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--help"], "demo"),
        (["--help"], "train"),
        (["demo", "--help"], "--lora"),
        (["export", "--help"], "--checkpoint"),
        (["figures", "--help"], "tokens"),
        (["figures", "runs", "--help"], "--smoothing"),
        (["figures", "records", "--help"], "--min-count"),
        (["figures", "tokens", "--help"], "--step"),
        (["figures", "accuracy", "--help"], "--theme"),
        (["train", "--help"], "--epsilon_reasoning"),
        (["train", "-h"], "--reward_funcs"),
        (["train", "--help"], "--resume [PATH]"),
        (["train", "--help"], "--config RECIPE.yaml"),
        (["train", "--help"], "Resume from the last checkpoint"),
        (["train", "--help"], "`trl-archer train --help-all` lists the other"),
        (["train", "--help-all"], "--adam_epsilon"),
        (["train", "--help", "--method", "grpo"], "--epsilon"),
        (["recipes", "--help"], "--path"),
        (["--version"], __version__),
    ],
)
def test_help(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0
    assert expected in capsys.readouterr().out


def test_help_of_train_fits_on_two_screens(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 112
    assert max(map(len, text.splitlines())) <= 120
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith((" ", "usage", "Ex"))]
    assert titles[:4] == ["Run:", "Data:", "Rewards:", "Archer:"]


def test_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "trl_archer", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"trl-archer {__version__}\n"


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


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.parametrize("flags", [[], ["--lora"], ["--method", "grpo"]])
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    of_an_earlier_demo = step_path(tmp_path / "token_records", 1)
    of_an_earlier_demo.parent.mkdir()
    of_an_earlier_demo.touch()
    argv = ["demo", "--steps", "10", "--problems", "16", "--output-dir", str(tmp_path), *flags]
    assert main(argv) == 0
    out = capsys.readouterr().out
    for text in ("step   10", "avg@8", "pass@8", "greedy accuracy", "entropy of reasoning tokens", "Completions"):
        assert text in out
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["before"]["avg_at_k"] != result["after"]["avg_at_k"]
    for when in ("before", "after"):
        evaluation = json.loads((tmp_path / f"{when}.json").read_text())
        assert sum(evaluation["correct"]) / (16 * evaluation["samples"]) == result[when]["avg_at_k"]
    weights = "adapter_model.safetensors" if "--lora" in flags else "model.safetensors"
    assert (tmp_path / weights).exists()

    commands = [line.strip() for line in out.split("To draw the run:")[1].splitlines() if line.strip()]
    kinds = ["runs", "accuracy"] if "grpo" in flags else ["runs", "records", "tokens", "accuracy"]
    assert [shlex.split(command)[4] for command in commands] == kinds
    for command in commands:
        subprocess.run(command, shell=True, check=True, capture_output=True)
    drawn = {"training_dynamics.png", "constraints.png", "accuracy.png"}
    if "records" in kinds:
        drawn |= {"entropy_spread.png", "clip_plane.png", "frequent_tokens.png"}
        assert read_token_records(tmp_path / "token_records").completions[0].step == 2
        assert (tmp_path / "tokens.html").exists()
    assert {path.name for path in (tmp_path / "figures").glob("*.png")} == drawn
    assert not of_an_earlier_demo.exists()


@pytest.mark.parametrize("called", ["installed", "by path", "module"])
def test_the_demo_names_the_program_as_it_was_called(
    called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "trl-archer"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(program.parent) if called == "installed" else "/nowhere")
    argv, expected = {
        "installed": (str(program), ["trl-archer"]),
        "by path": ("bin/trl-archer", ["bin/trl-archer"]),
        "module": ("/site-packages/trl_archer/cli.py", [sys.executable, "-m", "trl_archer.cli"]),
    }[called]
    monkeypatch.setattr(sys, "argv", [argv])
    (runs, accuracy) = figure_commands(Path("my runs"))
    assert runs == [*expected, "figures", "runs", "my runs", "--output", "my runs/figures"]
    assert accuracy[: len(expected) + 2] == [*expected, "figures", "accuracy"]
