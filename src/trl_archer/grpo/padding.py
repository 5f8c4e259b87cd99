"""Removes padding from the update phase.

TRL pads every micro-batch to the longest prompt and completion of the whole generation batch. Here a micro-batch holds
completions of similar length, trimmed to its own longest; completions without a token in the loss can be left out.
Neither changes the loss or its gradient: padding does not contribute, and each optimizer step keeps its completions.
"""

from collections.abc import Sequence
from itertools import pairwise
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


def group_by_length(micro_batches: Sequence[Batch], per_update: int, equal_rows: bool = False) -> list[Batch]:
    """
    Regroups the completions of each optimizer step so that micro-batches hold similar lengths.

    Args:
        micro_batches (`Sequence` of `dict`): Micro-batches of one generation batch, all of the same shape.
        per_update (`int`): Number of consecutive micro-batches that always belong to one optimizer step.
        equal_rows (`bool`, *optional*, defaults to `False`): Whether every micro-batch must keep its number of rows.
            Otherwise those that count are split so that least is padded: few long ones or many short ones together.

    Returns:
        `list[dict]`: The same number of micro-batches. In each optimizer step the longest completions come first, and
        those without a token in the loss come last.
    """
    grouped: list[Batch] = []
    for start in range(0, len(micro_batches), per_update):
        window = micro_batches[start : start + per_update]
        merged = _merge(window)
        lengths, order = _lengths(merged).sort(descending=True, stable=True)
        sizes = [len(order) // len(window)] * len(window)
        if not equal_rows:
            counting = int(lengths.count_nonzero())
            sizes = _least_padded(lengths[:counting].cpu(), len(window), sizes[0])
            sizes += [1] * (len(window) - len(sizes))  # at least one row, which stands for an empty pass
            sizes[-1] += len(order) - sum(sizes)
        grouped += [_select(merged, rows) for rows in order.split(sizes)]
    return grouped


def _least_padded(lengths: Tensor, parts: int, rows: int) -> list[int]:
    """
    Splits descending lengths `(n,)`, at most `parts * rows` of them, so that the parts have the fewest slots in total
    if each is padded to its longest. No part has more slots than `rows` of the longest. Returns the sizes of the parts,
    which are `parts` or, if there are fewer lengths, `n`.
    """
    if len(lengths) <= parts:
        return [1] * len(lengths)
    ends = torch.arange(len(lengths) + 1)
    sizes = ends - ends.unsqueeze(1)
    slots = sizes * torch.cat([lengths, lengths.new_zeros(1)]).unsqueeze(1)
    slots = slots.double().masked_fill((sizes < 1) | (slots > rows * lengths[0]), torch.inf)
    fewest, starts = slots[0], []
    for _ in range(parts - 1):  # in one more part
        fewest, start = (fewest.unsqueeze(1) + slots).min(dim=0)
        starts.append(start)
    cuts = [len(lengths)]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1]]))
    return [end - start for start, end in pairwise([0, *cuts[::-1]])]


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
