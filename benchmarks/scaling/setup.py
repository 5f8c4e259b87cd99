"""What is launched: model, hardware, accelerate configuration and the fields of a recipe that cost memory or time."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl_archer.commands.train.recipe import read_recipe

from .hardware import GPU, GPUS
from .models import MODELS, Shape

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "examples" / "accelerate_configs"
# How each accelerate configuration splits the states of training
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
    A run, as far as memory and time depend on it.

    Args:
        model ([`Shape`]): Model.
        gpu ([`GPU`]): Kind of GPU.
        gpus (`int`): How many train.
        sharding (`str`): One of the values of `SHARDING`.
        micro_batch (`int`): Completions of a forward pass, `per_device_train_batch_size`.
        prompt, completion (`int`): Longest, in tokens.
        lora_rank (`int`, *optional*): Rank of an adapter on all linear layers; `None` trains all weights.
        dtype (`str`, *optional*, defaults to `"float32"`): That of the loaded weights.
        quantized (`bool`, *optional*, defaults to `False`): Whether linear layers are held in 4 bits, `load_in_4bit`
            with `use_bnb_nested_quant`. Memory only; their times are not modelled.
        reference (`bool`, *optional*, defaults to `True`): Whether `beta > 0`.
        checkpointing (`bool`, *optional*, defaults to `True`): Whether layers are computed again in the backward pass.
        vllm (`str`, *optional*, defaults to `"colocate"`): `"colocate"`, `"server"` or `"none"`.
        utilization (`float`, *optional*, defaults to 0.4): `vllm_gpu_memory_utilization`.
        tensor_parallel (`int`, *optional*, defaults to 1): `vllm_tensor_parallel_size`.
        sleep (`bool`, *optional*, defaults to `False`): `vllm_enable_sleep_mode`.
        prompts, responses, mini_batch, passes (`int`, *optional*): Prompts and responses per prompt of a rollout,
            prompts of an update, passes over each rollout. The paper's by default.
        gpus_per_node (`int`, *optional*, defaults to 8): GPUs that NVLink joins.
        server_gpus (`int`, *optional*, defaults to 8): GPUs of the vLLM server, beside those that train.
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
    prompts: int = 64
    responses: int = 16
    mini_batch: int = 32
    passes: int = 3
    gpus_per_node: int = 8
    server_gpus: int = 8

    def __post_init__(self) -> None:
        if self.sharding not in SHARDING.values():
            raise ValueError(f"sharding={self.sharding!r} is none of {', '.join(sorted(set(SHARDING.values())))}.")
        if self.vllm not in ("colocate", "server", "none"):
            raise ValueError(f"vllm={self.vllm!r} is none of colocate, server, none.")
        if self.quantized and (self.sharding != "none" or self.lora_rank is None or self.model.experts):
            raise ValueError("quantized=True is modelled for adapters of dense models on one GPU, or with DDP.")
        if self.generating % self.tensor_parallel:
            raise ValueError(f"tensor_parallel={self.tensor_parallel} does not divide {self.generating} GPUs of vLLM.")

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.prompt + self.completion

    @property
    def completions(self) -> int:
        """Completions of a rollout."""
        return self.prompts * self.responses

    @property
    def generating(self) -> int:
        """GPUs that generate."""
        return self.server_gpus if self.vllm == "server" else self.gpus

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.gpus_per_node)

    @property
    def trained(self) -> int:
        """Weights that are trained."""
        return self.model.parameters if self.lora_rank is None else self.model.lora(self.lora_rank)

    @property
    def casts(self) -> bool:
        """Whether float32 weights are cast to bf16 in the forward pass, rather than kept beside a bf16 copy."""
        return self.dtype == "float32" and self.sharding == "none"


def read_setup(recipe: Path, gpu: GPU) -> Setup:
    """
    The set-up of a recipe, with the accelerate configuration that its head names.

    Args:
        recipe (`Path`): Recipe.
        gpu ([`GPU`]): GPU it runs on.

    Returns:
        [`Setup`]: The set-up.

    Raises:
        ValueError: If its model is none whose shape is known.
    """
    values: dict[str, Any] = read_recipe(recipe)
    shapes = {shape.name: shape for shape in MODELS.values()}
    if values["model_name_or_path"] not in shapes:
        raise ValueError(f"{recipe}: no shape for {values['model_name_or_path']!r}. Add it to benchmarks/scaling.")
    named = re.search(r"--config_file \S*/(\w+)\.yaml", recipe.read_text())
    responses = values["num_generations"]
    per_update = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] * values["num_processes"]
    return Setup(
        model=shapes[values["model_name_or_path"]],
        gpu=gpu,
        gpus=values["num_processes"],
        sharding=SHARDING[named[1]] if named else "none",
        micro_batch=values["per_device_train_batch_size"],
        prompt=values["max_prompt_length"],
        completion=values["max_completion_length"],
        lora_rank=values["lora_r"] if values.get("use_peft") else None,
        dtype=values.get("dtype", "float32"),
        quantized=values.get("load_in_4bit", False) and values["use_bnb_nested_quant"],
        reference=values.get("beta", 0.001) != 0,
        checkpointing=values.get("gradient_checkpointing", True),
        vllm=values["vllm_mode"] if values.get("use_vllm") else "none",
        utilization=values.get("vllm_gpu_memory_utilization", 0.3),  # the default of TRL
        tensor_parallel=values.get("vllm_tensor_parallel_size", 1),
        sleep=values.get("vllm_enable_sleep_mode", False),
        prompts=values["generation_batch_size"] // responses,
        responses=responses,
        mini_batch=per_update // responses,
        passes=values["num_iterations"],
    )


def gpu_of(recipe: Path) -> GPU:
    """The GPU that the head of a recipe states: 80 GB, or the 24 GB of an A10."""
    return GPUS["a10"] if "24 GB" in recipe.read_text().split("\n\n")[0] else GPUS["h800"]
