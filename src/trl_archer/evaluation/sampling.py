"""Samples completions from a policy with `model.generate`."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


class Batch(NamedTuple):
    """Prompts padded on the left and completions padded on the right. Masks are 1 on real tokens, including eos."""

    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P)
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    k: int,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
) -> list[list[str]]:
    """
    Samples `k` completions per prompt.

    The model's mode, its generation config and torch's global random state do not change.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with pad and eos tokens.
        prompts (`list[str]`):
            Prompts as text. Apply a chat template first.
        k (`int`):
            Completions per prompt, at least 1.
        max_new_tokens (`int`):
            Longest completion, in tokens.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; `0.0` is greedy decoding.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples. The same seed and `batch_size` give the same samples on the same machine.
        batch_size (`int`, *optional*, defaults to `64`):
            Completions generated at a time.

    Returns:
        `list[list[str]]`: `k` completions for each prompt, without special tokens.

    Raises:
        ValueError: If `k`, `max_new_tokens` or `batch_size` is below 1, or `temperature` is negative.
    """
    repeated = repeat(prompts, k)
    texts: list[str] = []
    with evaluation_mode(model, seed):
        for batch in generate(
            model, tokenizer, repeated, max_new_tokens=max_new_tokens, temperature=temperature, batch_size=batch_size
        ):
            texts += tokenizer.batch_decode(batch.completion_ids, skip_special_tokens=True)
    return [texts[i : i + k] for i in range(0, len(texts), k)]


def repeat(prompts: Sequence[str], k: int) -> list[str]:
    """Repeats each prompt `k` times in a row; raises `ValueError` if `k` is below 1."""
    if k < 1:
        raise ValueError(f"k={k} is below 1. Draw at least one sample per prompt.")
    return [prompt for prompt in prompts for _ in range(k)]


@contextmanager
def evaluation_mode(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Disables training mode and gradients, and seeds the random state; restores mode and state at the end."""
    modes = [(module, module.training) for module in model.modules()]
    kind = model.device.type
    forked = {"device_type": kind, "devices": [model.device]} if kind not in ("cpu", "meta", "mps") else {"devices": []}
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(**forked), torch.no_grad():
            for seeding in (random.seed, np.random.seed, torch.manual_seed):
                seeding(seed)
            model.eval()
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, training in modes:
            module.training = training


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
) -> Iterator[Batch]:
    """Generates one completion per prompt, one batch at a time. Call it inside [`evaluation_mode`]."""
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value} is below 1. Use a positive number.")
    if temperature < 0:
        raise ValueError(f"temperature={temperature} is negative. Use 0.0 for greedy decoding or a positive number.")
    options: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **options,
    )
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer(
            list(prompts[start : start + batch_size]),
            return_tensors="pt",
            padding=True,
            padding_side="left",
        ).to(model.device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        completion = output[:, ids.shape[1] :]
        is_eos = (completion == tokenizer.eos_token_id).long()
        yield Batch(ids, mask, completion, (is_eos.cumsum(1) - is_eos == 0).long())
