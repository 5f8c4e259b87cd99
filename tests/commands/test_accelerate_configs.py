"""Every accelerate configuration, read by accelerate's own classes, its launcher and its plugins."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from trl_archer.commands.forecast.setup import accelerate_file
from trl_archer.commands.train.launch import check_batch, check_precision, check_processes, deepspeed_settings
from trl_archer.commands.train.recipe import read_recipe
from trl_archer.commands.train.run import make_parser

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "examples" / "accelerate_configs").glob("*.yaml"))
EXPECTED = {  # type, processes, nodes
    "single_gpu": ("NO", 1, 1),
    "ddp": ("MULTI_GPU", 8, 1),
    "zero1": ("DEEPSPEED", 8, 1),
    "zero2": ("DEEPSPEED", 8, 1),
    "zero3": ("DEEPSPEED", 8, 1),
    "zero3_offload": ("DEEPSPEED", 8, 1),
    "zero3_2nodes": ("DEEPSPEED", 16, 2),
    "fsdp2": ("FSDP", 8, 1),
    "fsdp2_2nodes": ("FSDP", 16, 2),
}
by_name = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def config_path(name: str) -> Path:
    return ROOT / "examples" / "accelerate_configs" / f"{name}.yaml"


def launch(path: Path) -> tuple[argparse.Namespace, dict[str, str]]:
    """What accelerate's launcher makes of a configuration on the second node, without starting anything."""
    command = ["-m", "trl_archer.cli", "train", "--config", "recipe.yaml", "--learning_rate", "2e-6"]
    on_node = ["--main_process_port", "0"]
    if read_recipe(path)["num_machines"] > 1:
        on_node = ["--main_process_ip", "10.0.0.1", "--machine_rank", "1"]
    parser = launch_command_parser()
    args, _, _ = _validate_launch_command(parser.parse_args(["--config_file", str(path), *on_node, *command]))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(read_recipe(path)["deepspeed_config"])
        return args, prepare_deepspeed_cmd_env(args)[1]
    return args, prepare_multi_gpu_env(args)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the variables that a launch of a configuration would give to each process."""

    def enter(name: str) -> None:
        for key, value in launch(config_path(name))[1].items():
            if key not in os.environ or os.environ[key] != value:
                monkeypatch.setenv(key, value)

    return enter


def test_all_configurations_are_there() -> None:
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


@by_name
def test_accelerate_reads_it(path: Path) -> None:
    config = load_config_from_file(str(path))  # refuses unknown keys at the top
    assert (config.distributed_type.value, config.num_processes, config.num_machines) == EXPECTED[path.stem]
    assert config.mixed_precision == "bf16"
    known = vars(launch_command_parser().parse_args(["script.py"]))
    for section in ("deepspeed_config", "fsdp_config"):  # accelerate takes any key here, and ignores unknown ones
        assert getattr(config, section).keys() <= known.keys()
    assert read_recipe(path).keys() <= vars(config).keys()


@by_name
def test_accelerate_launches_it(path: Path) -> None:
    args, _ = launch(path)
    kind, processes, nodes = EXPECTED[path.stem]
    assert (args.use_deepspeed, args.use_fsdp, args.multi_gpu) == (
        kind == "DEEPSPEED",
        kind == "FSDP",
        kind == "MULTI_GPU",
    )
    assert int(args.nproc_per_node) == processes // nodes
    assert args.training_script == "trl_archer.cli"
    assert args.training_script_args == ["train", "--config", "recipe.yaml", "--learning_rate", "2e-6"]
    if nodes > 1:
        assert (int(args.nnodes), args.node_rank, args.rdzv_endpoint) == (2, 1, "10.0.0.1:29500")


@pytest.mark.parametrize(
    ("name", "stage", "device"),
    [
        ("zero1", 1, "none"),
        ("zero2", 2, "none"),
        ("zero3", 3, "none"),
        ("zero3_2nodes", 3, "none"),
        ("zero3_offload", 3, "cpu"),
    ],
)
def test_deepspeed_plugin(name: str, stage: int, device: str, environment: Any) -> None:
    environment(name)
    plugin = DeepSpeedPlugin()
    zero = plugin.deepspeed_config["zero_optimization"]
    assert (zero["stage"], zero["offload_optimizer"]["device"], zero["offload_param"]["device"]) == (
        stage,
        device,
        device,
    )
    # What the training arguments fill in
    for key in (
        "gradient_accumulation_steps",
        "gradient_clipping",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
    ):
        assert plugin.deepspeed_config[key] == "auto", key
    assert plugin.zero3_init_flag is (stage == 3)
    assert zero["stage3_gather_16bit_weights_on_model_save"] is (stage == 3)  # or a saved model would have no weights
    assert deepspeed_settings({"deepspeed": None}) == (
        "deepspeed_config of accelerate",
        {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto"},
    )


@pytest.mark.parametrize("name", ["fsdp2", "fsdp2_2nodes"])
def test_fsdp_plugin(name: str, environment: Any) -> None:
    environment(name)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.cpu_ram_efficient_loading is True
    assert plugin.activation_checkpointing is False  # or activations would be checkpointed twice


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_go_with_the_configuration_they_name(recipe: Path, environment: Any) -> None:
    named = accelerate_file(recipe)
    values = vars(parse_values(recipe))
    if named is None:
        check_processes(values, 1)
        return
    environment(named)
    check_processes(values, EXPECTED[named][1])
    check_batch(values, EXPECTED[named][1])
    check_precision(values)


def parse_values(recipe: Path) -> argparse.Namespace:
    """All values of a recipe by field, without making configurations of them."""
    parser = make_parser()
    parser.set_defaults_with_config(**read_recipe(recipe))
    return parser.parse_known_args([])[0]


@by_name
def test_it_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    if EXPECTED[path.stem][2] > 1:
        assert f"--config_file examples/accelerate_configs/{path.name}" in text
        assert "--main_process_ip ADDRESS --machine_rank RANK" in text
