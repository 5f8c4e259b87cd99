"""The command: results/scaling.json without a model, an estimate for one with it."""

import argparse
from dataclasses import asdict
from statistics import mean
from typing import Any

from benchmarks.environment import save

from .calibration import fitted_costs, paper_seconds, sensitivity, slowdowns
from .costs import Costs, reward_rates
from .hardware import GIB, GPUS
from .lengths import micro_batches
from .memory import estimate
from .models import MODELS, Shape
from .setup import SHARDING, Setup
from .step_time import Load, pass_flops, rollout_seconds


def padding_check() -> dict[str, dict[str, float]]:
    """Time of the update phase, Archer / TRL: what the cost model says of the cases that update_phase.py measured."""
    from benchmarks.environment import load
    from benchmarks.update_phase import LONGEST, MICRO_BATCH, ROWS, UPDATES, draw_lengths, model_config, prompt_length

    config = model_config()
    model = Shape(
        *("benchmarks.update_phase", "qwen2", config.num_hidden_layers, config.hidden_size),
        *(config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.intermediate_size),
        config.vocab_size,
        tied=False,
    )
    prompt = round(mean(map(prompt_length, range(ROWS))))
    setup = Setup(model, GPUS["h100"], 1, "none", MICRO_BATCH, prompt, LONGEST, checkpointing=False)

    def flops(rows: int, width: int) -> float:
        """Of the old policy, the reference and the policy."""
        return sum(pass_flops(setup, rows, prompt, width, backward) for backward in (False, False, True))

    result = {}
    for kind in ("uniform", "log-normal"):
        lengths = draw_lengths(kind)
        half = len(lengths) // UPDATES
        work = {}
        for removes in (True, False):
            plans = [micro_batches(part, MICRO_BATCH, removes) for part in (lengths[:half], lengths[half:])]
            longest = max(lengths)
            work[removes] = sum(flops(rows, width if removes else longest) for plan in plans for rows, width in plan)
        measured = load("update_phase")["cases"][kind]["time_ratio"]
        result[kind] = {"measured": measured, "predicted": work[True] / work[False]}
    return result


def pass_check() -> dict[str, dict[str, float]]:
    """Passes beside the policy's forward pass: the cost model's, and what step_breakdown.py measured on a CPU."""
    from benchmarks.environment import load

    shares = load("step_breakdown")["shares"]
    expected = {"old policy": 1.0, "reference": 1.0, "backward": 2.0}
    return {
        name: {"measured": shares[name] / shares["policy forward"], "predicted": value}
        for name, value in expected.items()
    }


def result() -> dict[str, Any]:
    """Everything that results/scaling.json holds."""
    from .forecasts import forecasts, limits, recipes
    from .guide import guide
    from .measured import measure_all

    return {
        "command": "python -m benchmarks.scaling",
        "measured": measure_all(),
        "padding": padding_check(),
        "passes": pass_check(),
        "assumptions": asdict(Costs()),
        "reward_rates": reward_rates(),
        "calibration": {
            "paper_seconds": {reward: paper_seconds(reward) for reward in ("math", "code")},
            "slowdowns": slowdowns(),
        },
        "sensitivity": sensitivity(),
        "recipes": recipes(),
        "guide": guide(),
        "forecasts": forecasts(),
        "limits": limits(),
    }


