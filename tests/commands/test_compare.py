"""`trl-archer compare`: files and messages."""

import json
from pathlib import Path

import pytest

from trl_archer.cli import main
from trl_archer.evaluation.report import write_report

from ..evaluation.test_comparison import report


@pytest.fixture
def runs(tmp_path):
    """Two methods with two seeds; the second method has logged its learning curves."""
    for method, counts in {"grpo": ([1, 2, 3], [2, 2, 3]), "archer": ([3, 4, 4], [4, 4, 3])}.items():
        for seed, row in enumerate(counts):
            folder = tmp_path / method / f"seed-{seed}"
            write_report(report(row), folder / "evaluation")
            if method == "archer":
                log = [{"step": step, "eval_toy/avg@8": (seed + step) / 20} for step in (1, 2, 3)]
                state = {"log_history": log, "global_step": 3}
                (folder / "trainer_state.json").write_text(json.dumps(state))
    return tmp_path


def pair(runs: Path, method: str) -> str:
    return f"{method}={runs / method / 'seed-0'},{runs / method / 'seed-1'}"


def test_files(runs, capsys):
    output = runs / "comparison"
    assert main(["compare", pair(runs, "grpo"), pair(runs, "archer"), "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "| toy | grpo to archer | 3 | 2 |" in text
    assert (output / "comparison.md").read_text() in text
    (difference,) = json.loads((output / "comparison.json").read_text())
    assert (difference["names"], difference["seeds"]) == (["grpo", "archer"], 2)
    assert {path.name for path in output.iterdir()} >= {"comparison.png", "comparison.svg"}


def test_without_matplotlib_there_is_a_table_but_no_figure(runs, capsys, monkeypatch):
    monkeypatch.setattr("trl_archer.commands.compare.find_spec", lambda name: None)
    assert main(["compare", pair(runs, "grpo"), pair(runs, "archer"), "--output", str(runs / "out")]) == 0
    assert "Run `pip install 'trl-archer[plots]'`" in capsys.readouterr().out
    assert {path.name for path in (runs / "out").iterdir()} == {"comparison.md", "comparison.json"}


def test_all_pairs(runs, capsys):
    three = [pair(runs, "grpo"), pair(runs, "archer"), pair(runs, "grpo").replace("grpo=", "again=")]
    assert main(["compare", *three, "--all-pairs", "--output", str(runs / "out")]) == 0
    assert capsys.readouterr().out.count("| toy |") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grpo"], "alone has nothing to be compared with"),
        (["grpo", "grpo"], "Two runs are called 'grpo'"),
        (["grpo", "missing"], "There is no evaluation in"),
    ],
)
def test_refusals(arguments, message, runs, capsys):
    names = [f"{name}={runs / name / 'seed-0'}" for name in arguments]
    assert main(["compare", *names, "--output", str(runs / "out")]) == 2
    assert message in capsys.readouterr().err
