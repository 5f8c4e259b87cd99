"""Time of a rollout's generation: decoding block by block, with the batch that is still running."""

import heapq
from collections.abc import Sequence

from .costs import Costs
from .memory import engine
from .setup import Setup

BLOCK = 64  # decoding steps that are taken together


def decode_step(setup: Setup, costs: Costs, running: int, context: float) -> float:
    """
    Seconds of one decoding step: weights and KV cache are read once, or the arithmetic, if that takes longer.

    Args:
        setup ([`Setup`]): Set-up.
        costs ([`Costs`]): Assumptions.
        running (`int`): Sequences in the batch.
        context (`float`): Their mean length so far, in tokens.

    Returns:
        `float`: Seconds.
    """
    model, gpu, n = setup.model, setup.gpu, setup.tensor_parallel
    # Of the experts, those that any of the sequences is sent to, if routing is even
    hit = 1 - (1 - model.experts_per_token / model.experts) ** running if model.experts else 1
    mlp = model.layers * model.expert * max(1, model.experts)
    weights = model.parameters - mlp * (1 - hit)
    read = 2 * weights + running * context * model.kv_bytes
    # Scores and values, 2 FLOPs each per weight of the query and token of context
    flops = running * (2 * (model.active_matrices + model.embedding) + 4 * model.layers * model.query * context)
    memory = read / (n * gpu.bandwidth * costs.bandwidth_share)
    arithmetic = flops / (n * gpu.flops * costs.mfu)
    exchange = 2 * model.layers * 2 * n * costs.hop if n > 1 else 0
    return max(memory, arithmetic) + costs.decode_overhead + exchange


def generation_seconds(setup: Setup, costs: Costs, lengths: Sequence[int], prompt: int) -> dict[str, float]:
    """
    Seconds until the last engine has finished, and what bounds them.

    Completions are dealt out to the engines as they come. Each runs as many at a time as its cache holds.

    Args:
        setup ([`Setup`]): Set-up.
        costs ([`Costs`]): Assumptions.
        lengths (`Sequence[int]`): Lengths of all completions of the rollout.
        prompt (`int`): Mean length of a prompt.

    Returns:
        `dict[str, float]`: `"prefill"` and `"decode"` in seconds, `"tail"`, the share of the decoding time in which at
        most an eighth of an engine's completions, or one, still run, and `"sequences"`, completions per engine.
    """
    engines = setup.generating // setup.tensor_parallel
    capacity = engine(setup)[1]
    shares = [list(lengths[index::engines]) for index in range(engines)]
    busiest = {id(share): share for share in (max(shares, key=max), max(shares, key=sum))}
    timed = [_decode(setup, costs, share, prompt, capacity) for share in busiest.values() if share]
    decode, tail = max(timed)
    # Responses of a prompt share its prefill, but with few of them per engine it is made on many
    unique = max(1, -(-len(shares[0]) // setup.responses)) * prompt
    prefill = unique * 2 * setup.model.active_matrices
    prefill /= setup.tensor_parallel * setup.gpu.flops * costs.mfu
    return {"prefill": prefill, "decode": decode, "tail": tail / decode, "sequences": len(shares[0])}


def _decode(setup: Setup, costs: Costs, lengths: list[int], prompt: int, capacity: float) -> tuple[float, float]:
    """Seconds of one engine, and those of them with at most an eighth of its completions running, or one."""
    waiting = lengths[::-1]
    running: list[tuple[int, int]] = []  # heap: step at which a sequence ends, its length
    seconds = tail = 0.0
    now = used = reserved = 0  # steps; tokens in the cache, and at the end of all that run
    while waiting or running:
        while waiting and (not running or reserved + prompt + waiting[-1] <= capacity):
            length = waiting.pop()
            heapq.heappush(running, (now + length, length))
            used += prompt
            reserved += prompt + length
        steps = min(BLOCK, running[0][0] - now)
        spent = steps * decode_step(setup, costs, len(running), used / len(running) + steps / 2)
        seconds += spent
        tail += spent if len(running) <= max(1, len(lengths) / 8) else 0
        now += steps
        used += steps * len(running)
        while running and running[0][0] <= now:
            length = heapq.heappop(running)[1]
            used -= prompt + length
            reserved -= prompt + length
    return seconds, tail
