"""Which configuration for which model, number of GPUs and length: the first that the memory formula lets fit."""

from collections.abc import Iterator

from .hardware import GPU, GPUS
from .memory import Estimate, estimate
from .models import MODELS, PAPER
from .setup import SHARDING, Setup

PROMPT = 2048
LENGTHS = (8192, 32768)
CONFIGS = {  # those that ship, with the least traffic first
    1: ("single_gpu",),
    8: ("zero2", "zero3", "zero3_offload"),
    16: ("zero3_2nodes",),
}
ADAPTER = {1: "single_gpu", 8: "ddp"}
UTILIZATIONS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
SEQUENCES = 4  # of full length that vLLM's cache should hold


def choices(model: str, gpus: int, completion: int, gpu: GPU) -> Iterator[tuple[str, Setup]]:
    """Configurations in the order of preference: all weights before an adapter, awake before asleep, large batches."""
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
    made = estimate(setup)
    return made.problem is None and made.kv_tokens >= SEQUENCES * setup.longest


def choose(model: str, gpus: int, completion: int, gpu: GPU = GPUS["h800"]) -> tuple[str, Setup, Estimate] | None:
    """
    The first configuration that fits.

    Args:
        model (`str`): One of `MODELS`.
        gpus (`int`): 1, 8 or 16.
        completion (`int`): Longest completion, in tokens.
        gpu ([`GPU`], *optional*, defaults to the H800): GPU.

    Returns:
        `tuple`: Name of the accelerate configuration, set-up and estimate; `None` if none fits.
    """
    for config, setup in choices(model, gpus, completion, gpu):
        if fits(setup):
            return config, setup, estimate(setup)
    return None


def guide() -> list[dict[str, object]]:
    """The table of the launch guide."""
    rows: list[dict[str, object]] = []
    for model in PAPER:
        for gpus in CONFIGS:
            for completion in LENGTHS:
                found = choose(model, gpus, completion)
                row: dict[str, object] = {"model": MODELS[model].name, "gpus": gpus, "completion": completion}
                if found is not None:
                    config, setup, made = found
                    row.update(
                        config=config,
                        lora=setup.lora_rank,
                        micro_batch=setup.micro_batch,
                        utilization=setup.utilization,
                        tensor_parallel=setup.tensor_parallel,
                        sleep=setup.sleep,
                        bytes=made.total,
                        phase=made.phase,
                        largest=made.largest,
                    )
                rows.append(row)
    return rows
