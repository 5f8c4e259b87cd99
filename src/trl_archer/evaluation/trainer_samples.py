"""
Samples from the policy of a running trainer, through the generation that it trains with.

Everything that evaluation relies on inside TRL's `GRPOTrainer` is in this module.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

from .benchmarks import Benchmark, Problem
from .sampling import evaluation_mode


class Sampled(NamedTuple):
    """A completion of a trainer: text, or messages for a conversational prompt."""

    problem: Problem
    completion: Any
    tokens: int
    truncated: bool


def sample_with_trainer(
    trainer: Any, benchmark: Benchmark, problems: Sequence[Problem], prompts: Sequence[Any], seed: int
) -> list[Sampled]:
    """
    Samples `k` completions of each of this rank's problems with transformers or vLLM, colocated or on a server.

    Every rank must call it with the same number of problems. Weights, modes, sampling settings, metrics and random
    states of the trainer do not change. The requests to a server have a seed, so that they draw nothing from its own
    random state.

    Args:
        trainer ([`~trl.GRPOTrainer`]): The trainer.
        benchmark ([`Benchmark`]): Sampling settings.
        problems (`Sequence[Problem]`): Problems of this rank.
        prompts (`Sequence`): The prompt of each problem, text or messages.
        seed (`int`): Seed of the samples.

    Returns:
        `list[Sampled]`: `k` completions per problem, in order.
    """
    rows = [index for index in range(len(problems)) for _ in range(benchmark.k)]
    # With transformers, as many at a time as a rollout has. vLLM forms its own batches
    args = trainer.args
    size = len(rows) if trainer.use_vllm else args.per_device_train_batch_size * args.steps_per_generation
    # The ranks that share an engine must draw the same random numbers
    group = args.process_index // (args.vllm_tensor_parallel_size if trainer.use_vllm else 1)
    rank_seed = zlib.crc32(f"{seed}/{benchmark.name}/{group}".encode())
    found: list[Sampled] = []
    with evaluation_mode(trainer.model, rank_seed), _sampling_settings(trainer, benchmark, rank_seed):
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            _, ids, _, completions, *_ = trainer._generate([prompts[index] for index in chunk])
            for index, tokens, completion in zip(chunk, ids, completions, strict=True):
                truncated = not tokens or tokens[-1] not in trainer.eos_token_ids
                found.append(Sampled(problems[index], completion, len(tokens), truncated))
    return found


@contextmanager
def _sampling_settings(trainer: Any, benchmark: Benchmark, seed: int) -> Iterator[None]:
    """Sets the benchmark's sampling, and restores the trainer's at the end."""
    sampling = {"temperature": benchmark.temperature, "top_p": benchmark.top_p, "repetition_penalty": 1.0}
    changes: list[tuple[Any, dict[str, Any]]] = [(trainer, {"num_generations_eval": benchmark.k})]
    if trainer.use_vllm:
        ours = (*sampling, "top_k", "min_p", "max_tokens")
        extra = {key: value for key, value in trainer.vllm_generation.generation_kwargs.items() if key not in ours}
        if trainer.vllm_mode == "server":  # for each of its k samples, vLLM adds the index to the seed
            extra["seed"] = seed
        settings = {**sampling, "top_k": 0, "min_p": None, "max_completion_length": benchmark.max_new_tokens}
        changes.append((trainer.vllm_generation, {**settings, "generation_kwargs": extra}))
    else:
        greedy = benchmark.temperature == 0
        settings = {**sampling, "temperature": benchmark.temperature or 1.0, "do_sample": not greedy, "top_k": 0}
        settings |= {"min_p": None, "max_new_tokens": benchmark.max_new_tokens}
        config = deepcopy(trainer.generation_config)
        config.update(**settings)
        changes.append((trainer, {"generation_config": config}))
        changes.append((trainer, {"generation_kwargs": {**trainer.generation_kwargs, **settings}}))
    metrics = trainer._metrics["eval"]
    logged = dict(metrics)
    before = [(owner, {name: getattr(owner, name) for name in values}) for owner, values in changes]
    try:
        for owner, values in changes:
            vars(owner).update(values)
        yield
    finally:
        for owner, values in before:
            vars(owner).update(values)
        metrics.clear()
        metrics.update(logged)
