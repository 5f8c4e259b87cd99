"""Time of a rollout and its updates, by part."""

import random
from dataclasses import dataclass

from .costs import Costs, reward_rates
from .generation import generation_seconds
from .lengths import draw_lengths, micro_batches
from .setup import Setup

PCIE, HOST_MEMORY = 32e9, 300e9  # bytes per second: PCIe 4.0 x16 one way, and the memory of a node of two sockets


@dataclass(frozen=True)
class Load:
    """
    What the model is asked.

    Args:
        mean (`float`): Mean length of a completion, in tokens.
        prompt (`int`, *optional*, defaults to 200): Mean length of a prompt.
        reward (`str`, *optional*, defaults to `"math"`): `"math"` or `"code"`.
        removes_padding (`bool`, *optional*, defaults to `True`): As the field of `ArcherGRPOConfig`.
    """

    mean: float
    prompt: int = 200
    reward: str = "math"
    removes_padding: bool = True


def forward_flops(setup: Setup, prompt: int, completion: int) -> tuple[float, float]:
    """FLOPs of the layers and of the LM head for one sequence; causal attention costs half of the square."""
    model, tokens = setup.model, prompt + completion
    layers = 2 * model.active_matrices * tokens + 2 * model.layers * model.query * tokens**2
    return layers, 2 * model.embedding * completion


def pass_flops(setup: Setup, rows: int, prompt: int, completion: int, backward: bool) -> float:
    """FLOPs of a micro-batch: forward, or forward and backward with what is computed again."""
    layers, head = forward_flops(setup, prompt, completion)
    if not backward:
        return rows * (layers + head)
    # Gradients of inputs and of weights cost as much as the forward pass each; frozen weights have none. Checkpointing
    # computes the layers again, the fused head always itself
    gradients = 2 if setup.lora_rank is None else 1
    return rows * (layers * (1 + gradients + setup.checkpointing) + head * (2 + gradients))


def collective_seconds(setup: Setup, costs: Costs, size: float) -> float:
    """Seconds in which all GPUs gather `size` bytes, or reduce them to shards: NVLink and network work side by side."""
    if setup.gpus == 1:
        return 0.0
    inside = size * (setup.gpus - 1) / setup.gpus / (setup.gpu.nvlink * costs.link_share)
    # Each byte enters each node once, over the links of all its GPUs
    links = min(setup.gpus, setup.gpus_per_node) * setup.gpu.network * costs.link_share
    across = size * (setup.nodes - 1) / setup.nodes / links
    return max(inside, across) + setup.model.layers * (setup.gpus - 1) * costs.hop


def pass_traffic(setup: Setup, backward: bool) -> tuple[int, bool]:
    """Collectives of the model's size (16 bits) in one micro-batch, and whether ranks wait for each other in it."""
    if setup.sharding in ("zero3", "zero3_offload", "fsdp2"):
        trains_all = backward and setup.lora_rank is None
        return (2 + trains_all if backward else 1), True
    return (1, True) if backward and setup.sharding == "zero2" and setup.lora_rank is None else (0, False)


def phase_seconds(setup: Setup, costs: Costs, load: Load, ranks: list[list[int]], backward: bool) -> dict[str, float]:
    """
    Seconds in which all ranks pass over their completions, and what they would take with even work and no traffic.

    Args:
        setup ([`Setup`]), costs ([`Costs`]), load ([`Load`]): As elsewhere.
        ranks (`list[list[int]]`): Lengths of the completions of each rank.
        backward (`bool`): Whether the policy is trained, rather than a policy scored.

    Returns:
        `dict[str, float]`: `"seconds"`, `"even"`, `"waiting"` for other ranks, `"traffic"` that is not hidden.
    """
    speed = setup.gpu.flops * costs.mfu
    plans = [micro_batches(lengths, setup.micro_batch, load.removes_padding) for lengths in ranks]
    if not load.removes_padding:  # as wide as the longest of all ranks
        longest = max(max(lengths) for lengths in ranks)
        plans = [[(rows, longest) for rows, _ in plan] for plan in plans]
    work = [[pass_flops(setup, rows, load.prompt, width, backward) / speed for rows, width in plan] for plan in plans]
    even = sum(map(sum, work)) / setup.gpus
    collectives, waits = pass_traffic(setup, backward)
    traffic = collectives * collective_seconds(setup, costs, 2 * setup.model.parameters)
    if setup.sharding == "zero3_offload":  # each GPU moves its shard over PCIe, which no other hides
        traffic += collectives * 2 * setup.model.parameters / setup.gpus / (PCIE * costs.link_share)
    slowest = [max(column) for column in zip(*work, strict=True)] if waits else max(work, key=sum)
    hidden = sum(max(one, traffic) for one in slowest)
    overhead = costs.micro_batch_overhead * len(slowest) * (2 if backward else 1)
    return {
        "seconds": hidden + overhead,
        "even": even,
        "waiting": sum(slowest) - even,
        "traffic": hidden - sum(slowest),
    }


