"""Presets set the objective of a paper, over the recipe or under it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from trl_archer import ArcherGRPOConfig
from trl_archer.commands.train.presets import PRESETS
from trl_archer.commands.train.run import main, parse
from trl_archer.methods import MethodConfig

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "recipes" / "playground.yaml"
ON_POLICY = ["--steps_per_generation", "1"]


def parsed(tmp_path: Path, *flags: str, recipe: str = "") -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.read_text() + recipe)
    return parse(["--config", str(path), "--output_dir", str(tmp_path / "out"), *flags])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_its_values(tmp_path: Path, name: str) -> None:
    arguments, config, _ = parsed(tmp_path, "--preset", name, *(ON_POLICY if name == "opefo" else []))
    preset = PRESETS[name]
    assert arguments.method == preset.method
    assert arguments.preset == name
    assert {key: getattr(config, key) for key in preset.values} == preset.values
    assert isinstance(config, ArcherGRPOConfig) == (preset.method == "archer")


def test_archer_presets_leave_no_field_of_the_objective_to_the_recipe() -> None:
    """Otherwise a comparison of presets on one recipe would mix them."""
    selecting = {"surrogate", "clip_range", "token_weights"}
    own = {f.name for f in fields(MethodConfig)} & selecting
    constraints = {"epsilon", "epsilon_high", "epsilon_reasoning", "epsilon_reasoning_high", "beta", "delta"}
    for name, preset in PRESETS.items():
        needed = own | constraints | {"loss_type"} if preset.method == "archer" else {"loss_type", "epsilon", "beta"}
        assert needed <= preset.values.keys(), name


def test_archer_is_the_default() -> None:
    defaults = {f.name: f.default for f in fields(ArcherGRPOConfig)}
    differs = {"num_iterations", "delta"}  # three passes, and the dual clip of the reference code
    for name, value in PRESETS["archer"].values.items():
        default = defaults[name.removesuffix("_high")] if defaults[name] is None else defaults[name]
        assert (value == default) == (name not in differs), name


def test_a_flag_replaces_the_recipe_and_other_flags_replace_the_preset(tmp_path: Path) -> None:
    own = "epsilon_reasoning: 0.7\ndelta: 10.0\n"
    _, config, _ = parsed(tmp_path, "--preset", "archer2", "--aspo_cap", "2.5", recipe=own)
    assert (config.epsilon_reasoning, config.delta, config.aspo_cap) == (0.4, None, 2.5)
    _, config, _ = parsed(tmp_path, "--preset", "archer2", "--epsilon_reasoning", "0.3", recipe=own)
    assert config.epsilon_reasoning == 0.3


def test_a_recipe_replaces_its_own_preset(tmp_path: Path) -> None:
    _, config, _ = parsed(tmp_path, recipe="preset: archer2\nepsilon_reasoning: 0.7\n")
    assert (config.surrogate, config.epsilon_reasoning, config.beta_reasoning) == ("aspo", 0.7, 0.001)
    _, config, _ = parsed(tmp_path, "--preset", "dapo", recipe="preset: archer2\n")
    assert (config.loss_type, config.epsilon_high, hasattr(config, "surrogate")) == ("dapo", 0.28, False)


def test_without_a_recipe(tmp_path: Path) -> None:
    flags = "--model_name_or_path playground --dataset_name playground --reward_funcs countdown --use_cpu true"
    *_, config, _ = parse([*flags.split(), "--bf16", "false", "--output_dir", str(tmp_path), "--preset", "archer2"])
    assert config.surrogate == "aspo"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "opefoo"], "There is no preset 'opefoo'. Did you mean 'opefo'?"),
        (["--preset", "dapo", "--method", "archer"], "preset='dapo' belongs to method='grpo', not 'archer'"),
        (["--preset", "opefo"], "steps_per_generation to gradient_accumulation_steps"),
    ],
)
def test_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["--config", str(RECIPE), "--output_dir", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Forty steps on the playground raise the reward, or with OPEFO the entropy; see docs/methods.md."""
    flags = ["--max_steps", "40", *(ON_POLICY if name == "opefo" else [])]
    argv = ["--config", str(RECIPE), "--output_dir", str(tmp_path), "--preset", name, *flags]
    assert main(argv) == 0
    out = capsys.readouterr().out
    measure = "entropy" if name == "opefo" else "reward"
    values = [float(line.split(f"{measure} ")[1].split()[0]) for line in out.splitlines() if line.startswith("step ")]
    assert len(values) == 10
    assert sum(values[-3:]) / 3 > values[0] + (0.01 if name == "opefo" else 0.03)
