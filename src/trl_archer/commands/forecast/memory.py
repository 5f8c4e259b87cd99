"""The memory formula: bytes on one GPU, by part, in each phase of a step."""

from dataclasses import dataclass

from .hardware import GIB
from .models import Shape
from .setup import Setup

# TRL's fused LM head holds one tile of logits at a time: tokens and vocabulary of the tile
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
# DeepSpeed's defaults in elements, which accelerate's YAML does not change: gradients reduced at once, ZeRO-3 weights
# gathered at once, weights updated at once
REDUCE_BUCKET, GATHERED, SUB_GROUP = 5 * 10**8, 10**9, 10**9
# bitsandbytes: bytes per 4-bit weight with nested scales, an 8-bit scale per 64 weights, a 32-bit one per 256 of those
FOUR_BITS = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# Assumed, not measured: CUDA and NCCL contexts with fragmentation, as a share of the memory; vLLM's memory apart from
# weights and cache; vLLM's memory in sleep mode
RESERVE = 0.08
VLLM_WORKSPACE = 3 * GIB
VLLM_ASLEEP = 2 * GIB
SERVER_UTILIZATION = 0.9  # the default of `vllm serve`


@dataclass(frozen=True)
class Estimate:
    """
    Memory of one GPU.

    Args:
        phase (`str`): The phase with the most memory.
        parts (`dict[str, float]`): Bytes by part in that phase.
        phases (`dict[str, float]`): Bytes of each phase.
        kv_tokens (`float`): Tokens in the cache of one vLLM engine; infinite without vLLM.
        capacity (`float`): Bytes of the GPU.
        problem (`str`, *optional*): Why it does not fit, and the fix.
    """

    phase: str
    parts: dict[str, float]
    phases: dict[str, float]
    kv_tokens: float
    capacity: float
    problem: str | None

    @property
    def total(self) -> float:
        return self.phases[self.phase]

    @property
    def largest(self) -> str:
        return max(self.parts, key=lambda part: self.parts[part])


def layer_activations(model: Shape, casts: bool) -> float:
    """
    Bytes per token that autograd saves for the backward pass of one layer, tensor by tensor.

    Args:
        model ([`Shape`]): Model.
        casts (`bool`): Whether weights and residual stream are float32 with bf16 copies by autocast. Otherwise all
            are bf16.

    Returns:
        `float`: Bytes per token.
    """
    d, q, k, i = model.hidden, model.query, model.keys, model.intermediate
    # Two RMSNorms: float32 input, normalized input, inverse root; then the inputs of the matrices, one copy per matrix
    # with autocast
    norms = 2 * (4 * d + (4 if casts else 2) * d + 4) + 2 * d * (5 if casts else 2)
    if model.family != "qwen2":  # norms of queries and keys
        norms += (4 + 2) * (q + k) + 4 * (model.heads + model.kv_heads)
    attention = 2 * q + 2 * 2 * k + 2 * q + 4 * model.heads  # queries, keys and values, output, log-sum-exp
    mlp = 8 * i  # gate, its activation, up, their product
    if model.experts:
        routed = model.experts_per_token
        # Sorted inputs and outputs, the MLP of each; router probabilities; indices and weights
        mlp = routed * (2 * 2 * d + 8 * i + 3 * 8 + 8 + 2) + 4 * model.experts
    return norms + attention + mlp


def kept_layers(setup: Setup, tokens: int) -> float:
    """Bytes that the layers keep from the forward pass to the backward pass."""
    width = 4 if setup.casts else 2
    each = width * setup.model.hidden if setup.checkpointing else layer_activations(setup.model, setup.casts)
    return tokens * setup.model.layers * each


def kept_ends(setup: Setup, tokens: int) -> float:
    """Bytes of the final norm, its output and the rotary angles, freed before the layers' backward pass."""
    width = 4 if setup.casts else 2
    return tokens * ((4 + width + 2) * setup.model.hidden + 4 * setup.model.head_dim)


def norm_backward(setup: Setup, tokens: int) -> float:
    """Bytes of the backward pass of the final norm: five float32 buffers of the hidden size, counted."""
    return tokens * 5 * 4 * setup.model.hidden


