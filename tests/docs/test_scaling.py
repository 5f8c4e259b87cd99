"""The memory formula against tiny models, and the guide that it fills."""

import json
import re
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.environment import load
from benchmarks.scaling import measured
from benchmarks.scaling.__main__ import describe, main, parse
from benchmarks.scaling.guide import CONFIGS, choices, fits, guide, recipes
from benchmarks.scaling.shipped import RECIPES, gpu_of, read_setup
from trl_archer.commands.forecast.hardware import GIB, GPUS
from trl_archer.commands.forecast.memory import SUB_GROUP, estimate, head_backward, model_states, passing
from trl_archer.commands.forecast.models import MODELS, PAPER
from trl_archer.commands.forecast.setup import SHARDING, Setup

ROOT = Path(__file__).parents[2]
TRAINED = [path for path in sorted(RECIPES.glob("*.yaml")) if path.stem != "playground"]
# From the repositories' safetensors; a tied LM head counts once
PARAMETERS = {
    "r1-distill-qwen-1.5b": 1_777_088_000,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
}


def setup(model: str = "qwen3-8b", gpus: int = 16, sharding: str = "zero3", **changes: object) -> Setup:
    base = Setup(MODELS[model], GPUS["h100"], gpus, sharding, micro_batch=2, prompt=2048, completion=6144)
    return replace(base, **changes)  # type: ignore[arg-type]


# Shapes


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_model(name: str) -> None:
    shape = MODELS[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(measured.configuration(shape))
    assert sum(p.numel() for p in model.parameters()) == shape.parameters == PARAMETERS[name]
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    assert layer == shape.layer
    linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert shape.lora(32) == 32 * sum(m.in_features + m.out_features for m in linear)


# Memory


@pytest.mark.slow  # half an hour on a CPU without fast bf16
@pytest.mark.parametrize("name", measured.CASES)
def test_activations_of_tiny_models(name: str) -> None:
    found = measured.measure(measured.CASES[name])
    if "saved" in found:
        assert found["predicted_saved"] == pytest.approx(found["saved"], rel=0.02)
    tolerance = 0.10 if measured.CASES[name].checkpointing else 0.03
    assert found["predicted_peak"] == pytest.approx(found["peak"], rel=tolerance)


@pytest.mark.skipif(
    Version(version("trl")) < Version("1.16"), reason="TRL 1.15's head is a Triton kernel, which a CPU only emulates"
)
@pytest.mark.parametrize("name", measured.HEADS)
def test_activations_of_the_fused_head(name: str) -> None:
    found = measured.measure_head(*measured.HEADS[name])
    assert found["predicted_peak"] == pytest.approx(found["peak"], rel=0.05)


def test_a_tile_bounds_the_logits() -> None:
    made, tokens = setup(), 81920
    logits = 2 * tokens * made.model.vocabulary
    assert head_backward(made, 4096) - head_backward(made, 2048) == 2048 * (2 * 32768 + 8 * 4096)
    assert head_backward(made, tokens) < logits / 3


@pytest.mark.parametrize("name", ["Qwen2, autocast", "Qwen3, autocast, checkpointing"])  # untied, tied
def test_states_of_tiny_models(name: str) -> None:
    case = replace(measured.CASES[name], tokens=16)
    model = measured.build(case)
    measured.forward(model, case).backward()
    predicted = model_states(replace(case.setup, reference=False))
    assert measured.states(model) == {part: predicted[part] for part in ("weights", "gradients", "optimizer")}


@pytest.mark.parametrize(
    ("sharding", "bytes_per_weight"),  # on 16 GPUs: weights, gradients, optimizer, reference
    [
        ("none", (4, 4, 8, 4)),
        ("zero1", (2, 2, 12 / 16, 2)),
        ("zero2", (2, 2 / 16, 12 / 16, 2)),
        ("zero3", (2 / 16, 2 / 16, 12 / 16, 2 / 16)),
        ("zero3_offload", (0, 0, 0, 2 / 16)),
        ("fsdp2", (4 / 16, 4 / 16, 8 / 16, 4 / 16)),
    ],
)
def test_states_are_split(sharding: str, bytes_per_weight: tuple[float, ...]) -> None:
    made = setup(sharding=sharding)
    names = ("weights", "gradients", "optimizer", "reference")
    assert model_states(made) == {n: b * made.model.parameters for n, b in zip(names, bytes_per_weight, strict=True)}
    assert model_states(replace(made, reference=False))["reference"] == 0


def test_an_adapter_has_no_reference_and_small_states() -> None:
    made = setup("qwen2.5-1.5b", 1, "none", lora_rank=32, dtype="bfloat16")
    trained = made.model.lora(32)
    expected = {"weights": 2 * made.model.parameters + 4 * trained, "gradients": 4 * trained, "optimizer": 8 * trained}
    assert model_states(made) == {**expected, "reference": 0}
    assert passing(made, 8192) < passing(replace(made, lora_rank=None), 8192)  # no gradient of the LM head


def held_bytes(parameter: torch.nn.Parameter) -> int:
    """Bytes of a weight as stored; in 4 bits, with its scales, their scales and code tables."""
    state = getattr(parameter, "quant_state", None)
    scales = [] if state is None else [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.numel() * tensor.element_size() for tensor in [parameter, *scales])


def test_weights_in_four_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes does not support this platform")
    case = measured.CASES["Qwen2"]
    measured.build(case).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, quantization_config=config)
    made = replace(case.setup, lora_rank=8, quantized=True)
    held = sum(held_bytes(parameter) for parameter in model.parameters())
    frozen = model_states(made)["weights"] - 4 * made.trained
    assert frozen == pytest.approx(held, rel=0.01)
    assert frozen < 0.35 * 2 * case.shape.parameters


