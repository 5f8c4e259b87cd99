"""A small Llama for the tasks that the playground does not ship, trained on demonstrations that are often wrong."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from trl_archer.playground.policy import build_model, build_tokenizer

LEARNING_RATE = 3e-3
WARM_UP_STEPS = 50
BATCH_SIZE = 64  # demonstrations per step

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
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARM_UP_STEPS, steps)
    losses = []
    for step in range(1, steps + 1):
        ids, labels = _batch(tokenizer, [demonstrate(rng) for _ in range(BATCH_SIZE)])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0:
            print(f"{folder.name}: warm start, step {step} of {steps}, loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batch(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Demonstration]) -> tuple[Tensor, Tensor]:
    """Token ids and labels `(B, T)`, padded on the right; labels are -100 on prompts and padding."""
    pairs = [
        [tokenizer(text)["input_ids"] for text in (prompt, f"{completion} {tokenizer.eos_token}")]
        for prompt, completion in rows
    ]
    width = max(len(prompt) + len(completion) for prompt, completion in pairs)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for row, (prompt, completion) in enumerate(pairs):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor([*prompt, *completion])
        labels[row, len(prompt) : end] = ids[row, len(prompt) : end]
    return ids, labels