def layer_backward(setup: Setup, tokens: int) -> float:
    """Bytes of the backward pass of one layer: recomputed activations and gradients in flight."""
    model, width = setup.model, 4 if setup.casts else 2
    routed = max(1, model.experts_per_token)
    # Gradients: residual stream, twice; gate, up and product of an MLP; inputs and outputs of experts
    under_way = 2 * width * model.hidden + 3 * 2 * routed * model.intermediate
    if model.experts:
        under_way += 2 * 2 * routed * model.hidden
    # 4-bit weights are unpacked one matrix at a time
    unpacked = 2 * model.hidden * max(model.query, model.intermediate) if setup.quantized else 0
    if not setup.checkpointing:
        return tokens * under_way + unpacked
    again = layer_activations(model, setup.casts)
    if setup.casts:  # the kept input is also the first norm's input; bf16 copies of this layer's weights
        return tokens * (again - 4 * model.hidden + under_way) + 2 * model.layer + unpacked
    return tokens * (again + under_way) + unpacked


def head_backward(setup: Setup, tokens: int) -> float:
    """Bytes of TRL's fused LM head: one tile of logits, and gradients of its input and weights in float32."""
    width = 4 if setup.casts else 2
    tile = 2 * min(tokens, TILE_TOKENS) * TILE_VOCABULARY
    of_weights = 0 if setup.lora_rank else (4 + (0 if setup.casts else 2)) * setup.model.embedding
    return tile + tokens * setup.model.hidden * (4 + 2 + width) + of_weights


def passing(setup: Setup, tokens: int, head: bool = True) -> float:
    """
    Peak bytes in addition to what the layers keep: at the end of the forward pass, or in head, final norm or a layer.

    Args:
        setup ([`Setup`]): Setup.
        tokens (`int`): Tokens of the micro-batch.
        head (`bool`, *optional*, defaults to `True`): Whether the LM head runs.

    Returns:
        `float`: Bytes.
    """
    copies = 2 * setup.model.parameters if setup.casts else 0  # autocast's copies of the weights, kept by autograd
    ends = kept_ends(setup, tokens)
    backward = [ends + norm_backward(setup, tokens), layer_backward(setup, tokens)]
    if head:
        backward.append(ends + head_backward(setup, tokens))
    return max(copies + ends, max(backward) + (0 if setup.checkpointing else copies))


def model_states(setup: Setup) -> dict[str, float]:
    """Bytes of weights, gradients, optimizer and reference on each GPU, exact up to rounding to whole shards."""
    total, trained, n = setup.model.parameters, setup.trained, setup.gpus
    frozen = total if setup.lora_rank else 0
    full = 4 if setup.dtype == "float32" else 2
    reference = total if setup.reference and not setup.lora_rank else 0
    if setup.sharding == "none":
        own = 4 if setup.lora_rank else full  # adapters are float32
        saved = (full - FOUR_BITS) * setup.model.linear if setup.quantized else 0
        return {
            "weights": full * frozen - saved + own * trained,
            "gradients": own * trained,
            "optimizer": 2 * own * trained,
            "reference": full * reference,
        }
    if setup.sharding == "fsdp2":  # float32 shards of the trained weights, gathered in bf16
        return {
            "weights": (full * frozen + 4 * trained) / n,
            "gradients": 4 * trained / n,
            "optimizer": 8 * trained / n,
            "reference": full * reference / n,
        }
    # DeepSpeed: weights and gradients in bf16, master weights and Adam's moments in float32, always split
    splits_gradients, splits_weights = setup.sharding != "zero1", setup.sharding.startswith("zero3")
    states = {
        "weights": 2 * (frozen + trained) / (n if splits_weights else 1),
        "gradients": 2 * trained / (n if splits_gradients else 1),
        "optimizer": 12 * trained / n,
        "reference": 2 * reference / (n if splits_weights else 1),
    }
    if setup.sharding == "zero3_offload":  # in the memory of the host
        states.update(weights=0, gradients=0, optimizer=0)
    return states