def test_quantized_setups_that_are_modeled() -> None:
    made = setup("qwen2.5-7b", 1, "none", lora_rank=32, dtype="bfloat16", quantized=True)
    matrix = 2 * 3584 * 18944  # the largest one unpacked
    assert passing(made, 16384) - passing(replace(made, quantized=False), 16384) == matrix
    sampled = estimate(replace(made, vllm="none"))
    assert sampled.phase == "generation"
    assert sampled.largest == "cache"  # of all completions of the rollout
    assert "generation_batch_size" in (sampled.problem or "")
    for changes in ({"lora_rank": None}, {"sharding": "zero2"}, {"model": MODELS["qwen3-30b-a3b"]}):
        with pytest.raises(ValueError, match="quantized=True is modeled for adapters of dense models"):
            replace(made, **changes)


def test_phases() -> None:
    awake, asleep = estimate(setup()), estimate(setup(sleep=True))
    share = 0.4 * 80 * GIB
    assert awake.phases["generation"] == asleep.phases["generation"]
    assert awake.phases["update"] - asleep.phases["update"] == share - 2 * GIB
    assert awake.parts["vLLM"] == share
    assert estimate(setup(vllm="server")).parts["vLLM"] == 0
    wide = estimate(setup(gpus=1, sharding="zero3")).phases["optimizer"]
    assert wide > 16 * MODELS["qwen3-8b"].parameters + 4 * SUB_GROUP  # one sub-group at a time in float32
    assert awake.total == sum(awake.parts.values()) == max(awake.phases.values())


@pytest.mark.parametrize(
    ("changes", "phase", "advice"),
    [
        ({"utilization": 0.9}, "update", "vllm_enable_sleep_mode"),
        ({"micro_batch": 32, "sleep": True}, "update", "per_device_train_batch_size"),
        ({"gpus": 1, "sharding": "none", "vllm": "server"}, "update", "ZeRO-3"),
        ({"utilization": 0.25, "prompt": 30000}, None, "vllm_gpu_memory_utilization"),
    ],
)
def test_setups_that_do_not_fit_name_a_fix(changes: dict[str, object], phase: str | None, advice: str) -> None:
    problem = estimate(setup(**changes)).problem  # type: ignore[arg-type]
    assert problem is not None
    assert advice in problem
    assert phase is None or f"The {phase} phase" in problem


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_shipped_recipes_fit(path: Path) -> None:
    made = estimate(read_setup(path, gpu_of(path)))
    assert made.problem is None
    assert made.total <= made.capacity


def test_recipes_are_read() -> None:
    made = read_setup(RECIPES / "math_qwen3_30b_a3b.yaml", GPUS["h800"])
    assert (made.gpus, made.sharding, made.tensor_parallel, made.sleep) == (16, "zero3", 4, True)
    assert (made.completions, made.micro_batch) == (1024, 2)
    states = model_states(made)
    assert sum(states.values()) / 1e9 == pytest.approx(
        35, abs=1
    )  # the number in the recipe's header, with the reference
    lora = read_setup(RECIPES / "lora_24gb.yaml", GPUS["a10"])
    assert (lora.sharding, lora.lora_rank, lora.gpus) == ("none", 32, 1)
    qlora = read_setup(RECIPES / "qlora_24gb.yaml", GPUS["a10"])
    assert (qlora.quantized, qlora.vllm, qlora.dtype) == (True, "none", "bfloat16")


def test_guide_takes_the_first_shipped_configuration_that_fits() -> None:
    rows = guide()
    assert len(rows) == len(PAPER) * len(CONFIGS) * 2
    assert {row["config"] for row in rows if "config" in row} <= SHARDING.keys()
    assert all((ROOT / "examples" / "accelerate_configs" / f"{name}.yaml").is_file() for name in SHARDING)
    assert sum("config" not in row for row in rows) == 2  # 30B on one GPU, all weights or an adapter
    for row in rows:
        name = next(name for name in PAPER if MODELS[name].name == row["model"])
        tried = choices(name, row["gpus"], row["completion"], GPUS["h800"])  # type: ignore[arg-type]
        first = next((config for config, made in tried if fits(made)), None)
        assert row.get("config") == first


# Results and command


def test_results_are_those_of_the_code() -> None:
    result = load("scaling")
    assert json.loads(json.dumps(guide())) == result["guide"]
    assert json.loads(json.dumps(recipes())) == result["recipes"]
    assert result["measured"].keys() == {*measured.CASES, *(f"head, {name}" for name in measured.HEADS)}


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling", "--model", "qwen3-8b", "--gpus", "8"])
    main()
    text = capsys.readouterr().out
    assert text.endswith("\nFits.\n")
    assert "largest part: vLLM" in text
    asked = parse(["--model", "qwen3-8b", "--gpus", "1"])
    assert asked is not None
    assert asked.sharding == "none"
    assert "Does not fit. The update phase does not fit; its largest part is optimizer." in describe(asked)
    for wrong in (["--tensor-parallel", "3"], ["--config", "zero9"]):
        with pytest.raises(SystemExit) as error:
            parse(["--model", "qwen3-8b", *wrong])
        assert error.value.code == 2


@pytest.mark.parametrize("name", ["gpus", "completions", "lora-rank"])
def test_command_refuses_numbers_below_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse(["--model", "qwen3-8b", f"--{name}", "0"])
    assert error.value.code == 2
    assert re.search(rf"--{name} 0 is below 1", capsys.readouterr().err)
