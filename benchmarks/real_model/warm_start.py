"""A short supervised warm start: the form of a solution, but not yet the skill."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..warm_start import pad_right
from .evaluate import accuracy
from .task import Problem, demonstrate
from .weights import load

CHECK_EVERY = 5  # steps
LAST_STEP = 300


def make_batch(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem]) -> dict[str, Tensor]:
    """Prompts with demonstrations, padded on the right; labels are -100 on prompts and padding."""
    rows = []
    for problem in problems:
        prompt = tokenizer(problem.prompt)["input_ids"]
        rest = tokenizer(demonstrate(problem), add_special_tokens=False)["input_ids"]
        rows.append((prompt, [*rest, tokenizer.eos_token_id]))
    return pad_right(rows, tokenizer.pad_token_id)


def warm_start(
    base: Path, target: Path, problems: dict[str, list[Problem]], scale: Any, device: str
) -> tuple[Path, dict[str, float]]:
    """
    Trains on demonstrations until samples are right often enough to learn from, and writes the policy once.

    Args:
        base (`Path`): Folder of the model.
        target (`Path`): Folder to write to.
        problems (`dict`): Problems by split.
        scale (`Scale`): Batch, learning rate and the accuracy at which it stops.
        device (`str`): Device.

    Returns:
        `tuple`: `target`, and the steps and the last accuracy.

    Raises:
        RuntimeError: If the accuracy is not reached in `LAST_STEP` steps.
    """
    record = target / "warm_start.pt"
    if record.exists():
        return target, torch.load(record)
    set_seed(0)
    rng = random.Random(0)
    model, tokenizer = load(base, device)
    # Other problems than those it trains on, of the same split: held-out problems must not decide when to stop
    pool, checked = problems["warm_start"][: -scale.checked], problems["warm_start"][-scale.checked :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=scale.warm_start_rate, weight_decay=0.0)
    for step in range(1, LAST_STEP + 1):
        model.train()
        batch = {k: v.to(device) for k, v in make_batch(tokenizer, rng.sample(pool, scale.warm_start_batch)).items()}
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % CHECK_EVERY == 0:
            right = accuracy(model, tokenizer, checked, 4, scale)["avg_at_k"]
            print(f"  warm start, step {step}: loss {loss.item():.3f}, avg@4 {right:.3f}", flush=True)
            if right >= scale.start_accuracy:
                return target, _save(model, tokenizer, target, {"steps": step, "avg_at_4": right})
    raise RuntimeError(f"avg@4 is {right:.3f} after {LAST_STEP} steps of the warm start, below {scale.start_accuracy}.")


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path, record: dict[str, float]
) -> dict[str, float]:
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    torch.save(record, target / "warm_start.pt")  # last, so that a folder without it is written again
    return record
