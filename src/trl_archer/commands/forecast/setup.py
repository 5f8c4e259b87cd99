"""A run as the memory formula sees it: model, hardware, accelerate configuration and recipe fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .hardware import GPU
from .models import Shape

# How each accelerate configuration shards the training states
SHARDING = {
    "single_gpu": "none",
    "ddp": "none",
    "zero1": "zero1",
    "zero2": "zero2",
    "zero3": "zero3",
    "zero3_2nodes": "zero3",
    "zero3_offload": "zero3_offload",
    "fsdp2": "fsdp2",
    "fsdp2_2nodes": "fsdp2",
}


@dataclass(frozen=True)
class Setup:
    """
    A run, as far as memory depends on it.

    Args:
        model ([`Shape`]): Model.
        gpu ([`GPU`]): Kind of GPU.
        gpus (`int`): Training GPUs.
        sharding (`str`): One of the values of `SHARDING`.
        micro_batch (`int`): Completions per forward pass, `per_device_train_batch_size`.
        prompt, completion (`int`): Longest prompt and completion, in tokens.
        lora_rank (`int`, *optional*): Rank of an adapter on all linear layers; `None` trains all weights.
        dtype (`str`, *optional*, defaults to `"float32"`): Data type of the loaded weights.
        quantized (`bool`, *optional*, defaults to `False`): Whether linear layers are stored in 4 bits: `load_in_4bit`
            with `use_bnb_nested_quant`.
        reference (`bool`, *optional*, defaults to `True`): Whether `beta > 0`.
        checkpointing (`bool`, *optional*, defaults to `True`): Whether the backward pass recomputes the layers.
        vllm (`str`, *optional*, defaults to `"colocate"`): `"colocate"`, `"server"` or `"none"`.
        utilization (`float`, *optional*, defaults to 0.4): `vllm_gpu_memory_utilization`.
        tensor_parallel (`int`, *optional*, defaults to 1): `vllm_tensor_parallel_size`.
        sleep (`bool`, *optional*, defaults to `False`): `vllm_enable_sleep_mode`.
        completions (`int`, *optional*, defaults to 1024): Completions per rollout, `generation_batch_size`.
        server_gpus (`int`, *optional*, defaults to 8): GPUs of the vLLM server, in addition to the training GPUs.
    """

    model: Shape
    gpu: GPU
    gpus: int
    sharding: str
    micro_batch: int
    prompt: int
    completion: int
    lora_rank: int | None = None
    dtype: str = "float32"
    quantized: bool = False
    reference: bool = True
    checkpointing: bool = True
    vllm: str = "colocate"
    utilization: float = 0.4
    tensor_parallel: int = 1
    sleep: bool = False
    completions: int = 1024
    server_gpus: int = 8

    def __post_init__(self) -> None:
        if self.sharding not in SHARDING.values():
            raise ValueError(f"sharding={self.sharding!r} must be one of {', '.join(sorted(set(SHARDING.values())))}.")
        if self.vllm not in ("colocate", "server", "none"):
            raise ValueError(f"vllm={self.vllm!r} must be one of colocate, server, none.")
        if self.quantized and (self.sharding != "none" or self.lora_rank is None or self.model.experts):
            raise ValueError(
                "quantized=True is modeled for adapters of dense models on one GPU or with DDP. Set it to False."
            )
        if self.generating % self.tensor_parallel:
            raise ValueError(
                f"tensor_parallel={self.tensor_parallel} does not divide {self.generating} vLLM GPUs. Use a divisor."
            )

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.prompt + self.completion

    @property
    def generating(self) -> int:
        """GPUs that generate completions."""
        return self.server_gpus if self.vllm == "server" else self.gpus

    @property
    def trained(self) -> int:
        """Trained weights."""
        return self.model.parameters if self.lora_rank is None else self.model.lora(self.lora_rank)

    @property
    def casts(self) -> bool:
        """Whether autocast converts float32 weights to bf16 in the forward pass. Sharded setups keep a bf16 copy."""
        return self.dtype == "float32" and self.sharding == "none"


def accelerate_file(recipe: Path) -> str | None:
    """Returns the name of the first accelerate configuration in the header of a recipe; `None` without one."""
    named = re.search(r"--config_file \S*/(\w+)\.yaml|recipes --path (\w+)", recipe.read_text())
    return None if named is None else named[1] or named[2]


def make_setup(model: Shape, gpu: GPU, gpus: int, sharding: str, values: Mapping[str, Any]) -> Setup:
    """
    The setup of a run.

    Args:
        model ([`Shape`]): Model.
        gpu ([`GPU`]): Its GPUs.
        gpus (`int`): Number of processes.
        sharding (`str`): One of the values of `SHARDING`.
        values (`Mapping`): Fields of the recipe by name.

    Returns:
        [`Setup`]: The setup.
    """
    return Setup(
        model=model,
        gpu=gpu,
        gpus=gpus,
        sharding=sharding,
        micro_batch=values["per_device_train_batch_size"],
        prompt=values["max_prompt_length"],
        completion=values["max_completion_length"],
        lora_rank=values["lora_r"] if values.get("use_peft") else None,
        dtype=values.get("dtype", "float32"),
        quantized=values.get("load_in_4bit", False) and values["use_bnb_nested_quant"],
        reference=values.get("beta", 0.001) != 0,
        checkpointing=values.get("gradient_checkpointing", True),
        vllm=values["vllm_mode"] if values.get("use_vllm") else "none",
        utilization=values.get("vllm_gpu_memory_utilization", 0.3),  # TRL's default
        tensor_parallel=values.get("vllm_tensor_parallel_size", 1),
        sleep=values.get("vllm_enable_sleep_mode", False),
        completions=values["generation_batch_size"],
    )
