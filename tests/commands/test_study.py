"""`trl-archer study`: its description, its order, what it runs again, and a study from end to end."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from trl_archer.cli import main
from trl_archer.commands import study as module
from trl_archer.commands.study import Study, list_runs, read_study
from trl_archer.figures.logs import read_run
from trl_archer.playground import sample_problems

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "playground.yaml"


@pytest.fixture
def config(tmp_path) -> dict[str, Any]:
    rows = [{"id": f"c{n}", "prompt": problem.prompt} for n, problem in enumerate(sample_problems("eval", 6, seed=0))]
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = {"name": "toy", "dataset": str(tmp_path / "toy.jsonl"), "columns": {"id": "id"}}
    benchmark |= {"verifier": "countdown", "max_new_tokens": 32, "k": 2}
    (tmp_path / "toy.yaml").write_text(yaml.dump(benchmark))
    return {
        "output_dir": str(tmp_path / "study"),
        "recipe": str(RECIPE),
        "methods": {"grpo": {"method": "grpo"}, "archer": {}},
        "seeds": [0, 1],
        "eval": {"benchmarks": [str(tmp_path / "toy.yaml")], "raw_prompts": True},
        "tasks": {"short": {"max_steps": 1}},
    }


@pytest.fixture(autouse=True)
def inspect_installed(request, monkeypatch):
    """Only the whole study needs Inspect."""
    if not request.node.get_closest_marker("inspect"):
        monkeypatch.setattr("trl_archer.commands.eval.find_spec", lambda name: True)


def write(config: dict[str, Any], folder: Path) -> str:
    (folder / "study.yaml").write_text(yaml.dump(config, sort_keys=False))
    return str(folder / "study.yaml")


def test_runs(config, tmp_path):
    runs = list_runs(read_study(write(config, tmp_path)))
    assert [run.name for run in runs] == [
        "short/grpo/seed-0",
        "short/archer/seed-0",
        "short/grpo/seed-1",
        "short/archer/seed-1",
    ]
    assert (runs[0].recipe["method"], runs[0].recipe["max_steps"], runs[2].recipe["seed"]) == ("grpo", 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 0]}, "seeds=[0, 0] has a seed twice"),
        ({"seeds": []}, "seeds=[] is not a list of integers"),
        ({"seeds": ["a"]}, "is not a list of integers"),
        ({"methods": {}}, "methods={} maps no names"),
        ({"methods": {"a": 1}}, "methods.a=1 does not map fields"),
        (
            {"methods": {"a": {"max_steps": 2}}},
            "methods.a sets max_steps, so the methods would not have the same budget",
        ),
        ({"methods": {"a": {"seed": 2}}}, "methods.a sets seed, which the study sets"),
        ({"method": {}}, "there is no field 'method'"),
        ({"recipe": "missing.yaml"}, "There is no recipe 'missing.yaml'"),
        ({"methods": {"a": {"epsilonn": 1}}}, "short/a/seed-0: There is no key 'epsilonn'. Did you mean 'epsilon'?"),
        ({"eval": {"benchmarks": ["aime2024"]}}, "There is no benchmark 'aime2024'"),
        (
            {"eval": {}},
            "short/grpo/seed-0: nothing evaluates it. Set eval in the study, or eval_benchmarks in its recipe.",
        ),
    ],
)
def test_refusals(changes, message, config, tmp_path, capsys):
    assert main(["study", "--config", write({**config, **changes}, tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_without_inspect_nothing_is_trained(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trl_archer.commands.eval.find_spec", lambda name: None)
    assert main(["study", "--config", write(config, tmp_path)]) == 2
    assert "needs Inspect, which is not installed. Run `pip install 'trl-archer[eval]'`" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_run_that_does_not_exist(config, tmp_path, capsys):
    assert main(["study", "--config", write(config, tmp_path), "--only", "archer"]) == 2
    assert "there is no such run" in capsys.readouterr().err


def test_lists(config, tmp_path, capsys):
    path = write(config, tmp_path)
    assert main(["study", "--config", path, "--list", "commands"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert commands[1] == f"trl-archer study --config {path} --only short/archer/seed-0"
    assert main(["study", "--config", path, "--list", "slurm"]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-3" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


class Fake:
    """Stands in for the commands of the runs; fails in those that it is told."""

    def __init__(self, failing: tuple[str, ...] = ()):
        self.calls: list[tuple[str, str, str | None]] = []
        self.failing = failing

    def __call__(self, command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        verb = command[command.index("trl_archer.cli") + 1]
        path = command[command.index("--config" if verb == "train" else "--model") + 1]
        (name,) = re.findall(r"(short/\w+/seed-\d)", path)
        self.calls.append((verb, name, env.get("CUDA_VISIBLE_DEVICES")))
        return subprocess.CompletedProcess(command, int(f"{verb} {name}" in self.failing))


def test_a_run_that_never_trained_takes_new_settings(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module.subprocess, "run", Fake(failing=("train short/grpo/seed-0",)))
    config = {**config, "seeds": [0], "methods": {"grpo": {"method": "grpo"}}}
    assert main(["study", "--config", write(config, tmp_path)]) == 1
    assert "short/grpo/seed-0: train failed with status 1: it wrote nothing (see " in capsys.readouterr().err
    monkeypatch.setattr(module.subprocess, "run", Fake())
    monkeypatch.setattr(module, "_compare", lambda *_: 0)
    assert main(["study", "--config", write({**config, "tasks": {"short": {"max_steps": 2}}}, tmp_path)]) == 0


@pytest.mark.parametrize("entries", [[{"name": "own", "dataset": "missing.jsonl"}], "own.yaml"])
def test_benchmarks_while_training_are_loaded_before_the_first_run(entries, config, tmp_path, capsys, monkeypatch):
    """A recipe may name one benchmark without a list."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("{name: own, dataset: missing.jsonl}")
    del config["eval"]
    config["tasks"] = {"short": {"eval_benchmarks": entries}}
    assert main(["study", "--config", write(config, tmp_path)]) == 2
    assert "own: there is no file 'missing.jsonl'" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_finished_run_is_never_run_again(config, tmp_path, capsys, monkeypatch):
    path = write(config, tmp_path)
    fake = Fake(failing=("eval short/archer/seed-0", "train short/grpo/seed-1"))
    monkeypatch.setattr(module.subprocess, "run", fake)
    assert main(["study", "--config", path]) == 1
    assert "2 of 4 runs failed: short/archer/seed-0, short/grpo/seed-1" in capsys.readouterr().out
    again = Fake()
    monkeypatch.setattr(module.subprocess, "run", again)
    monkeypatch.setattr(module, "_compare", lambda *_: 0)
    assert main(["study", "--config", path]) == 0
    assert [call[:2] for call in again.calls] == [
        ("eval", "short/archer/seed-0"),
        ("train", "short/grpo/seed-1"),
        ("eval", "short/grpo/seed-1"),
    ]
    changed = {**config, "tasks": {"short": {"max_steps": 2}}}
    assert main(["study", "--config", write(changed, tmp_path)]) == 2
    assert "short/grpo/seed-0, " in (refused := capsys.readouterr().err)
    assert "these runs had other settings. Delete the folders" in refused


