"""The memory formula against tiny models, the cost model's arithmetic, the launch guide and its SLURM scripts."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from packaging.version import Version
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.environment import load
from benchmarks.scaling import measured
from benchmarks.scaling.__main__ import describe, main, parse
from benchmarks.scaling.calibration import ANCHORS, fit, paper_seconds
from benchmarks.scaling.costs import Costs
from benchmarks.scaling.forecasts import RECIPES, on, recipes
from benchmarks.scaling.generation import decode_step, generation_seconds
from benchmarks.scaling.guide import CONFIGS, choices, fits, guide
from benchmarks.scaling.hardware import GIB, GPUS
from benchmarks.scaling.lengths import draw_lengths, micro_batches
from benchmarks.scaling.memory import SUB_GROUP, estimate, head_backward, model_states, passing
from benchmarks.scaling.models import MODELS, PAPER
from benchmarks.scaling.setup import SHARDING, Setup, gpu_of, read_setup
from benchmarks.scaling.step_time import Load, collective_seconds, pass_flops, phase_seconds, rollout_seconds
from trl_archer.commands.train.run import make_parser
from trl_archer.grpo.vllm_server import start_command

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.sbatch"))
TRAINED = [path for path in sorted(RECIPES.glob("*.yaml")) if path.stem != "playground"]
# Of the repositories' safetensors, with the LM head once where it is tied
PARAMETERS = {
    "r1-distill-qwen-1.5b": 1_777_088_000,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
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
    tensors = len(list(model.parameters()))
    assert abs(tensors - shape.tensors) <= 2
    linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert shape.lora(32) == 32 * sum(m.in_features + m.out_features for m in linear)


def test_active_weights_of_the_mixture_of_experts() -> None:
    shape = MODELS["qwen3-30b-a3b"]
    assert shape.active_matrices + 2 * shape.embedding == pytest.approx(3.35e9, rel=0.01)  # "A3B": 3.3 billion


# Memory


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
    case = measured.CASES[name]
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
    """A weight as it is held; in 4 bits with its scales, and their scales and code tables."""
    state = getattr(parameter, "quant_state", None)
    scales = [] if state is None else [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.numel() * tensor.element_size() for tensor in [parameter, *scales])


def test_weights_in_four_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this platform")
    case = measured.CASES["Qwen2"]
    measured.build(case).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, quantization_config=config)
    made = replace(case.setup, lora_rank=8, quantized=True)
    held = sum(held_bytes(parameter) for parameter in model.parameters())
    frozen = model_states(made)["weights"] - 4 * made.trained
    assert frozen == pytest.approx(held, rel=0.01)
    assert frozen < 0.35 * 2 * case.shape.parameters


def test_quantized_setups_are_those_that_are_modelled() -> None:
    made = setup("qwen2.5-7b", 1, "none", lora_rank=32, dtype="bfloat16", quantized=True)
    matrix = 2 * 3584 * 18944  # the one that is unpacked
    assert passing(made, 16384) - passing(replace(made, quantized=False), 16384) == matrix
    sampled = estimate(replace(made, vllm="none"))
    assert sampled.phase == "generation"
    assert sampled.largest == "cache"  # of all completions of the rollout
    assert "generation_batch_size" in (sampled.problem or "")
    for changes in ({"lora_rank": None}, {"sharding": "zero2"}, {"model": MODELS["qwen3-30b-a3b"]}):
        with pytest.raises(ValueError, match="quantized=True is modelled for adapters of dense models"):
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
def test_what_does_not_fit_says_what_to_try(changes: dict[str, object], phase: str | None, advice: str) -> None:
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
    assert (made.gpus, made.sharding, made.nodes, made.tensor_parallel, made.sleep) == (16, "zero3", 2, 4, True)
    assert (made.prompts, made.responses, made.mini_batch, made.passes, made.micro_batch) == (64, 16, 32, 3, 2)
    states = model_states(made)
    assert sum(states.values()) / 1e9 == pytest.approx(35, abs=1)  # what the recipe's head says, reference included
    lora = read_setup(RECIPES / "lora_24gb.yaml", GPUS["a10"])
    assert (lora.sharding, lora.lora_rank, lora.gpus, lora.mini_batch) == ("none", 32, 1, 8)
    qlora = read_setup(RECIPES / "qlora_24gb.yaml", GPUS["a10"])
    assert (qlora.quantized, qlora.vllm, qlora.dtype) == (True, "none", "bfloat16")


def test_guide_takes_the_first_that_fits_and_names_what_ships() -> None:
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


# Time


def test_lengths() -> None:
    lengths = draw_lengths(1024, 8000, 32768)
    assert sum(lengths) / 1024 == pytest.approx(8000, abs=1)
    assert max(lengths) == 32768
    assert sorted(lengths) == sorted(draw_lengths(1024, 8000, 32768, seed=1))
    assert lengths != draw_lengths(1024, 8000, 32768, seed=1)
    with pytest.raises(ValueError, match=r"mean=9000 is not between 1 and longest=8192"):
        draw_lengths(16, 9000, 8192)
    assert micro_batches([5, 1, 9, 7], 2) == [(2, 9), (2, 5)]


def test_decoding_reads_weights_and_cache() -> None:
    costs, made = Costs(decode_overhead=0.0, bandwidth_share=1.0), setup()
    read = 2 * 8_190_735_360 + 4 * 1000 * 147_456  # 36 layers x keys and values x 8 heads x 128 x 2 bytes
    assert decode_step(made, costs, 4, 1000) == pytest.approx(read / 3.35e12)
    assert decode_step(replace(made, tensor_parallel=2), costs, 4, 1000) > read / 3.35e12 / 2
    experts = setup("qwen3-30b-a3b")
    one, many = (decode_step(experts, costs, count, 1) for count in (1, 512))
    assert one < 2 * 4e9 / 3.35e12  # 8 of 128 experts, and the rest
    assert many > 0.99 * 2 * experts.model.parameters / 3.35e12  # all of them


def test_generation_waits_for_the_longest_response() -> None:
    made = setup(gpus=8)
    even, skewed = [1000] * 64, [1000] * 63 + [6000]
    times = [generation_seconds(made, Costs(), lengths, 100) for lengths in (even, skewed)]
    assert times[1]["decode"] > 4 * times[0]["decode"]
    assert times[1]["tail"] > 0.7
    alone = sum(decode_step(made, Costs(), 1, 100 + step) for step in range(6000))
    assert times[1]["decode"] >= alone


def test_a_small_cache_makes_completions_wait() -> None:
    lengths = [4000] * 512
    small, large = (
        generation_seconds(setup("qwen3-4b", gpus=8, utilization=share), Costs(), lengths, 100)["decode"]
        for share in (0.2, 0.6)
    )
    assert small > 1.3 * large


def test_flops_of_a_pass() -> None:
    made, shape = setup(checkpointing=False), MODELS["qwen3-8b"]
    attention = sum(4 * shape.layers * shape.query * context for context in range(2000))
    forward = 2 * 2000 * shape.active_matrices + attention + 2 * 1500 * shape.embedding
    assert pass_flops(made, 1, 500, 1500, backward=False) == pytest.approx(forward, rel=1e-3)
    layers = forward - 2 * 1500 * shape.embedding
    head = forward - layers
    assert pass_flops(made, 2, 500, 1500, backward=True) == pytest.approx(2 * (3 * layers + 4 * head), rel=1e-3)
    again = pass_flops(replace(made, checkpointing=True), 2, 500, 1500, backward=True)
    assert again == pytest.approx(2 * (4 * layers + 4 * head), rel=1e-3)
    adapter = pass_flops(replace(made, lora_rank=8), 2, 500, 1500, backward=True)
    assert adapter == pytest.approx(2 * (2 * layers + 3 * head), rel=1e-3)


def test_ranks_wait_for_the_longest() -> None:
    made, load = setup(gpus=2, micro_batch=1, sharding="zero3"), Load(mean=100, prompt=1)
    costs = Costs(micro_batch_overhead=0.0, hop=0.0)
    even = phase_seconds(made, costs, load, [[1000, 10], [1000, 10]], backward=True)
    uneven = phase_seconds(made, costs, load, [[1000, 1000], [10, 10]], backward=True)
    assert even["waiting"] == pytest.approx(0, abs=1e-12)
    assert uneven["even"] == pytest.approx(even["even"])
    assert uneven["waiting"] == pytest.approx(even["even"], rel=0.05)
    padded = phase_seconds(made, costs, replace(load, removes_padding=False), [[1000, 10], [1000, 10]], backward=True)
    assert padded["even"] == pytest.approx(2 * even["even"], rel=0.05)


def test_traffic_crosses_nodes_once() -> None:
    costs = Costs(link_share=1.0, hop=0.0)
    assert collective_seconds(setup(gpus=1), costs, 1e9) == 0
    assert collective_seconds(setup(gpus=8), costs, 8e9) == pytest.approx(7e9 / 450e9)
    slow = replace(GPUS["h100"], network=1e9)
    assert collective_seconds(setup(gpus=16, gpu=slow), costs, 8e9) == pytest.approx(8e9 / 2 / 8e9)
    assert collective_seconds(setup(gpus=512), Costs(), 1e9) > collective_seconds(setup(gpus=16), Costs(), 1e9)


def test_offload_and_more_gpus() -> None:
    load = Load(mean=3000)
    sixteen, offload = (rollout_seconds(setup(sharding=s), Costs(), load)["update"] for s in ("zero3", "zero3_offload"))
    assert offload > sixteen
    assert rollout_seconds(setup(gpus=64), Costs(), load)["total"] < rollout_seconds(setup(), Costs(), load)["total"]
    with pytest.raises(ValueError, match=r"512 completions cannot be split over gpus=48"):
        rollout_seconds(setup(gpus=48), Costs(), load)


@pytest.mark.parametrize("reward", ANCHORS)
def test_calibration_gives_the_papers_time(reward: str) -> None:
    name, hours, rollouts = ANCHORS[reward]
    assert paper_seconds(reward) * 16 * rollouts / 3600 == pytest.approx(hours)
    made = read_setup(RECIPES / f"{name}.yaml", GPUS["h800"])
    costs = Costs(slowdown=fit(reward, 12000))
    total = rollout_seconds(made, costs, Load(12000, reward=reward))["total"]
    assert total == pytest.approx(paper_seconds(reward))


def test_cost_model_agrees_with_what_was_measured() -> None:
    result = load("scaling")
    for name, case in {**result["padding"], **result["passes"]}.items():
        assert case["predicted"] == pytest.approx(case["measured"], rel=0.15), name


def test_what_the_guide_says_of_many_gpus() -> None:
    rows = {(r["model"], r["gpus"], r["prompts"]): r for r in load("scaling")["limits"]}
    for name in PAPER:
        model = MODELS[name].name
        few, many, grown = (rows[model, *key] for key in ((16, 64), (512, 64), (512, 2048)))
        assert many["per_rank_and_update"] == 1
        assert many["longest_alone"] / many["seconds"] > 0.65 > few["longest_alone"] / few["seconds"]
        assert many["efficiency"] < 0.15
        assert grown["efficiency"] > 0.75
        assert (grown["traffic"] > 0.1) is (name == "qwen3-30b-a3b")
    assert on(setup(micro_batch=4), 512).micro_batch == 1


# Results and command


def test_results_are_those_of_the_code() -> None:
    result = load("scaling")
    assert json.loads(json.dumps(guide())) == result["guide"]
    assert json.loads(json.dumps(recipes())) == result["recipes"]
    assert result["measured"].keys() == {*measured.CASES, *(f"head, {name}" for name in measured.HEADS)}
    assert result["forecasts"][1]["seconds"]["middle"] == pytest.approx(
        rollout_seconds(
            read_setup(RECIPES / "math_r1_distill_qwen_1.5b.yaml", GPUS["h800"]),
            Costs(slowdown=result["calibration"]["slowdowns"]["12000"]),
            Load(12000),
        )["total"]
    )


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling", "--model", "qwen3-8b", "--gpus", "8"])
    main()
    text = capsys.readouterr().out
    assert "\nFits.\n" in text
    assert "largest part: vLLM" in text
    asked = parse(["--model", "qwen3-8b", "--gpus", "1"])
    assert asked is not None
    assert asked[0].sharding == "none"
    assert "Does not fit. The update phase does not fit; its largest part is optimizer." in describe(*asked)
    for wrong in (["--gpus", "48"], ["--mean", "9000"], ["--tensor-parallel", "3"]):
        with pytest.raises(SystemExit) as error:
            parse(["--model", "qwen3-8b", *wrong])
        assert error.value.code == 2


@pytest.mark.parametrize("name", ["gpus", "passes", "lora-rank", "mean", "mini-batch"])
def test_command_refuses_numbers_below_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse(["--model", "qwen3-8b", f"--{name}", "0"])
    assert error.value.code == 2
    assert re.search(rf"--{name} 0(\.0)? is below 1", capsys.readouterr().err)


# SLURM


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_pass_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    command = [shellcheck] if shellcheck else ["bash", "-n"]
    result = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


STUBS = {  # what they are called with goes to files
    "scontrol": """\