def describe(setup: Setup, load: Load) -> str:
    """The estimate of a set-up as text."""
    made = estimate(setup)
    lines = [f"{setup.model.name}: {setup.model.parameters / 1e9:.2f} billion weights, {setup.trained:,} trained", ""]
    lines.append(f"Memory of one {setup.gpu.name} in its fullest phase, {made.phase}, in GiB (predicted):")
    lines += [f"  {part:22} {size / GIB:7.1f}" for part, size in made.parts.items() if size]
    lines += [f"  {'sum':22} {made.total / GIB:7.1f} of {made.capacity / GIB:.0f}; largest part: {made.largest}"]
    if made.problem is not None:
        return "\n".join([*lines, "", f"Does not fit. {made.problem}"])
    lines += ["", "Fits.", ""]
    costs = fitted_costs()
    times = {name: rollout_seconds(setup, one, load) for name, one in costs.items()}
    low, middle, high = (times[name]["total"] for name in ("low", "middle", "high"))
    lines.append(f"Seconds of a rollout with its updates (predicted): {middle:.0f}, from {low:.0f} to {high:.0f}")
    inside = ("total", "tail", "waiting", "traffic")
    lines += [f"  {part:22} {value:7.1f}" for part, value in times["middle"].items() if part not in inside]
    gpus = setup.gpus + (setup.server_gpus if setup.vllm == "server" else 0)
    lines.append(f"GPU hours of 100 rollouts: {100 * middle * gpus / 3600:.0f}")
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> tuple[Setup, Load] | None:
    """The set-up of the command line; `None` without a model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), help="without it, everything is computed and written")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--gpu", choices=list(GPUS), default="h100")
    parser.add_argument("--config", choices=list(SHARDING), help="accelerate configuration; zero3, or single_gpu")
    parser.add_argument("--micro-batch", type=int, default=2, help="per_device_train_batch_size")
    parser.add_argument("--prompt", type=int, default=2048, help="longest prompt, tokens")
    parser.add_argument("--completion", type=int, default=8192, help="longest completion, tokens")
    parser.add_argument("--mean", type=float, help="mean length of a completion, tokens; a third of the longest")
    parser.add_argument("--lora-rank", type=int, help="train an adapter on all linear layers")
    parser.add_argument("--no-checkpointing", action="store_true", help="gradient_checkpointing: false")
    parser.add_argument("--vllm", choices=("colocate", "server", "none"), default="colocate")
    parser.add_argument("--utilization", type=float, default=0.4, help="vllm_gpu_memory_utilization")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="vllm_tensor_parallel_size")
    parser.add_argument("--server-gpus", type=int, default=8, help="of a vLLM server, beside --gpus")
    parser.add_argument("--sleep", action="store_true", help="vllm_enable_sleep_mode")
    parser.add_argument("--prompts", type=int, default=64, help="prompts of a rollout")
    parser.add_argument("--responses", type=int, default=16, help="num_generations")
    parser.add_argument("--mini-batch", type=int, default=32, help="prompts of an update")
    parser.add_argument("--passes", type=int, default=3, help="num_iterations")
    parser.add_argument("--reward", choices=("math", "code"), default="math")
    args = parser.parse_args(argv)
    if args.model is None:
        return None
    for name in (
        "gpus",
        "micro_batch",
        "prompt",
        "completion",
        "tensor_parallel",
        "prompts",
        "responses",
        "mini_batch",
        "server_gpus",
        "passes",
        "lora_rank",
        "mean",
    ):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value} is below 1")
    try:
        setup = Setup(
            model=MODELS[args.model],
            gpu=GPUS[args.gpu],
            gpus=args.gpus,
            sharding=SHARDING[args.config or ("single_gpu" if args.gpus == 1 else "zero3")],
            micro_batch=args.micro_batch,
            prompt=args.prompt,
            completion=args.completion,
            lora_rank=args.lora_rank,
            dtype="float32" if args.lora_rank is None else "bfloat16",
            checkpointing=not args.no_checkpointing,
            vllm=args.vllm,
            utilization=args.utilization,
            tensor_parallel=args.tensor_parallel,
            sleep=args.sleep,
            server_gpus=args.server_gpus,
            prompts=args.prompts,
            responses=args.responses,
            mini_batch=args.mini_batch,
            passes=args.passes,
        )
        load = Load(mean=args.completion / 3 if args.mean is None else args.mean, reward=args.reward)
        if estimate(setup).problem is None:
            rollout_seconds(setup, Costs(), load)
    except ValueError as error:
        parser.error(str(error))
    return setup, load


def main() -> None:
    asked = parse()
    if asked is None:
        print(f"wrote {save('scaling', result())}")
    else:
        print(describe(*asked))


if __name__ == "__main__":
    main()
