"""Removes padding from the update phase.

TRL pads every micro-batch to the longest prompt and completion of the whole generation batch. Here a micro-batch holds
completions of similar length, trimmed to its own longest; completions without a token in the loss can be left out.
Neither changes the loss or its gradient: padding does not contribute, and each optimizer step keeps its completions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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
    """Returns some rows. As in TRL, tensors and lists have rows; scalars and `None` belong to the whole batch."""

    def pick(value: Any) -> Any:
        if isinstance(value, list):
            return [value[row] for row in rows.tolist()]
        return value[rows] if isinstance(value, Tensor) and value.ndim else value

    return {name: pick(value) for name, value in batch.items()}


def _merge(batches: Sequence[Batch]) -> Batch:
    def join(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [entry for batch in batches for entry in batch[name]]
        return torch.cat([b[name] for b in batches]) if isinstance(value, Tensor) and value.ndim else value

    return {name: join(name, value) for name, value in batches[0].items()}


def deal_evenly(micro_batches: Sequence[Batch], per_update: int) -> list[Batch]:
    """
    Distributes the completions that count evenly over the optimizer steps of a rollout, up to one. TRL's random order
    gives some steps more of them than others, or none. Nothing moves if every completion counts.

    Args:
        micro_batches (`Sequence` of `dict`): Micro-batches of one generation batch, all of the same shape.
        per_update (`int`): Number of consecutive micro-batches that always belong to one optimizer step.

    Returns:
        `list[dict]`: The same number of micro-batches, of the same shape.
    """
    merged = _merge(micro_batches)
    counts = loss_mask(merged).any(dim=1)
    steps = len(micro_batches) // per_update
    capacity = len(counts) // steps
    empty = list((~counts).nonzero().squeeze(1).tolist())
    order: list[int] = []
    for rows in counts.nonzero().squeeze(1).tensor_split(steps):
        free = capacity - len(rows)
        order += [*rows.tolist(), *empty[:free]]
        empty = empty[free:]
    rows = torch.tensor(order, device=counts.device)
    return [_select(merged, part) for part in rows.chunk(len(micro_batches))]


def group_by_length(micro_batches: Sequence[Batch], per_update: int) -> list[Batch]:
    """
    Regroups the completions of each optimizer step so that micro-batches hold similar lengths, and each as many of the
    completions that count: with fewer to a micro-batch, less is padded and less memory is needed.

    Args:
        micro_batches (`Sequence` of `dict`): Micro-batches of one generation batch, all of the same shape.
        per_update (`int`): Number of consecutive micro-batches that always belong to one optimizer step.

    Returns:
        `list[dict]`: The same number of micro-batches, of the same shape. In each optimizer step the longest
        completions come first. In each micro-batch those without a token in the loss come last.
    """
    grouped: list[Batch] = []
    for start in range(0, len(micro_batches), per_update):
        window = micro_batches[start : start + per_update]
        merged = _merge(window)
        lengths = _lengths(merged)
        order = lengths.argsort(descending=True, stable=True)
        counting, others = order.tensor_split([int(lengths.count_nonzero())])
        for rows in counting.tensor_split(len(window)):
            free = len(order) // len(window) - len(rows)
            grouped.append(_select(merged, torch.cat([rows, others[:free]])))
            others = others[free:]
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
        elif isinstance(value, Tensor) and value.ndim > 1 and value.size(1) == width:
            trimmed[name] = value[:, :completion]
    return trimmed


def _width(mask: Tensor, multiple: int | None = None) -> int:
    """Counts the columns up to the last one that is not masked; at least one."""
    columns = mask.any(dim=0).nonzero()
    width = int(columns[-1]) + 1 if len(columns) else 1
    return min(-(-width // multiple) * multiple, mask.size(1)) if multiple else width