echo "scontrol $*" >> "$LOG"
[ "$1" != show ] || printf "node%s\\n" 0 1 2 | head -n "$SLURM_JOB_NUM_NODES"
""",
    # Runs the command after its own flags, as the second node
    "srun": """\
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_NODEID=1 exec "$@"
""",
    "accelerate": """\
printf "%s\\n" "$@" > "$LOG.accelerate"
touch "$LOG.started"
[ "$SLURM_JOB_NUM_NODES" = 2 ] || while [ ! -s "$LOG.vllm" ]; do sleep 0.1; done
[ -z "$SLEEP" ] || while [ ! -e "$LOG.killed" ]; do sleep 0.1; done
""",
    "vllm": """\
printf "%s\\n" "$VLLM_SERVER_DEV_MODE" "$@" > "$LOG.vllm.part"
mv "$LOG.vllm.part" "$LOG.vllm"
exec sleep 60
""",
    "pkill": """\
echo "pkill $*" >> "$LOG"
touch "$LOG.killed"
""",
}


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts a script with a stand-in for SLURM, its launcher and vLLM."""
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "activate").write_text("")

    def start(script: Path, sleep: str = "") -> subprocess.Popen:
        nodes = re.findall(r"#SBATCH --nodes=(\d)", script.read_text())[0]
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "VENV": str(tmp_path),
            "LOG": str(tmp_path / "log"),
            "SLEEP": sleep,
            "USER": "someone",
            "LAUNCH_FLAGS": "--deepspeed_moe_layer_cls_names Qwen3MoeSparseMoeBlock",
            "SLURM_JOB_ID": "1234",
            "SLURM_JOB_NUM_NODES": nodes,
            "SLURM_JOB_NODELIST": "node[0-2]",
            "SLURM_CPUS_PER_TASK": "96",
        }
        recipe = "examples/recipes/math_qwen3_4b.yaml"
        command = ["bash", str(script), recipe, "--learning_rate", "2e-6", "--output_dir", "a b"]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    return start


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_pass_flags_that_exist(script: Path, submit: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    assert submit(script).wait(timeout=60) == 0
    passed = (tmp_path / "log.accelerate").read_text().splitlines()
    assert passed.pop(0) == "launch"
    args = launch_command_parser().parse_args(passed)
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 16, 1)
    assert args.deepspeed_moe_layer_cls_names == "Qwen3MoeSparseMoeBlock"
    assert (args.main_process_ip, args.main_process_port, args.module) == ("node0", 21234, True)
    assert (ROOT / args.config_file).is_file()
    assert [args.training_script, args.training_script_args[0]] == ["trl_archer.cli", "train"]
    flags = args.training_script_args[1:]
    values, rest = make_parser().parse_known_args(flags)
    assert rest == []
    assert (values.resume_from_checkpoint, values.enable_jit_checkpoint) == ("auto", True)
    assert (values.learning_rate, values.output_dir) == (2e-6, "a b")
    assert values.config == "examples/recipes/math_qwen3_4b.yaml"
    if script.stem == "train_server":
        assert (values.vllm_mode, values.vllm_server_base_url) == ("server", "http://node2:8000")
        served = (tmp_path / "log.vllm").read_text().splitlines()
        assert served[:5] == ["1", "serve", "Qwen/Qwen3-4B", "--max-model-len", "10240"]
        own = start_command({"vllm_server_base_url": "http://node2:8000"}, "Qwen/Qwen3-4B")
        environment, *command = shlex.split(own)  # of the trainer's message about a missing server
        assert environment == f"VLLM_SERVER_DEV_MODE={served[0]}"
        assert command[1:3] == served[1:3]
        assert command[-4:] == served[-4:]
        assert ("--port", "8000") in pairwise(served)
    assert "requeue" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_save_and_requeue(script: Path, submit: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    job = submit(script, sleep="yes")
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0
    calls = (tmp_path / "log").read_text().splitlines()
    killed = next(call for call in calls if call.startswith("pkill"))
    pattern = killed.split(" -f ")[1]
    assert re.search(pattern, "/opt/venv/bin/python3.11 -u -m trl_archer.cli train --config r.yaml")
    launcher = "/opt/venv/bin/python3.11 /opt/venv/bin/accelerate launch --config_file x -m trl_archer.cli train"
    assert not re.search(pattern, launcher)
    assert calls[-1] == "scontrol requeue 1234"