def deal(lengths: list[int], ranks: int, seed: int) -> list[list[int]]:
    """Completions dealt out at random, as TRL's shuffle does, as many to each rank."""
    shuffled = list(lengths)
    random.Random(seed).shuffle(shuffled)
    return [shuffled[rank::ranks] for rank in range(ranks)]


def sync_seconds(setup: Setup, costs: Costs) -> float:
    """Seconds of handing the weights to vLLM, tensor by tensor, once per rollout."""
    if setup.vllm == "none":
        return 0.0
    size = 2 * setup.model.parameters
    gather = 0.0
    if setup.sharding in ("zero3", "zero3_offload", "fsdp2"):
        gather = collective_seconds(setup, costs, size)
    if setup.vllm == "server":  # the first rank sends all of it over its link
        gather += size / (setup.gpu.network * costs.link_share)
    return gather + setup.model.tensors * costs.sync_overhead


def update_seconds(setup: Setup, costs: Costs) -> float:
    """Seconds of the optimizer steps of a rollout beside their passes: Adam's traffic, and that of new weights."""
    updates = setup.passes * setup.prompts // setup.mini_batch
    shard = setup.trained / (1 if setup.sharding == "none" else setup.gpus)
    adam = 28 * shard / (setup.gpu.bandwidth * costs.bandwidth_share)  # reads 16 bytes per weight, writes 12
    if setup.sharding == "zero3_offload":  # on the CPUs of the node
        adam = 28 * shard * min(setup.gpus, setup.gpus_per_node) / HOST_MEMORY
    traffic = 0.0
    if setup.sharding == "none" and setup.gpus > 1:  # gradients, as wide as what is trained
        traffic = 2 * collective_seconds(setup, costs, 4 * setup.trained)
    elif setup.sharding in ("zero1", "zero2"):
        traffic = collective_seconds(setup, costs, 2 * setup.trained) * (2 if setup.sharding == "zero1" else 1)
    return updates * (adam + traffic)


def reward_seconds(setup: Setup, costs: Costs, load: Load) -> float:
    """Seconds of the rewards: each node scores its own completions on its cores."""
    rate = reward_rates()[load.reward]
    items = setup.completions / setup.nodes * (costs.runs_per_program if load.reward == "code" else 1)
    return items / (rate * costs.cores_per_node)


def rollout_seconds(setup: Setup, costs: Costs, load: Load) -> dict[str, float]:
    """
    Seconds of one rollout with its updates, what the paper calls a step, by part.

    Args:
        setup ([`Setup`]): Set-up.
        costs ([`Costs`]): Assumptions.
        load ([`Load`]): Lengths and reward.

    Returns:
        `dict[str, float]`: Seconds by part; `"tail"` and the `"waiting"` and `"traffic"` of the passes are shares of
        the total that are in the parts already.

    Raises:
        ValueError: If the completions of an update cannot be split between the GPUs in whole micro-batches.
    """
    per_update = setup.mini_batch * setup.responses
    if per_update % (setup.gpus * setup.micro_batch):
        raise ValueError(
            f"An update of {setup.mini_batch} prompts x {setup.responses} responses = {per_update} completions cannot "
            f"be split over gpus={setup.gpus} in micro-batches of {setup.micro_batch}. Change one of the three."
        )
    lengths = draw_lengths(setup.completions, load.mean, setup.completion)
    generated = generation_seconds(setup, costs, lengths, load.prompt)
    scored = phase_seconds(setup, costs, load, deal(lengths, setup.gpus, seed=1), backward=False)
    updates = [
        phase_seconds(setup, costs, load, deal(lengths[start : start + per_update], setup.gpus, seed=2), backward=True)
        for start in range(0, len(lengths), per_update)
    ]
    s = costs.slowdown
    parts = {
        "generation": s * (generated["prefill"] + generated["decode"]),
        "old policy": s * scored["seconds"] if setup.passes > 1 else 0.0,
        "reference": s * scored["seconds"] if setup.reference else 0.0,
        "update": s * (setup.passes * sum(one["seconds"] for one in updates) + update_seconds(setup, costs)),
        "weight sync": s * sync_seconds(setup, costs),
        "rewards": reward_seconds(setup, costs, load),
        "the rest": costs.rollout_overhead,
    }
    total = sum(parts.values())
    inside = {
        "tail": s * generated["decode"] * generated["tail"] / total,
        **{
            name: s * (2 * scored[name] + setup.passes * sum(one[name] for one in updates)) / total
            for name in ("waiting", "traffic")
        },
    }
    return {"total": total, **parts, **inside}
