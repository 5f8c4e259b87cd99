"""Removes padding from the update phase.

TRL pads every micro-batch to the longest prompt and completion of the whole generation batch. Here a micro-batch holds
completions of similar length, trimmed to its own longest; completions without a token in the loss can be left out.
Neither changes the loss or its gradient: padding does not contribute, and each optimizer step keeps its completions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_PROMPT = ("prompt_ids", "prompt_mask")

Batch = dict[str, Any]


def loss_mask(batch: Batch) -> Tensor:
    """Marks the slots `(B, T)` that hold a generated token that counts."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def _lengths(batch: Batch) -> Tensor:
    """Counts the tokens `(B,)` of each prompt and completion; 0 for a completion without a token in the loss."""
    lengths = batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1)
    return lengths * loss_mask(batch).any(dim=1)


def _select(batch: Batch, rows: Tensor) -> Batch:
    return {name: value[rows] if value.ndim else value for name, value in batch.items()}


def group_by_length(micro_batches: Sequence[Batch], per_update: int) -> list[Batch]:
    """
    Regroups the completions of each optimizer step so that micro-batches hold similar lengths.

    Args:
        micro_batches (`Sequence` of `dict`): Micro-batches of one generation batch, all of the same shape.
        per_update (`int`): Number of consecutive micro-batches that always belong to one optimizer step.

    Returns:
        `list[dict]`: The same number of micro-batches, of the same shape. In each optimizer step the longest
        completions come first, and those without a token in the loss come last.
    """
    grouped: list[Batch] = []
    for start in range(0, len(micro_batches), per_update):
        window = micro_batches[start : start + per_update]
        merged = {
            name: torch.cat([batch[name] for batch in window]) if value.ndim else value
            for name, value in window[0].items()
        }
        order = _lengths(merged).argsort(descending=True, stable=True)
        grouped += [_select(merged, rows) for rows in order.chunk(len(window))]
    return grouped


def real_tokens(batch: Batch, keep_rows: bool = False, multiple: int | None = None) -> Batch:
    """
    Trims a micro-batch to the completions that count and to their real columns.

    Args:
        batch (`dict`): Micro-batch, prompts padded on the left and completions on the right.
        keep_rows (`bool`, *optional*, defaults to `False`): Whether to keep completions without a token in the loss.
        multiple (`int`, *optional*): Rounds widths up to a multiple of this, as `pad_to_multiple_of` does.

    Returns:
        `dict`: A smaller micro-batch with the same losses. If nothing counts, one row of two tokens remains, so that
        every rank still runs its forward and backward pass.
    """
    mask = loss_mask(batch).bool()
    rows = torch.arange(len(mask), device=mask.device) if keep_rows else mask.any(dim=1).nonzero().squeeze(1)
    if len(rows) == 0:
        rows, prompt, completion = torch.zeros(1, dtype=torch.long, device=mask.device), 1, 1
    else:
        prompt = _width(batch["prompt_mask"][rows].flip(1), multiple)
        completion = _width(batch["completion_mask"][rows], multiple)
    width = mask.size(1)
    trimmed = _select(batch, rows)
    for name, value in trimmed.items():
        if name in _PROMPT:
            trimmed[name] = value[:, -prompt:]
        elif value.ndim > 1 and value.size(1) == width:
            trimmed[name] = value[:, :completion]
    return trimmed


def _width(mask: Tensor, multiple: int | None = None) -> int:
    """Counts the columns up to the last one that is not masked; at least one."""
    columns = mask.any(dim=0).nonzero()
    width = int(columns[-1]) + 1 if len(columns) else 1
    return min(-(-width // multiple) * multiple, mask.size(1)) if multiple else width


def score_in_length_order(
    score: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor | None, Any]],
    input_ids: Tensor,
    attention_mask: Tensor,
    logits_to_keep: int,
    batch_size: int,
    multiple: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """
    Scores completions in chunks of similar length, each trimmed to its real columns.

    Args:
        score (`Callable`): TRL's log-prob helper. It takes token ids, attention mask and number of completion columns.
        input_ids (`Tensor` of shape `(B, P + T)`): Prompts padded on the left, completions on the right.
        attention_mask (`Tensor` of shape `(B, P + T)`): 1 on real tokens.
        logits_to_keep (`int`): Completion columns, `T`.
        batch_size (`int`): Rows per chunk. The number of chunks depends only on this and `B`, so it is the same on
            every rank.
        multiple (`int`, *optional*): Rounds widths up to a multiple of this.

    Returns:
        `tuple`: Log-probabilities and, if asked for, entropies of shape `(B, T)`, in nats, 0 outside the mask, in the
        order of the input.
    """
    prompt_columns = input_ids.size(1) - logits_to_keep
    order = attention_mask.sum(dim=1).argsort(descending=True, stable=True)
    all_logps, all_entropies = [], []
    for rows in order.split(batch_size):
        mask = attention_mask[rows]
        prompt = _width(mask[:, :prompt_columns].flip(1), multiple)
        completion = _width(mask[:, prompt_columns:], multiple)
        real = slice(prompt_columns - prompt, prompt_columns + completion)
        logps, entropies, _ = score(input_ids[rows, real], mask[:, real], completion)
        missing = (0, logits_to_keep - completion)
        all_logps.append(pad(logps, missing))
        if entropies is not None:
            all_entropies.append(pad(entropies, missing))
    back = order.argsort()
    return torch.cat(all_logps)[back], torch.cat(all_entropies)[back] if all_entropies else None
