"""The strict parser, and every recipe in the real configuration classes."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

import pytest
from datasets import Dataset
from trl import ModelConfig

from trl_archer import ArcherGRPOConfig
from trl_archer.commands.recipes import find_file
from trl_archer.commands.train import launch
from trl_archer.commands.train.arguments import TrainArguments
from trl_archer.commands.train.columns import map_columns
from trl_archer.commands.train.launch import BatchGeometry, batch_geometry
from trl_archer.commands.train.prompts import format_prompts
from trl_archer.commands.train.recipe import RecipeParser, read_recipe
from trl_archer.commands.train.run import Objective, make_parser
from trl_archer.commands.train.run import parse as parse_run
from trl_archer.grpo.config import DurableGRPOConfig
from trl_archer.rewards.named import REWARDS

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
PAPER = {  # what the paper and its reference code say, by recipe: tokens of a response, rollouts
    "math_r1_distill_qwen_1.5b": (32768, 520),
    "math_qwen3_4b": (8192, 520),
    "math_qwen3_8b": (6144, 520),
    "math_qwen3_30b_a3b": (8192, 520),
    "code_r1_distill_qwen_1.5b": (32768, 320),
}
# Prompts and responses per rollout, prompts and number of updates, passes
OTHERS = {
    "lora_24gb": (16, 8, 8, 6, 3),
    "qlora_24gb": (8, 8, 4, 6, 3),
    "playground": (32, 8, 8, 4, 1),
    "math_qwen2.5_0.5b_24gb": (32, 8, 16, 6, 3),
    "math_qwen3_0.6b_1gpu": (32, 16, 16, 6, 3),
    "math_qwen3_1.7b_1gpu": (32, 16, 16, 6, 3),
    "math_qwen2.5_1.5b_8gpu": (64, 16, 32, 6, 3),
}
by_name = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
of_the_paper = pytest.mark.parametrize("name", PAPER)


@dataclass
class Some:
    count: int = 3
    rate: float = 0.5
    names: list[str] | None = None
    mode: str = field(default="fast", metadata={"choices": ["fast", "slow"]})
    flag: bool = True
    limit: float | None = 1.0
    text: str | None = None
    options: dict | str | None = None
    place: str | None | Literal[False] = None  # noqa: RUF036  (in the order that transformers has)


def parse(tmp_path: Path, recipe: str, *flags: str, **kwargs: Any) -> Some:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    some, *_ = RecipeParser(Some, **kwargs).parse_args_and_config(["--config", str(path), *flags])
    return some


def load(path: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> tuple[TrainArguments, Any, Any]:
    """A recipe as its run would see it, on the number of processes that it names."""
    processes = read_recipe(path).get("num_processes", 1)
    monkeypatch.setattr(launch, "launched_processes", lambda: processes)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None))  # vLLM counts as installed
    monkeypatch.setattr(DurableGRPOConfig, "world_size", processes)
    parser = make_parser(Objective("grpo" if "grpo" in flags else "archer"))
    made = parser.parse_args_and_config(["--config", str(path), "--use_cpu", *flags])
    return made[0], made[1], made[2]


def test_values_of_a_recipe(tmp_path: Path) -> None:
    recipe = "count: 5\nrate: 1e-6\nnames: one\nmode: slow\nflag: false\nlimit: null\ntext: 7\noptions: {a: 1}\n"
    assert parse(tmp_path, recipe) == Some(5, 1e-6, ["one"], "slow", False, None, "7", {"a": 1})
    assert parse(tmp_path, "names: [a, 2]\nrate: 2\n") == Some(rate=2.0, names=["a", "2"])


def test_flags_override_the_recipe(tmp_path: Path) -> None:
    made = parse(tmp_path, "count: 5\nrate: 0.1\n", "--count", "6", "--names", "a", "b", "--no_flag", "--limit", "none")
    assert made == Some(6, 0.1, ["a", "b"], flag=False, limit=None)


def test_false_for_a_name(tmp_path: Path) -> None:
    """As in `trackio_static_space_id: false`, which keeps completions from a public page."""
    assert parse(tmp_path, "place: false\n").place is False
    assert parse(tmp_path, "place: there\n").place == "there"
    assert parse(tmp_path, "place: there\n", "--place", "False").place is False
    assert parse(tmp_path, "place: null\n").place is None
    with pytest.raises(ValueError, match="place: True is not a valid name or false"):
        parse(tmp_path, "place: true\n")
    with pytest.raises(ValueError, match="--place: 'true' is not a valid name or false"):
        parse(tmp_path, "count: 1\n", "--place", "true")


def test_recipe_after_an_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("count: 9")
    (made, *_) = RecipeParser(Some).parse_args_and_config([f"--config={tmp_path / 'r.yaml'}"])
    assert made.count == 9


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("cuont: 5", "There is no key 'cuont'. Did you mean 'count'?"),
        ("zzz: 5", "There is no key 'zzz'. `trl-archer train --help`"),
        ("config: other.yaml", "There is no key 'config'."),
        ("count: 5\ncount: 6", "duplicate key 'count'"),
        ("options:\n  a: 1\n  a: 2", "duplicate key 'a'"),
        ("count: 5.5", "count: 5.5 is not a valid int."),
        ("count: many", "count: 'many' is not a valid int."),
        ("count: [1, 2]", "count takes a single value, not [1, 2]."),
        ("count: true", "count: YAML reads a bare yes, no, on or off as true or false (True here)"),
        ("text: no", "text: YAML reads a bare yes, no, on or off"),
        ("names: [no]", "names: YAML reads a bare"),
        ("count:", "count is empty. Give it a value, or remove it for its default, 3."),
        ("flag: 2", "flag: 2 is not a valid truth value."),
        ("mode: medium", "mode: 'medium' is not one of fast, slow."),
        ("- a\n- b", "does not map names to values"),
        ("1: 2", "does not map names to values"),
        ("a: b: c", "is not valid YAML"),
    ],
)
def test_refused_recipes(tmp_path: Path, recipe: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse(tmp_path, recipe)
    assert str(tmp_path / "recipe.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cuont", "5"], "There is no flag 'cuont'. Did you mean 'count'?"),
        (["--no-flga"], "There is no flag 'no_flga'. Did you mean 'flag'?"),
        (["--cou", "5"], "There is no flag 'cou'."),
        (["--count", "many"], "argument --count: invalid int value: 'many'"),
        (["--mode", "medium"], "invalid choice: 'medium'"),
        (["stray"], "'stray' does not follow a flag."),
        (["--config", "other.yaml"], "--config is given 2 times."),
        (["--config"], "expected one argument"),
    ],
)
def test_refused_flags(tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(tmp_path, "count: 5", *flags)


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no recipe 'nowhere.yaml'"):
        RecipeParser(Some).parse_args_and_config(["--config", "nowhere.yaml"])


def test_check_sees_recipe_and_flags_before_the_classes_are_made(tmp_path: Path) -> None:
    seen: list[Any] = []

    def check(values: Mapping[str, Any], given: Collection[str]) -> None:
        seen.extend([dict(values), given])
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        parse(tmp_path, "count: 5\nrate: 1e-3", "--count", "6", "--no-flag", "--text=a", check=check)
    assert (seen[0]["count"], seen[0]["rate"], seen[0]["mode"]) == (6, 1e-3, "fast")
    assert seen[1] == {"count", "rate", "flag", "text"}


def test_all_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == {*PAPER, *OTHERS}


@by_name
def test_recipe_fits_the_real_classes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, config, model = load(path, monkeypatch)
    assert isinstance(config, ArcherGRPOConfig)
    assert isinstance(model, ModelConfig)
    values = {**vars(config), **vars(model), **vars(arguments)}
    for key, value in read_recipe(path).items():
        taken = values[key]
        if key == "lora_target_modules":
            taken = [taken] if isinstance(taken, str) else taken
        if key == "report_to":
            taken = taken or "none"
        value = [value] if isinstance(taken, list) and not isinstance(value, list) else value
        assert taken == pytest.approx(value) if isinstance(value, float) else taken == value, key
    assert {entry["name"] for entry in arguments.rewards} <= REWARDS.keys()
    assert not config.strictly_on_policy  # or no clip range acts


@by_name
def test_recipe_refuses_unknown_keys(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / path.name
    changed.write_text(path.read_text() + "\nepsilon_reasonning: 0.4\n")
    with pytest.raises(ValueError, match=r"There is no key 'epsilon_reasonning'. Did you mean 'epsilon_reasoning'"):
        load(changed, monkeypatch)


@by_name
def test_recipe_opens_with_command_hardware_and_numbers(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert re.search(rf"train --config {re.escape(path.stem)}$", head, re.M)
    assert "\n# Hardware: " in head
    assert "\n# Expect" in head
    assert (path.stem == "playground") != ("not run here" in head.lower())
    for name in re.findall(r"recipes --path (\w+)", head):
        assert find_file(name, "accelerate_configs").is_file()
    assert path.stem == "playground" or "--method grpo --output_dir runs/" in head


@by_name
def test_grpo_trains_with_the_settings_of_the_recipe(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem == "playground":
        pytest.skip("the toy recipe keeps the defaults of both methods")
    _, archer, _ = load(path, monkeypatch)
    arguments, config, _ = load(path, monkeypatch, "--method", "grpo")
    assert (arguments.method, type(config)) == ("grpo", DurableGRPOConfig)
    kept = (
        "epsilon delta beta num_iterations generation_batch_size learning_rate max_steps eval_steps loss_type".split()
    )
    assert {name: getattr(config, name) for name in kept} == {name: getattr(archer, name) for name in kept}


@pytest.mark.parametrize("name", [name for name in PAPER if "30b" not in name])
def test_recipes_of_the_paper_on_one_node(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the flags in their headers, the batch stays that of the paper."""
    monkeypatch.setattr(launch, "launched_processes", lambda: 8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(DurableGRPOConfig, "world_size", 8)
    _, config, _ = parse_run(["--config", name, "--num_processes", "8", "--use_cpu"])
    assert batch_geometry(config).prompts_per_update == 32
    assert batch_geometry(config).prompts == 64


@of_the_paper
def test_batch_of_the_paper(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, _ = load(ROOT / "examples" / "recipes" / f"{name}.yaml", monkeypatch)
    geometry = batch_geometry(config)
    assert geometry == BatchGeometry(
        prompts=Fraction(64), responses=16, prompts_per_update=Fraction(32), updates_per_rollout=Fraction(6), passes=3
    )
    assert (
        str(geometry) == "64 prompts x 16 responses per rollout; 6 updates per rollout, of 32 prompts each, in 3 passes"
    )
    length, rollouts = PAPER[name]
    assert config.max_steps == rollouts * geometry.updates_per_rollout
    assert config.warmup_steps == 10 * geometry.updates_per_rollout
    assert config.save_steps == 10 * geometry.updates_per_rollout
    assert config.max_completion_length == length


@of_the_paper
def test_settings_of_the_paper(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, config, model = load(ROOT / "examples" / "recipes" / f"{name}.yaml", monkeypatch)
    paper = {
        "entropy_quantile": 0.8,
        "epsilon": 0.2,
        "epsilon_high": None,
        "epsilon_reasoning": 0.5,
        "epsilon_reasoning_high": None,
        "beta": 0.001,
        "beta_reasoning": 0.0,
        "gate_width": 0.0,
        "delta": 10.0,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "mask_zero_std_groups": True,
        "use_bias_correction_kl": False,
        "mask_truncated_completions": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant_with_warmup",
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
    }
    assert {key: getattr(config, key) for key in paper} == paper
    assert arguments.max_prompt_length == 2048
    assert config.vllm_max_model_length == 2048 + config.max_completion_length
    assert model.dtype == "float32"
    assert not model.use_peft
    assert config.bf16
    assert arguments.num_processes == 16
    assert 16 % config.vllm_tensor_parallel_size == 0


@pytest.mark.parametrize("name", [name for name in PAPER if name.startswith("math")])
def test_prompts_of_the_math_recipes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, _, _ = load(ROOT / "examples" / "recipes" / f"{name}.yaml", monkeypatch)
    row = {"problem": "1 + 1 = ?", "answer": "2", "solution": "Two, as ..."}  # the columns of DeepScaleR
    data = format_prompts(map_columns(Dataset.from_list([row]), arguments.columns, "x"), arguments, "x")
    text = "1 + 1 = ?\n\nReason step by step, and put the final answer into \\boxed{}."
    assert data.to_list() == [{"solution": "2", "prompt": [{"role": "user", "content": text}]}]


@pytest.mark.parametrize("name", OTHERS)
def test_batch_of_the_other_recipes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, _ = load(ROOT / "examples" / "recipes" / f"{name}.yaml", monkeypatch)
    geometry = batch_geometry(config)
    assert geometry == BatchGeometry(*OTHERS[name])
    assert config.max_steps % geometry.updates_per_rollout == 0
    assert config.save_strategy == "no" or config.save_steps % geometry.updates_per_rollout == 0
