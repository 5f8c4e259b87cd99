"""Estimates whether a setup fits, or, without `--model`, writes results/scaling.json."""

import argparse
from typing import Any

from benchmarks.environment import save
from trl_archer.commands.forecast.hardware import GIB, GPUS
from trl_archer.commands.forecast.memory import estimate
from trl_archer.commands.forecast.models import MODELS
from trl_archer.commands.forecast.setup import SHARDING, Setup

COUNTS = ("gpus", "micro_batch", "prompt", "completion", "tensor_parallel", "server_gpus", "completions", "lora_rank")


def result() -> dict[str, Any]:
    """The content of results/scaling.json."""
    from .guide import guide, recipes
    from .measured import measure_all

    return {
        "command": "python -m benchmarks.scaling",
        "measured": measure_all(),
        "recipes": recipes(),
        "guide": guide(),
    }


def describe(setup: Setup) -> str:
    """The estimate of a setup as text."""
    result = estimate(setup)
    lines = [f"{setup.model.name}: {setup.model.parameters / 1e9:.2f} billion weights, {setup.trained:,} trained", ""]
    lines.append(f"Memory of one {setup.gpu.name} in its fullest phase, {result.phase}, in GiB (predicted):")
    lines += [f"  {part:22} {size / GIB:7.1f}" for part, size in result.parts.items() if size]
    lines += [f"  {'sum':22} {result.total / GIB:7.1f} of {result.capacity / GIB:.0f}; largest part: {result.largest}"]
    return "\n".join([*lines, "", f"Does not fit. {result.problem}" if result.problem else "Fits."])


def parse(argv: list[str] | None = None) -> Setup | None:
    """The setup that the command line describes; `None` without a model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), help="if omitted, computes and writes all results")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--gpu", choices=list(GPUS), default="h100")
    parser.add_argument("--config", choices=list(SHARDING), help="accelerate configuration; zero3, or single_gpu")
    parser.add_argument("--micro-batch", type=int, default=2, help="per_device_train_batch_size")
    parser.add_argument("--prompt", type=int, default=2048, help="longest prompt, tokens")
    parser.add_argument("--completion", type=int, default=8192, help="longest completion, tokens")
    parser.add_argument("--lora-rank", type=int, help="train an adapter on all linear layers")
    parser.add_argument("--no-checkpointing", action="store_true", help="gradient_checkpointing: false")
    parser.add_argument("--vllm", choices=("colocate", "server", "none"), default="colocate")
    parser.add_argument("--utilization", type=float, default=0.4, help="vllm_gpu_memory_utilization")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="vllm_tensor_parallel_size")
    parser.add_argument("--server-gpus", type=int, default=8, help="GPUs of a vLLM server, in addition to --gpus")
    parser.add_argument("--sleep", action="store_true", help="vllm_enable_sleep_mode")
    parser.add_argument("--completions", type=int, default=1024, help="generation_batch_size")
    args = parser.parse_args(argv)
    if args.model is None:
        return None
    for name in COUNTS:
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value} is below 1. Use a positive number.")
    try:
        return Setup(
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
            completions=args.completions,
        )
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    setup = parse()
    if setup is None:
        print(f"wrote {save('scaling', result())}")
    else:
        print(describe(setup))


if __name__ == "__main__":
    main()
