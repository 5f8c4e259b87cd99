"""Loads the data of a run, and maps its columns to those that the trainer and rewards need."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow  # type: ignore[import-untyped]
from datasets import Dataset, IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from pyarrow.compute import struct_field  # type: ignore[import-untyped]

from ...grpo.preflight import check_columns
from .arguments import TrainArguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PLAYGROUND = "playground"
_PLAYGROUND_SPLITS = {"train": ("rl", 4096), "test": ("eval", 256)}
_APART = "mapped to "
_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}

Data: TypeAlias = Dataset | IterableDataset
Row: TypeAlias = Mapping[str, Any]


def load_data(
    arguments: TrainArguments,
    needed: Mapping[str, str],
    evaluates: bool,
    tokenizer: "Callable[[], PreTrainedTokenizerBase]",
    chat_template_kwargs: dict[str, Any] | None = None,
) -> tuple[Data, Data | None]:
    """
    Loads the data of a run and converts it to TRL's format.

    Raises:
        ValueError: If the data does not exist, or a column is missing; the message lists the existing columns.
    """
    if arguments.eval_dataset_name is not None and not evaluates:
        raise ValueError(
            f"eval_dataset_name={arguments.eval_dataset_name!r} is not used with eval_strategy='no'. Set "
            "eval_strategy to steps or epoch, or remove it."
        )
    sources = [(str(arguments.dataset_name), arguments.dataset_config, arguments.dataset_train_split, "train_split")]
    if evaluates:
        sources.append(_eval_source(arguments))

    parts = []
    for name, config, split, split_field in sources:
        data = _load(name, config, split, split_field, arguments.dataset_streaming)
        label = f"{name!r} (split {split!r})"
        data = map_columns(data, arguments.columns, label)
        data = format_prompts(data, arguments, label)
        check_rows(data, needed, label)
        if arguments.max_prompt_length is not None:
            data = drop_long_prompts(data, arguments.max_prompt_length, tokenizer(), label, chat_template_kwargs)
        parts.append(data)
    return parts[0], parts[1] if evaluates else None


def _eval_source(arguments: TrainArguments) -> tuple[str, str | None, str, str]:
    if arguments.eval_dataset_name is not None:
        return arguments.eval_dataset_name, None, arguments.dataset_test_split, "test_split"
    name, split = str(arguments.dataset_name), arguments.dataset_test_split
    if _is_file(name) and _base(split) != _base(arguments.dataset_train_split):
        raise ValueError(
            f"dataset_name={name!r} is one file, without a split {split!r} to evaluate on. Set eval_dataset_name to "
            "another file, or split it with dataset_train_split='train[:-500]' and dataset_test_split='train[-500:]'."
        )
    return name, arguments.dataset_config, split, "test_split"


def _load(name: str, config: str | None, split: str, split_field: str, streaming: bool) -> Data:
    if config is not None and (name == PLAYGROUND or _is_file(name)):
        raise ValueError(f"dataset_config={config!r} has no effect for {name!r}. Remove it.")
    if name == PLAYGROUND:
        return _load_playground(split, split_field)
    files = None
    if _is_file(name):
        if not Path(name).is_file():
            raise ValueError(f"There is no file {name!r} to load data from (relative to {Path.cwd()}).")
        files = {_base(split): name}
    builder = _BUILDERS[Path(name).suffix] if files else name
    try:
        return load_dataset(builder, name=config, data_files=files, split=split, streaming=streaming)
    except (ValueError, DatasetGenerationError) as error:
        reason = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise ValueError(f"{name!r}, dataset_{split_field}={split!r}: {reason}") from error


def _load_playground(split: str, split_field: str) -> Dataset:
    from ...playground import load_dataset as load_playground

    if split not in _PLAYGROUND_SPLITS:
        raise ValueError(f"dataset_{split_field}={split!r}: the playground has the splits 'train' and 'test'.")
    part, rows = _PLAYGROUND_SPLITS[split]
    return load_playground(part, rows, seed=0)


def map_columns(data: Data, columns: Mapping[str, str], label: str) -> Data:
    """
    Renames columns. An existing column with a new name is replaced.

    Raises:
        ValueError: If a column is missing.
    """
    present = _columns(data)
    renamed = {}
    for new, old in columns.items():
        if old.split(".")[0] not in present:
            raise ValueError(
                f"dataset_columns maps {new!r} to {old!r}, which {label} lacks. Its columns: {_quoted(present)}."
            )
        if old not in present:
            data = _lift(data, old, label)
        if old != new:
            renamed[old] = new
    replaced = [new for new in renamed.values() if new in present and new not in renamed]
    apart = {old: f"{_APART}{new}" for old, new in renamed.items()}  # a new name may be the old name of another
    data = data.remove_columns(replaced).rename_columns(apart)
    return data.rename_columns({name: name.removeprefix(_APART) for name in apart.values()})


def _lift(data: Data, path: str, label: str) -> Data:
    """Adds a field inside a column as its own column, under its path."""
    if isinstance(data, IterableDataset):
        return data.map(lambda row: {path: _reach(row, path, label)})
    root, *inside = path.split(".")
    # Shares the data, which may be gigabytes of tests
    column = data.select_columns([root]).with_format("arrow")[:][root]
    try:
        return data.add_column(path, struct_field(column, inside))
    except (pyarrow.ArrowException, KeyError):
        raise ValueError(
            f"dataset_columns names {path!r}, which {label} lacks. The column {root!r} has type {column.type}."
        ) from None


def _reach(row: Row, path: str, label: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"dataset_columns names {path!r}, which a row of {label} lacks: {value!r:.80}.")
        value = value[part]
    return value


def format_prompts(data: Data, arguments: TrainArguments, label: str) -> Data:
    """
    Builds prompts from the template and the system message, if set.

    Raises:
        ValueError: If the template uses a missing column.
    """
    if not (arguments.prompt_template or arguments.system_prompt or arguments.conversational):
        return data
    make = _prompt_maker(arguments, label)
    columns = _columns(data)
    if arguments.prompt_template is None:
        check_rows(data, {"prompt": "the trainer"}, label)
    if isinstance(data, IterableDataset):
        return data.map(lambda row: {"prompt": make(row)})
    used = [name for name in columns if name == "prompt" or name in (arguments.prompt_template or "")]
    prompts = [make(row) for row in data.select_columns(used or columns)]
    rest = data.remove_columns(["prompt"]) if "prompt" in columns else data
    return rest.add_column("prompt", prompts)


def _prompt_maker(arguments: TrainArguments, label: str) -> Callable[[Row], Any]:
    from jinja2 import Environment, StrictUndefined, TemplateError

    try:
        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        template = environment.from_string(arguments.prompt_template or "{{ prompt }}")
    except TemplateError as error:
        raise ValueError(f"prompt_template is not a valid Jinja template: {error}.") from None
    system = [{"role": "system", "content": arguments.system_prompt}] if arguments.system_prompt else []

    def make(row: Row) -> Any:
        prompt: Any = row.get("prompt")
        if arguments.prompt_template is not None:
            try:
                prompt = template.render(row)
            except TemplateError as error:
                raise ValueError(f"prompt_template does not fit {label}: {error}. Columns: {_quoted(row)}.") from None
        if isinstance(prompt, str) and (system or arguments.conversational):
            prompt = [{"role": "user", "content": prompt}]
        if system and prompt and prompt[0]["role"] == "system":
            raise ValueError(f"system_prompt is set, but prompts of {label} begin with a system message. Remove it.")
        return [*system, *prompt] if system else prompt

    return make


def check_rows(data: Data, needed: Mapping[str, str], label: str) -> None:
    """
    Checks that the data has rows, the needed columns, and prompts that TRL can read.

    Raises:
        ValueError: If not; the message names the existing columns and the mapping to set.
    """
    check_columns(label, _columns(data), needed, lambda column, first: f"`dataset_columns: {{{column}: {first}}}`")
    first = next(iter(data), None)
    if first is None:
        raise ValueError(f"{label} has no rows.")
    prompt = first.get("prompt")
    if "prompt" in needed and not isinstance(prompt, str | list):
        raise ValueError(f"Prompts of {label} are neither text nor lists of messages; the first is {prompt!r:.80}.")


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


def _is_file(name: str) -> bool:
    return Path(name).suffix in _BUILDERS


def _base(split: str) -> str:
    """Returns the split that a slice such as `train[:100]` belongs to."""
    return re.split(r"\W", split, maxsplit=1)[0]


def _columns(data: Data) -> list[str]:
    if data.column_names is not None:
        return list(data.column_names)
    return list(next(iter(data), {}))  # the columns of a stream are known only from its rows


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
