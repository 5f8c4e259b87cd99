"""Opens the dataset that a recipe names: on the Hub, in a file, in a folder, or the playground."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from datasets import Dataset, IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationError

from ...evaluation.benchmarks import PLAYGROUND

if TYPE_CHECKING:
    from .arguments import TrainArguments

_PLAYGROUND_SPLITS = {"train": ("rl", 4096), "test": ("eval", 256)}
_BUILDERS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".jsonlines": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_OTHER_FILES = (".txt", ".xlsx", ".xls", ".pkl", ".pickle", ".yaml", ".yml", ".md", ".feather", ".zip", ".tar")
_SAVED_TO_DISK = ("state.json", "dataset_dict.json")

Data: TypeAlias = Dataset | IterableDataset


def open_training_data(arguments: "TrainArguments") -> tuple[str, Data]:
    """
    Opens the training data.

    Returns:
        `tuple`: A label for messages, and the data.

    Raises:
        ValueError: If there is no such dataset or split, or the file has an ending that cannot be read.
    """
    name, split = str(arguments.dataset_name), arguments.dataset_train_split
    return _open(name, arguments.dataset_config, split, "train_split", arguments.dataset_streaming)


def open_evaluation_data(arguments: "TrainArguments") -> tuple[str, Data]:
    """
    Opens the data to evaluate on: `eval_dataset_name`, or the test split of `dataset_name`.

    Returns:
        `tuple`: A label for messages, and the data.

    Raises:
        ValueError: If there is no such dataset or split.
    """
    name, config, split = arguments.eval_dataset_name, None, arguments.dataset_test_split
    field = "eval_dataset_name"
    if name is None:
        name, config, field = str(arguments.dataset_name), arguments.dataset_config, "dataset_name"
        if _builder(name) and _base(split) != _base(arguments.dataset_train_split):
            raise ValueError(
                f"dataset_name={name!r} is one file, without a split {split!r} to evaluate on. Set eval_dataset_name "
                "to another file, or split it with dataset_train_split='train[:-500]' and "
                "dataset_test_split='train[-500:]'."
            )
    return _open(name, config, split, "test_split", arguments.dataset_streaming, field)


def _open(
    name: str, config: str | None, split: str, split_field: str, streaming: bool, field: str = "dataset_name"
) -> tuple[str, Data]:
    label = f"{name!r} (split {split!r})"
    builder = _builder(name)
    if config is not None and (name == PLAYGROUND or builder):
        raise ValueError(f"dataset_config={config!r} has no effect for {name!r}. Remove it.")
    if name == PLAYGROUND:
        return label, _open_playground(split, split_field)
    options: dict[str, Any] = {}
    if builder:
        if not Path(name).is_file():
            raise ValueError(f"There is no file {name!r} to load data from (relative to {Path.cwd()}).")
        options["data_files"] = {_base(split): name}
        if _ending(name) == ".tsv":
            options["sep"] = "\t"
    else:
        _refuse_other_paths(name, field)
    try:
        return label, load_dataset(builder or name, name=config, split=split, streaming=streaming, **options)
    except (ValueError, ImportError, DatasetGenerationError) as error:
        reason = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise ValueError(f"{name!r}, dataset_{split_field}={split!r}: {reason}") from error


def is_on_hub(name: str) -> bool:
    """Whether a recipe's dataset is one on the Hub, not a local one or the playground."""
    return name != PLAYGROUND and not _builder(name) and not Path(name).exists()


def _open_playground(split: str, split_field: str) -> Dataset:
    from ...playground import load_dataset as load_playground

    if split not in _PLAYGROUND_SPLITS:
        raise ValueError(f"dataset_{split_field}={split!r}: the playground has the splits 'train' and 'test'.")
    part, rows = _PLAYGROUND_SPLITS[split]
    return load_playground(part, rows, seed=0)


def _refuse_other_paths(name: str, field: str) -> None:
    """Refuses paths that `load_dataset` would look up on the Hub or read as lines of text."""
    path = Path(name)
    endings = f"A file of data ends in {', '.join(_BUILDERS)}, or one of these with {', '.join(_COMPRESSED)}"
    if path.is_file() or _ending(name) in _OTHER_FILES or path.suffix.lower() in (*_COMPRESSED, *_OTHER_FILES):
        raise ValueError(f"{field}={name!r}: the ending {path.suffix!r} is not supported. {endings}.")
    if path.is_dir() and any((path / file).is_file() for file in _SAVED_TO_DISK):
        raise ValueError(
            f"{field}={name!r} is a folder that `save_to_disk` wrote. Convert it with "
            f"`datasets.load_from_disk({name!r}).to_parquet('data.parquet')`, for one split if it has several."
        )
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ValueError(f"There is no file or folder {name!r} to load data from (relative to {Path.cwd()}).")


def _ending(name: str) -> str:
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix


def _builder(name: str) -> str | None:
    """Returns the `datasets` builder of a file, by its ending. `None` if it is not a file that we can read."""
    return None if Path(name).is_dir() else _BUILDERS.get(_ending(name))


def _base(split: str) -> str:
    """Returns the split that a slice such as `train[:100]` belongs to."""
    return re.split(r"\W", split, maxsplit=1)[0]
