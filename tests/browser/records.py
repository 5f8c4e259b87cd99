"""Synthetic token records with values from the objective."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trl_archer.records.parquet import CompletionRecord, TokenRecords

from ..helpers.settings import record_settings, token_loss

FLAT: dict[str, Any] = {"epsilon_high": 0.28}
SETTINGS = record_settings(**FLAT)
TEXT = "First , we add 3 and 4 : that gives 7 . Wait , let me check again . So the answer is 7 .".split()
WORDS = [word if word in ",.:" else f" {word}" for word in TEXT]


def make_record(
    tokens: Sequence[str] = WORDS,
    *,
    prompt: str = "What is 3 + 4?",
    reward: float | None = 1.0,
    advantage: float | None = 0.75,
    seed: int = 0,
    reference: bool = True,
    row: int = 0,
    step: int = 40,
    drift: float = 0.4,
    **settings: Any,
) -> CompletionRecord:
    """A completion of these tokens. Log-probabilities drift from the old policy, and both ends of a range clip."""
    generator = np.random.default_rng(seed)
    count = len(tokens)
    width = max(1, count)
    entropies = generator.gamma(0.6, 0.8, width).astype(np.float32)
    logps = (-entropies * generator.gamma(1.0, 1.0, width)).astype(np.float32)
    old = (logps - drift * generator.standard_normal(width)).astype(np.float32)
    ref = (logps - drift * generator.standard_normal(width)).astype(np.float32)
    pieces = token_loss(
        torch.from_numpy(logps)[None],
        torch.from_numpy(old)[None],
        torch.tensor([advantage or 0.0]),
        torch.from_numpy(entropies)[None],
        torch.arange(width)[None] < count,
        ref_per_token_logps=torch.from_numpy(ref)[None],
        **{**FLAT, **settings},
    )
    return CompletionRecord(
        step=step,
        rank=row % 2,
        row=row,
        prompt=prompt,
        completion="".join(tokens),
        token_ids=np.array([sum(token.encode("utf-8", "surrogatepass")) + 5 for token in tokens], np.int32),
        tokens=list(tokens),
        reward=reward,
        advantage=advantage,
        entropy_threshold=pieces.entropy_threshold.item(),
        entropies=entropies[:count],
        per_token_logps=logps[:count],
        old_per_token_logps=old[:count],
        gate=pieces.gate[0, :count].numpy(),
        mask=np.ones(count, bool),
        clipped_low=pieces.clipped_low[0, :count].numpy(),
        clipped_high=pieces.clipped_high[0, :count].numpy(),
        ref_per_token_logps=ref[:count] if reference else None,
    )


def make_records(*completions: CompletionRecord, **settings: Any) -> TokenRecords:
    return TokenRecords(list(completions), record_settings(**{**FLAT, **settings}))


def make_groups(prompts: int = 3, group: int = 4) -> TokenRecords:
    """Several prompts with several completions each, with different lengths, rewards and texts."""
    completions = []
    for prompt in range(prompts):
        for member in range(group):
            row = prompt * group + member
            tokens = WORDS * (1 + (row * 5) % 7) + [f" end{row}"]
            completions.append(
                make_record(
                    tokens,
                    prompt=f"Question {prompt}",
                    reward=[1.0, 0.0, None, 0.0][row % 4],
                    advantage=[1.2, -0.6, None, -0.6][row % 4],
                    seed=row,
                    row=row,
                )
            )
    return make_records(*completions)


def make_large(completions: int, tokens: int) -> TokenRecords:
    """Many long completions. They share their values, which makes them cheap."""
    record = make_record((WORDS * (tokens // len(WORDS) + 1))[:tokens])
    return make_records(*(replace(record, row=row, prompt=f"Question {row // 8}") for row in range(completions)))
