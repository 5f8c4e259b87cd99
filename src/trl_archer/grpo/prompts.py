"""Checks that every prompt has tokens and fits into the model's positions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from accelerate.logging import get_logger
from datasets import Dataset

logger = get_logger(__name__)

_TEMPLATE = 2048  # bytes that a chat template adds at most; a longer one is found in the first rollout
_SHOWN = 5


def check_prompts(name: str, dataset: Any, tokenize: Callable[[Any], Sequence[int]], positions: int | None) -> None:
    """
    Checks the prompts of a map-style dataset. Only prompts of extreme length are tokenized: a token has at least one
    byte.

    Args:
        name (`str`): Name of the dataset in messages.
        dataset (`Dataset` or `dict` of them): Data with a column `"prompt"`. Streams are not read.
        tokenize (`Callable`): Returns the token ids of a prompt.
        positions (`int` or `None`): Positions of the model.

    Raises:
        ValueError: With the rows, if a prompt has no token, or at least as many as the model has positions.
    """
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_prompts(f"{name}['{key}']", part, tokenize, positions)
    if not isinstance(dataset, Dataset) or "prompt" not in dataset.column_names:
        return
    empty, long = [], []
    for row, prompt in enumerate(dataset.select_columns("prompt")["prompt"]):
        size = sum(len(text.encode()) for text in _texts(prompt))
        if size == 0 and len(tokenize(prompt)) == 0:
            empty.append(row)
        elif positions is not None and size + _TEMPLATE > positions and len(tokenize(prompt)) >= positions:
            long.append(row)
    if empty:
        raise ValueError(
            f"{name} has prompts without a token in {len(empty)} of {len(dataset)} rows: {_show(empty)}. Remove them, "
            "as in `dataset.filter(lambda row: row['prompt'])`."
        )
    if long:
        raise ValueError(
            f"{name} has prompts of at least {positions} tokens, the model's max_position_embeddings, in {len(long)} "
            f"of {len(dataset)} rows: {_show(long)}. Remove or shorten them."
        )


def _texts(prompt: Any) -> Iterator[str]:
    """Yields the texts of a prompt: a string, messages, or messages with typed parts."""
    if isinstance(prompt, str):
        yield prompt
    elif isinstance(prompt, dict):
        yield from _texts(prompt.get("content") or prompt.get("text") or "")
    elif isinstance(prompt, list):
        for part in prompt:
            yield from _texts(part)


def _show(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
