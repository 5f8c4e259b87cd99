"""Batch, precision and DeepSpeed's settings against each other, before anything is loaded."""

import json
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trl_archer.commands.train import launch
from trl_archer.commands.train.launch import (
    BatchGeometry,
    batch_geometry,
    check_batch,
    check_deepspeed,
    check_devices,
    check_launch,
    check_precision,
    check_processes,
    check_vllm,
    deepspeed_settings,
)
from trl_archer.commands.train.run import make_parser

AUTO = {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return vars(make_parser().parse_known_args([])[0])


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIXED_PRECISION", "USE_DEEPSPEED", "DEEPSPEED_CONFIG_FILE", "GRADIENT_ACCUMULATION_STEPS"):
        monkeypatch.delenv(f"ACCELERATE_{name}", raising=False)
    monkeypatch.delenv("ACCELERATE_GRADIENT_CLIPPING", raising=False)
    for name in ("WORLD_SIZE", "MASTER_PORT", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


def installed(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


def test_processes_that_accelerate_did_not_start(monkeypatch: pytest.MonkeyPatch, defaults: dict[str, Any]) -> None:
    """`accelerate launch --cpu --num_processes 2` sets these variables and starts one process."""
    monkeypatch.setenv("MASTER_PORT", "29500")
    check_launch(defaults)  # set by the user, for something else
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    with pytest.raises(ValueError, match="asked for several processes on the CPU but started one"):
        check_launch(defaults)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch(defaults)


def test_defaults_pass(defaults: dict[str, Any]) -> None:
    check_launch(defaults)


@pytest.mark.parametrize(
    ("values", "processes"),
    [
        ({"generation_batch_size": 1024, "num_generations": 16, "per_device_train_batch_size": 2}, 16),
        ({"steps_per_generation": 4, "num_generations": 16, "per_device_train_batch_size": 2}, 2),
        ({"num_generations": 8, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}, 1),
        ({"eval_strategy": "steps", "per_device_eval_batch_size": 2, "num_generations_eval": 4}, 2),
    ],
)
def test_batches_that_fit(defaults: dict[str, Any], values: dict[str, Any], processes: int) -> None:
    check_batch({**defaults, **values}, processes)


@pytest.mark.parametrize(
    ("values", "processes", "message"),
    [
        (
            {"generation_batch_size": 1024, "per_device_train_batch_size": 3},
            16,
            "generation_batch_size=1024 is not a multiple of 48 (per_device_train_batch_size=3 x 16 processes). Set "
            "it to 1008 or 1056",
        ),
        (
            {"num_generations": 8, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
            3,
            "A rollout of 12 completions (per_device_train_batch_size=1 x 3 processes x gradient_accumulation_steps=4) "
            "is not a whole number of groups of num_generations=8. Make it 8 or 16",
        ),
        (
            {"num_generations": 8, "per_device_train_batch_size": 2, "steps_per_generation": 3},
            1,
            "(per_device_train_batch_size=2 x 1 process x steps_per_generation=3) is not a whole number",
        ),
        (
            {"num_generations": 16, "generation_batch_size": 24},
            1,
            "A rollout of 24 completions (generation_batch_size) is not a whole number of groups of "
            "num_generations=16. Make it 16 or 32",
        ),
        ({"num_generations": 1}, 1, "num_generations=1 is below 2"),
        ({"generation_batch_size": 64, "steps_per_generation": 2}, 1, "set the same value. Keep one."),
        ({"per_device_train_batch_size": 0}, 1, "per_device_train_batch_size=0 is below 1."),
        ({"num_iterations": 0}, 1, "num_iterations=0 is below 1."),
        ({"steps_per_generation": -1}, 1, "steps_per_generation=-1 is below 1."),
        (
            {"eval_strategy": "steps", "per_device_eval_batch_size": 3},
            2,
            "An evaluation batch of 6 completions (per_device_eval_batch_size=3 x 2 processes) is not a whole number "
            "of groups of 8.",
        ),
    ],
)
def test_batches_that_do_not_fit(
    defaults: dict[str, Any], values: dict[str, Any], processes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_batch({**defaults, **values}, processes)


def test_other_number_of_processes_than_the_recipe_is_for(defaults: dict[str, Any]) -> None:
    values = {**defaults, "num_processes": 16, "gradient_accumulation_steps": 16}
    check_processes(values, 16)
    with pytest.raises(ValueError, match="written for num_processes=16, but 8 started") as error:
        check_processes(values, 8)
    assert "accelerate launch --num_processes 16 -m trl_archer.cli train" in str(error.value)
    assert "set num_processes to 8 and keep the batch size of an update with gradient_accumulation_steps=32" in str(
        error.value
    )
    with pytest.raises(ValueError, match="with other values of per_device_train_batch_size and gradient"):
        check_processes(values, 3)


def test_vllm(defaults: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {**defaults, "use_vllm": True, "vllm_tensor_parallel_size": 4}
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ValueError, match=r"use_vllm=True, but vLLM is not installed"):
        check_vllm(values, 8)
    monkeypatch.setitem(sys.modules, "vllm", installed("vllm"))
    check_vllm(values, 8)
    check_vllm({**values, "vllm_mode": "server"}, 6)
    with pytest.raises(ValueError, match="vllm_tensor_parallel_size=4 does not divide 6 processes"):
        check_vllm(values, 6)


@pytest.mark.parametrize(
    ("launched", "values", "fine"),
    [
        ("no", {}, True),
        ("bf16", {}, True),
        ("bf16", {"bf16": True}, True),
        ("fp16", {"fp16": True}, True),
        ("bf16", {"bf16": False}, False),
        ("fp16", {}, False),
        ("bf16", {"fp16": True}, False),
        ("fp8", {}, False),
    ],
)
def test_precision(
    defaults: dict[str, Any], monkeypatch: pytest.MonkeyPatch, launched: str, values: dict[str, Any], fine: bool
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    if fine:
        check_precision({**defaults, **values})
    else:
        with pytest.raises(ValueError, match=f"mixed_precision='{launched}' of accelerate contradicts"):
            check_precision({**defaults, **values})


def test_deepspeed_that_fits(defaults: dict[str, Any]) -> None:
    check_deepspeed("ds.json", {**AUTO, "bf16": {"enabled": "auto"}, "fp16": {"enabled": False}}, defaults, 8)
    exact = {
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": 4,
        "train_batch_size": 256,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "optimizer": {"params": {"lr": 1e-6, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}},
    }
    check_deepspeed("ds.json", exact, {**defaults, "gradient_accumulation_steps": 4}, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_accumulation_steps": 8}, "gradient_accumulation_steps is 8, but gradient_accumulation_steps is 4"),
        ({"train_micro_batch_size_per_gpu": 4}, "is 4, but per_device_train_batch_size is 8"),
        (
            {"train_batch_size": 128},
            "is 128, but per_device_train_batch_size x 8 processes x gradient_accumulation_steps is 256",
        ),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5, but max_grad_norm is 1.0"),
        (
            {"gradient_clipping": None},
            "gradient_clipping is missing, so max_grad_norm=1.0 would not reach DeepSpeed",
        ),
        ({"gradient_accumulation_steps": None}, "is missing, which accelerate reads as 1, not 4"),
        ({"bf16": {"enabled": False}}, "bf16.enabled is False, but bf16 is True"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is True, but fp16 is False"),
        ({"optimizer": {"params": {"lr": 1e-5}}}, "optimizer.params.lr is 1e-05, but learning_rate is 1e-06"),
    ],
)
def test_deepspeed_that_contradicts(defaults: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    settings = {key: value for key, value in {**AUTO, **settings}.items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        check_deepspeed("ds.json", settings, {**defaults, "gradient_accumulation_steps": 4}, 8)
    assert str(error.value).startswith("ds.json contradicts the training arguments: ")
    assert "Write 'auto' in ds.json" in str(error.value)


def test_all_contradictions_are_named_at_once(defaults: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps is 8.*; gradient_clipping is missing"):
        check_deepspeed("ds.json", {"gradient_accumulation_steps": 8}, defaults, 1)


def test_where_deepspeeds_settings_come_from(
    tmp_path: Path, defaults: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "ds.json")
    Path(path).write_text(json.dumps(AUTO))
    assert deepspeed_settings(defaults) is None
    assert deepspeed_settings({"deepspeed": AUTO}) == ("deepspeed", AUTO)
    assert deepspeed_settings({"deepspeed": json.dumps(AUTO)}) == ("deepspeed", AUTO)
    assert deepspeed_settings({"deepspeed": path}) == (path, AUTO)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", path)
    assert deepspeed_settings(defaults) is None  # of no meaning without the next
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert deepspeed_settings(defaults) == (path, AUTO)


def test_fields_of_accelerates_own_file(defaults: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ValueError, match="DeepSpeed is not installed"):
        check_launch(defaults)
    monkeypatch.setitem(sys.modules, "deepspeed", installed("deepspeed"))
    check_launch(defaults)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    check_launch(defaults)
    with pytest.raises(
        ValueError, match=r"deepspeed_config of accelerate contradicts .* gradient_accumulation_steps is 1"
    ):
        check_launch({**defaults, "gradient_accumulation_steps": 4})
    monkeypatch.setenv("ACCELERATE_GRADIENT_CLIPPING", "0.0")  # which accelerate leaves out
    with pytest.raises(ValueError, match="gradient_clipping is missing"):
        check_launch(defaults)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_unreadable_deepspeed_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ds.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        deepspeed_settings({"deepspeed": str(path)})
    with pytest.raises(ValueError, match=r"'nowhere.json' cannot be read"):
        deepspeed_settings({"deepspeed": "nowhere.json"})


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(SimpleNamespace(world_size=1, n_gpu=1))  # type: ignore[arg-type]
    check_devices(SimpleNamespace(world_size=1, n_gpu=0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"One process sees 8 GPUs.*accelerate launch --num_processes 8"):
        check_devices(SimpleNamespace(world_size=1, n_gpu=8))  # type: ignore[arg-type]
    monkeypatch.setattr(launch, "launched_processes", lambda: 2)
    with pytest.raises(ValueError, match=r"2 processes were launched, but each trains alone"):
        check_devices(SimpleNamespace(world_size=1, n_gpu=0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "steps", "passes", "expected"),
    [
        (1024, 16, 3, (64, 16, 32, 6, 3)),
        (512, 16, 1, (32, 16, 32, 1, 1)),
        (256, 16, 1, (16, 16, 32, 0.5, 1)),
        (64, 1, 1, (4, 16, 2, 2, 1)),
    ],
)
def test_batch_geometry(batch: int, steps: int, passes: int, expected: tuple[float, ...]) -> None:
    args: Any = SimpleNamespace(
        generation_batch_size=batch,
        per_device_train_batch_size=2,
        world_size=16,
        gradient_accumulation_steps=steps,
        num_generations=16,
        num_iterations=passes,
    )
    assert batch_geometry(args) == BatchGeometry(*expected)  # type: ignore[arg-type]
