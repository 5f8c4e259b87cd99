"""A small Llama for the tasks that the playground does not ship, trained on demonstrations that are often wrong."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from trl_archer.playground.policy import build_model, build_tokenizer

from ..warm_start import BATCH_SIZE, fit, pad_right

Demonstration = tuple[str, str]  # prompt and completion


def words_tokenizer(words: Sequence[str], longest: int) -> PreTrainedTokenizerFast:
    """The playground's tokenizer with more words, for sequences of up to `longest` tokens."""
    tokenizer = build_tokenizer(words)
    tokenizer.model_max_length = longest
    return tokenizer


def untrained(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """The playground's Llama for this vocabulary and length."""
    config = build_model(seed).config
    config.vocab_size, config.max_position_embeddings = len(tokenizer), tokenizer.model_max_length
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).train()


def warm_start(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    demonstrate: Callable[[random.Random], Demonstration],
    steps: int,
    seed: int = 0,
) -> None:
    """Trains a policy by cross-entropy on the completions of demonstrations, and saves it."""
    model, rng = untrained(tokenizer, seed), random.Random(seed)
    print(f"{folder.name}: warm start", flush=True)
    fit(model, lambda: _batch(tokenizer, [demonstrate(rng) for _ in range(BATCH_SIZE)]), steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batch(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Demonstration]) -> tuple[Tensor, Tensor]:
    """Token ids and labels `(B, T)`. A causal model needs no mask of the padding on the right."""
    pairs = [
        (tokenizer(prompt)["input_ids"], tokenizer(f"{completion} {tokenizer.eos_token}")["input_ids"])
        for prompt, completion in rows
    ]
    batch = pad_right(pairs, tokenizer.pad_token_id)
    return batch["input_ids"], batch["labels"]
