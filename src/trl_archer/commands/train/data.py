"""Loads the data of a run and checks it, before the model is loaded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import IterableDataset

from ...grpo.preflight import check_columns
from .arguments import TrainArguments
from .columns import column_names, map_columns, suggest_column
from .gradable import check_gradable
from .prompts import check_chat_template, format_prompts
from .sources import Data, open_evaluation_data, open_training_data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def load_data(
    arguments: TrainArguments,
    needed: Mapping[str, str],
    evaluates: bool,
    tokenizer: "Callable[[], PreTrainedTokenizerBase]",
    chat_template_kwargs: dict[str, Any] | None = None,
    rewards: Sequence[Any] = (),
) -> tuple[Data, Data | None]:
    """
    Loads the data of a run and converts it to TRL's format.

    Raises:
        ValueError: If the data does not exist, a column is missing, the model cannot read a prompt, or the rewards
            cannot score the rows. The message names the field and the fix.
    """
    if arguments.eval_dataset_name is not None and not evaluates:
        raise ValueError(
            f"eval_dataset_name={arguments.eval_dataset_name!r} is not used with eval_strategy='no'. Set "
            "eval_strategy to steps or epoch, or remove it."
        )
    parts = []
    for open_data in [open_training_data, open_evaluation_data] if evaluates else [open_training_data]:
        label, data = open_data(arguments)
        data = map_columns(data, arguments.columns, label)
        check_rows(data, {} if arguments.prompt_template else {"prompt": "the trainer"}, label)
        data = format_prompts(data, arguments, label)
        check_rows(data, needed, label)
        check_chat_template(data, tokenizer, chat_template_kwargs or {}, label)
        check_gradable(data, rewards, label)
        if arguments.max_prompt_length is not None:
            data = drop_long_prompts(data, arguments.max_prompt_length, tokenizer(), label, chat_template_kwargs)
        parts.append(data)
    return parts[0], parts[1] if evaluates else None


def check_rows(data: Data, needed: Mapping[str, str], label: str) -> None:
    """
    Checks that the data has rows and the needed columns.

    Raises:
        ValueError: If not; the message names the existing columns and the mapping to set.
    """
    if next(iter(data), None) is None:
        raise ValueError(f"{label} has no rows.")

    check_columns(
        label,
        column_names(data),
        needed,
        lambda column: f"`dataset_columns: {{{column}: {suggest_column(column, data)}}}`",
    )


def drop_long_prompts(
    data: Data,
    limit: int,
    tokenizer: "PreTrainedTokenizerBase",
    label: str,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> Data:
    """
    Drops rows whose prompt has more than `limit` tokens.

    Raises:
        ValueError: If no row remains.
    """

    def fits(prompt: Any) -> bool:
        if isinstance(prompt, list):
            prompt = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=False, **(chat_template_kwargs or {})
            )
            return len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) <= limit
        return len(tokenizer(prompt)["input_ids"]) <= limit

    none_fits = ValueError(
        f"All prompts of {label} have more than max_prompt_length={limit} tokens. Raise it, or set it to null."
    )
    if isinstance(data, IterableDataset):
        rest = data.filter(lambda row: fits(row["prompt"]))
        if next(iter(rest), None) is None:
            raise none_fits
        return rest
    kept = [index for index, prompt in enumerate(data["prompt"]) if fits(prompt)]
    if not kept:
        raise none_fits
    if len(kept) < len(data):
        logger.warning("%s: dropped %d of %d rows with longer prompts", label, len(data) - len(kept), len(data))
    return data.select(kept)
