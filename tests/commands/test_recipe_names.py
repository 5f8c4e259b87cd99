"""Recipes by name, on other numbers of processes, and the list of them."""

import re
from pathlib import Path

import pytest
import yaml

from trl_archer.cli import main
from trl_archer.commands import recipes
from trl_archer.commands.recipes import FOLDERS, find_file
from trl_archer.commands.train import run

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples" / "recipes").glob("*.yaml"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    shown = re.findall(r"^  (\S+)$", out, re.MULTILINE)
    assert shown == NAMES
    assert "\n  zero2 " in out
    assert "GPU" in out.split("lora_24gb")[1].splitlines()[2]  # its hardware


def test_print_and_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "Math-Qwen3-4B"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model_name_or_path"] == "Qwen/Qwen3-4B"
    assert main(["recipes", "zero2", "--path"]) == 0
    assert capsys.readouterr().out == f"{FOLDERS['accelerate_configs'] / 'zero2.yaml'}\n"
    assert main(["recipes", "math_qwen3_5b"]) == 2
    assert "Did you mean math_qwen3_" in capsys.readouterr().err


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file("playground", "recipes") == ROOT / "examples" / "recipes" / "playground.yaml"
    (tmp_path / "playground").write_text("")
    assert find_file("playground", "recipes") == Path("playground")
    with pytest.raises(ValueError, match="There is no recipe 'zero2'"):
        find_file("zero2", "recipes")


def test_wheel_has_the_folders() -> None:
    """`FOLDERS` looks where the build puts them."""
    text = (ROOT / "pyproject.toml").read_text()
    for kind in FOLDERS:
        assert f'"examples/{kind}" = "trl_archer/{kind}"' in text
        assert recipes._PACKAGE.name == "trl_archer"


@pytest.mark.parametrize("flag", [["--config", "playground"], ["--config=playground"]])
def test_train_by_name(flag: list[str]) -> None:
    arguments, config, _ = run.parse([*flag, "--max_steps", "3"])
    assert (arguments.dataset_name, config.max_steps) == ("playground", 3)


def test_train_by_a_wrong_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "playgruond"]) == 2
    assert "Did you mean playground?" in capsys.readouterr().err


def steps(*flags: str) -> list[str]:
    """What follows the recipe's path."""
    return run._located(["--config", "math_qwen3_4b", *flags])[2:]


def test_other_numbers_of_processes_keep_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    assert steps() == []
    assert steps("--num_processes", "16") == ["--num_processes", "16"]
    assert steps("--num_processes", "8") == ["--num_processes", "8", "--gradient_accumulation_steps", "16"]
    assert "gradient_accumulation_steps=16 keeps the recipe's batch on 8 processes." in caplog.text
    assert steps("--num-processes=32")[1:] == ["--gradient_accumulation_steps", "4"]
    assert len(steps("--num_processes", "8", "--gradient_accumulation_steps", "2")) == 4  # the user's choice
    with pytest.raises(ValueError, match="num_processes=24 does not divide the recipe's batch, 16 processes with"):
        steps("--num_processes", "24")
