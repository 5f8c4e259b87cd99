"""What fits: the first configuration for each model, number of GPUs and length, and the shipped recipes."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

from trl_archer.commands.forecast.hardware import GPU, GPUS
from trl_archer.commands.forecast.memory import Estimate, estimate
from trl_archer.commands.forecast.models import MODELS, PAPER
from trl_archer.commands.forecast.setup import SHARDING, Setup

from .shipped import RECIPES, gpu_of, read_setup

PROMPT = 2048
LENGTHS = (8192, 32768)
CONFIGS = {  # shipped configurations, least traffic first
    1: ("single_gpu",),
    8: ("zero2", "zero3", "zero3_offload"),
    16: ("zero3_2nodes",),
}
ADAPTER = {1: "single_gpu", 8: "ddp"}
UTILIZATIONS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
SEQUENCES = 4  # full-length sequences that vLLM's cache must hold


def choices(model: str, gpus: int, completion: int, gpu: GPU) -> Iterator[tuple[str, Setup]]:
    """Configurations in order of preference: full training before LoRA, awake before asleep, large batches first."""
    options = [(config, None) for config in CONFIGS[gpus]]
    if gpus in ADAPTER:
        options.append((ADAPTER[gpus], 32))
    for config, rank in options:
        for sleep in (False, True):
            for tensor_parallel in (n for n in (1, 2, 4) if n <= gpus):
                for micro_batch in (4, 2, 1):
                    for utilization in UTILIZATIONS:
                        yield (
                            config,
                            Setup(
                                model=MODELS[model],
                                gpu=gpu,
                                gpus=gpus,
                                sharding=SHARDING[config],
                                micro_batch=micro_batch,
                                prompt=PROMPT,
                                completion=completion,
                                lora_rank=rank,
                                dtype="float32" if rank is None else "bfloat16",
                                utilization=utilization,
                                tensor_parallel=tensor_parallel,
                                sleep=sleep,
                            ),
                        )


def fits(setup: Setup) -> bool:
    """Whether the setup fits and vLLM's cache holds `SEQUENCES` sequences of full length."""
    result = estimate(setup)
    return result.problem is None and result.kv_tokens >= SEQUENCES * setup.longest


def choose(model: str, gpus: int, completion: int, gpu: GPU = GPUS["h800"]) -> tuple[str, Setup, Estimate] | None:
    """
    The first configuration that fits.

    Args:
        model (`str`): One of `MODELS`.
        gpus (`int`): 1, 8 or 16.
        completion (`int`): Longest completion, in tokens.
        gpu ([`GPU`], *optional*, defaults to the H800): GPU.

    Returns:
        `tuple`: Name of the accelerate configuration, setup and estimate; `None` if none fits.
    """
    for config, setup in choices(model, gpus, completion, gpu):
        if fits(setup):
            return config, setup, estimate(setup)
    return None


def guide() -> list[dict[str, object]]:
    """The first configuration that fits, for each of the paper's models."""
    rows: list[dict[str, object]] = []
    for model in PAPER:
        for gpus in CONFIGS:
            for completion in LENGTHS:
                found = choose(model, gpus, completion)
                row: dict[str, object] = {"model": MODELS[model].name, "gpus": gpus, "completion": completion}
                if found is not None:
                    config, setup, result = found
                    row.update(
                        config=config,
                        lora=setup.lora_rank,
                        micro_batch=setup.micro_batch,
                        utilization=setup.utilization,
                        tensor_parallel=setup.tensor_parallel,
                        sleep=setup.sleep,
                        bytes=result.total,
                        phase=result.phase,
                        largest=result.largest,
                    )
                rows.append(row)
    return rows


def recipes() -> dict[str, dict[str, Any]]:
    """Memory of every shipped recipe, on the hardware and with the accelerate configuration in its header."""
    rows = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        if path.stem == "playground":  # runs on a CPU
            continue
        result = estimate(read_setup(path, gpu_of(path)))
        rows[path.stem] = {
            "phase": result.phase,
            "parts": result.parts,
            "bytes": result.total,
            "capacity": result.capacity,
            "kv_tokens": result.kv_tokens if isfinite(result.kv_tokens) else None,
            "problem": result.problem,
        }
    return rows