def test_parallel_over_devices(config, tmp_path, monkeypatch):
    fake = Fake()
    monkeypatch.setattr(module.subprocess, "run", fake)
    study = Study(**{**config, "devices": ["0", "1,2", "cpu"]})
    assert module._execute(study, list_runs(study)) == []
    assert {devices for _, _, devices in fake.calls} <= {"0", "1,2", ""}
    assert len(fake.calls) == 8


@pytest.mark.slow  # in CI, `make study ARGS=--quick` does the same
def test_the_last_evaluation_while_training_is_compared(config, tmp_path, capsys, monkeypatch):
    """Without `eval`, no run is evaluated afterwards, and Inspect is not needed."""
    (benchmark,) = config.pop("eval")["benchmarks"]
    entry = json.dumps(yaml.safe_load(Path(benchmark).read_text()))
    config["tasks"] = {"short": {"max_steps": 1, "eval_benchmarks": [entry], "eval_benchmarks_steps": 1}}
    path = write({**config, "seeds": [0]}, tmp_path)
    monkeypatch.setattr("trl_archer.commands.eval.find_spec", lambda name: None)
    assert main(["study", "--config", path]) == 0, next(tmp_path.rglob("log.txt")).read_text()
    assert "toy: archer minus grpo is" in capsys.readouterr().out
    assert main(["study", "--config", path, "--list", "runs"]) == 0
    assert capsys.readouterr().out == "short/grpo/seed-0 (finished)\nshort/archer/seed-0 (finished)\n"
    assert read_run(tmp_path / "study" / "short" / "archer" / "seed-0").metrics["eval_toy/avg@2"]


@pytest.mark.inspect
def test_from_recipe_to_comparison(config, tmp_path, capsys):
    """Train, evaluate and compare; a deleted run comes back bit-equal, and no other run is touched."""
    path = write({**config, "seeds": [0]}, tmp_path)
    assert main(["study", "--config", path]) == 0, next(tmp_path.rglob("log.txt")).read_text()
    assert "short/grpo/seed-0: train" in capsys.readouterr().out
    comparison = tmp_path / "study" / "short" / "comparison" / "comparison.md"
    first = comparison.read_text()
    assert "With one training seed, nothing can be concluded about the methods." in first

    grpo, archer = (tmp_path / "study" / "short" / method / "seed-0" for method in ("grpo", "archer"))
    weights, untouched = load_file(archer / "model.safetensors"), (grpo / "model.safetensors").stat().st_mtime_ns
    shutil.rmtree(archer)
    assert main(["study", "--config", path]) == 0
    assert (grpo / "model.safetensors").stat().st_mtime_ns == untouched
    again = load_file(archer / "model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert comparison.read_text() == first
