"""Maps the columns of a dataset to those that the trainer and rewards need."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import IterableDataset

from ...grpo import preflight
from .literals import read_text
from .sources import Data

_APART = "mapped to "
_MISSING = object()
_FIRST = 16  # rows of a stream of which one must have a field

Row = Mapping[str, Any]


def column_names(data: Data) -> list[str]:
    """Returns the columns of a dataset, none for an empty stream."""
    return list(preflight.column_names(data) or ())


def quoted(names: Iterable[str]) -> str:
    """Formats names for a message."""
    return ", ".join(map(repr, names)) or "none"


def suggest_column(needed: str, data: Data) -> str:
    """Returns the column that probably holds what is needed, or `COLUMN` if none looks like it."""
    first: Row = next(iter(data), {})
    for name in preflight.USUAL_COLUMNS.get(needed, "").split():
        root, *inside = name.split(".")
        if root in first and (not inside or (isinstance(first[root], Mapping) and inside[0] in first[root])):
            return name
    return "COLUMN"


def map_columns(data: Data, columns: Mapping[str, str | list[str]], label: str) -> Data:
    """
    Renames columns, and lifts nested fields to columns. An existing column with a new name is replaced.

    A path such as `reward_model.ground_truth` or `messages.0.content` also reaches into JSON text. A list of paths
    becomes one column with a field for each.

    Raises:
        ValueError: If a column or field is missing.
    """
    present = column_names(data)
    for new, paths in columns.items():
        for path in [paths] if isinstance(paths, str) else paths:
            if path.split(".")[0] not in present:
                raise ValueError(
                    f"dataset_columns maps {new!r} to {path!r}, which {label} lacks. Its columns: {quoted(present)}."
                )
    apart = {}  # a new name may be the old name of another column
    for new, paths in sorted(columns.items(), key=lambda pair: pair[1] in present):  # fields before their columns go
        if paths != new:
            apart[new] = f"{_APART}{new}"
            data = _add(data, apart[new], paths, present, label)
    listed = {path for paths in columns.values() if isinstance(paths, list) for path in paths}
    single = {paths for paths in columns.values() if isinstance(paths, str)}
    gone = [name for name in column_names(data) if name in apart or name in listed - single]
    return data.remove_columns(gone).rename_columns({name: new for new, name in apart.items()})


def _add(data: Data, name: str, paths: str | list[str], present: list[str], label: str) -> Data:
    if isinstance(paths, str) and paths in present:
        return data.rename_column(paths, name)
    if isinstance(data, IterableDataset):
        for path in [paths] if isinstance(paths, str) else paths:
            if all(_of_row(row, path, label) is None for row in islice(data, _FIRST)):
                raise ValueError(f"dataset_columns names {path!r}, which a row of {label} lacks, as do those after it.")
        return data.map(lambda row: {name: _of_row(row, paths, label)})
    if isinstance(paths, str):
        return data.add_column(name, _column(data, paths, label))
    parts = [_column(data, path, label) for path in paths]
    return data.add_column(name, pc.make_struct(*parts, field_names=[_field(path) for path in paths]))


def _field(path: str) -> str:
    return path.rpartition(".")[2]


def _column(data: Any, path: str, label: str) -> pyarrow.ChunkedArray:
    """Returns a column or nested field. It shares the memory of the data, which may be gigabytes of tests."""
    root, *inside = [path] if path in data.column_names else path.split(".")
    column = kind = data.select_columns([root]).with_format("arrow")[:][root]
    try:
        for position, part in enumerate(inside):
            if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
                return _from_text(column, inside[position:])
            column = pc.list_element(column, int(part)) if part.isdecimal() else pc.struct_field(column, part)
    except (pyarrow.ArrowException, KeyError, ValueError):
        raise ValueError(
            f"dataset_columns names {path!r}, which {label} lacks. The column {root!r} has type {kind.type}."
        ) from None
    return column


def _from_text(column: pyarrow.ChunkedArray, inside: list[str]) -> pyarrow.ChunkedArray:
    """
    Returns a field of JSON text. Lists and dictionaries stay text, because their types may differ from row to row.

    Raises:
        KeyError: If no row has it.
    """
    values = [_inside(text.as_py(), inside, None) for text in column]
    if all(value is None for value in values):
        raise KeyError(inside)
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) > 1 or kinds & {dict, list}:
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pyarrow.chunked_array([pyarrow.array(values)])


def _inside(value: Any, parts: list[str], missing: Any) -> Any:
    """Returns a nested field, or `missing` if there is none."""
    for part in parts:
        if isinstance(value, str):
            try:
                value = read_text(value)
            except ValueError:
                return missing
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return missing
    return value


def _of_row(row: Row, paths: str | list[str], label: str) -> Any:
    if isinstance(paths, list):
        return {_field(path): _of_row(row, path, label) for path in paths}
    if paths in row:
        return row[paths]
    root, *inside = paths.split(".")
    value = _inside(row[root], inside, None if isinstance(row[root], str | None) else _MISSING)
    if value is _MISSING:
        raise ValueError(f"dataset_columns names {paths!r}, which a row of {label} lacks: {row[root]!r:.80}.")
    return json.dumps(value) if isinstance(row[root], str) and isinstance(value, dict | list) else value