def buffers(setup: Setup) -> float:
    """Bytes of gathered weights and of gradients being reduced."""
    model = setup.model
    largest = max(model.layer, model.embedding)
    if setup.sharding == "none":  # DDP's buckets hold the gradients themselves
        return 0
    if setup.sharding == "fsdp2":  # this layer, the next, and the gradient of one
        return 3 * 2 * largest
    reduced = 2 * max(REDUCE_BUCKET, largest) if not setup.lora_rank else 2 * min(REDUCE_BUCKET, setup.trained)
    gathered = 2 * min(model.parameters, max(GATHERED, largest)) if setup.sharding.startswith("zero3") else 0
    return reduced + gathered


def engine(setup: Setup) -> tuple[float, float]:
    """Bytes of vLLM on a training GPU when awake, and tokens in the cache of one engine."""
    model, n = setup.model, setup.tensor_parallel
    if setup.vllm == "none":  # transformers uses the trained weights; the cache holds this rank's completions
        return setup.completions / setup.gpus * setup.longest * model.kv_bytes, float("inf")
    share = (SERVER_UTILIZATION if setup.vllm == "server" else setup.utilization) * setup.gpu.memory
    return 0 if setup.vllm == "server" else share, n * (
        share - VLLM_WORKSPACE - 2 * model.parameters / n
    ) / model.kv_bytes


def estimate(setup: Setup) -> Estimate:
    """
    Memory of one GPU when every sequence of a micro-batch has the maximum length.

    Args:
        setup ([`Setup`]): Setup.

    Returns:
        [`Estimate`]: Parts, phases and verdict.
    """
    states, moving = model_states(setup), buffers(setup)
    awake, kv_tokens = engine(setup)
    resident = 0 if setup.vllm != "colocate" else VLLM_ASLEEP if setup.sleep else awake
    reserve = RESERVE * setup.gpu.memory
    tokens = setup.micro_batch * setup.longest
    split = setup.sharding not in ("none", "fsdp2", "zero3_offload")
    step = 4 * min(setup.trained / setup.gpus, SUB_GROUP) if split else 0
    kept_gradients = (
        0 if setup.sharding in ("none", "fsdp2") else states["gradients"]
    )  # otherwise freed after an update
    sampler = "cache" if setup.vllm == "none" else "vLLM"
    common = {"reserve": reserve, **states}
    phases: dict[str, dict[str, float]] = {
        "update": {
            **common,
            "communication": moving,
            "kept activations": kept_layers(setup, tokens),
            "passing activations": passing(setup, tokens),
            sampler: resident,
        },
        "optimizer": {**common, "float32 gradient": step, "communication": moving, sampler: resident},
        "generation": {**common, "gradients": kept_gradients, sampler: awake},
    }
    sums = {phase: sum(parts.values()) for phase, parts in phases.items()}
    phase = max(sums, key=lambda name: sums[name])
    return Estimate(
        phase, phases[phase], sums, kv_tokens, setup.gpu.memory, _problem(setup, phases[phase], phase, kv_tokens)
    )


def _problem(setup: Setup, parts: dict[str, float], phase: str, kv_tokens: float) -> str | None:
    if kv_tokens < setup.longest:
        return (
            f"vLLM's cache would hold {max(0, kv_tokens):,.0f} tokens, less than one sequence of {setup.longest:,}: "
            "raise vllm_gpu_memory_utilization (with vllm_enable_sleep_mode) or vllm_tensor_parallel_size."
        )
    if sum(parts.values()) <= setup.gpu.memory:
        return None
    largest = max(parts, key=lambda part: parts[part])
    advice = {
        "vLLM": "vllm_enable_sleep_mode, a lower vllm_gpu_memory_utilization, or vllm_mode: server",
        "cache": "a smaller generation_batch_size, shorter completions, or use_vllm",
        "passing activations": "a smaller per_device_train_batch_size or shorter completions",
        "kept activations": "gradient_checkpointing, a smaller per_device_train_batch_size or shorter completions",
        "communication": "ZeRO-3 or FSDP2 over more GPUs",
        "reserve": "a larger GPU",
    }
    remedy = advice.get(largest, "ZeRO-3 or FSDP2, more GPUs, zero3_offload, or LoRA")
    return f"The {phase} phase does not fit; its largest part is {largest}. Try {remedy}."
