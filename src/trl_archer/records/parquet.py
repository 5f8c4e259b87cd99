"""
Per-token records of training steps: one Parquet file per recorded step, one row per completion.

`SCHEMA` is the format. The file's metadata has, under the key `trl_archer`, a JSON object with `schema_version` and
the `settings` of the objective: the fields of [`~objective.Constraints`], `loss_type` and `temperature`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .._files import read_each, whole_file

SCHEMA_VERSION = 2
METADATA_KEY = b"trl_archer"
FOLDER = "token_records"  # in the output folder of a run
_HINT = "Train with token_records_steps=... and pass the output folder of the run, or a file in its token_records."
_FLOATS = pa.list_(pa.float32())
_TYPES = {
    "step": pa.int64(),
    "rank": pa.int32(),
    "row": pa.int32(),
    "prompt": pa.string(),
    "completion": pa.string(),
    "token_ids": pa.list_(pa.int32()),
    "tokens": pa.list_(pa.string()),
    "reward": pa.float64(),
    "advantage": pa.float64(),
    "entropy_threshold": pa.float32(),
    **dict.fromkeys(("entropies", "per_token_logps", "old_per_token_logps", "ref_per_token_logps", "gate"), _FLOATS),
    **dict.fromkeys(("mask", "clipped_low", "clipped_high"), pa.list_(pa.bool_())),
}
_NULLABLE = ("reward", "advantage", "ref_per_token_logps")
SCHEMA = pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind in _TYPES.items()])
_PER_TOKEN = [field.name for field in SCHEMA if pa.types.is_list(field.type)]

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CompletionRecord:
    """
    One completion as one update saw it. Arrays have one entry per token of the completion, without padding.

    Attributes:
        step (`int`): Optimizer step.
        rank (`int`): Process that trained on it.
        row (`int`): Its row in that process's batch.
        prompt (`str`): Text of the prompt.
        completion (`str`): Text of the completion.
        token_ids (`np.ndarray` of shape `(T,)`, int32): Token ids.
        tokens (`Sequence[str]` of length `T`): Decoded piece of each token.
        reward (`float` or `None`): Its reward; `None` if it could not be scored.
        advantage (`float` or `None`): Its advantage.
        entropy_threshold (`float`): Threshold of the response in nats; tokens above it are reasoning.
        entropies (`np.ndarray` of shape `(T,)`): Entropies in nats.
        per_token_logps (`np.ndarray` of shape `(T,)`): Log-probabilities of the policy in the update, in nats.
        old_per_token_logps (`np.ndarray` of shape `(T,)`):
            Those of the policy that sampled it; equal to `per_token_logps` in a strictly on-policy run.
        gate (`np.ndarray` of shape `(T,)`): Weight of the reasoning role in [0, 1].
        mask (`np.ndarray` of shape `(T,)`, bool): Whether the token counts in the loss.
        clipped_low (`np.ndarray` of shape `(T,)`, bool): Whether the lower end of the clip range stopped its gradient.
        clipped_high (`np.ndarray` of shape `(T,)`, bool): Whether the upper end did.
        ref_per_token_logps (`np.ndarray` of shape `(T,)`, *optional*):
            Log-probabilities of the reference; `None` without one.
    """

    step: int
    rank: int
    row: int
    prompt: str
    completion: str
    token_ids: NDArray[np.int32]
    tokens: Sequence[str]
    reward: float | None
    advantage: float | None
    entropy_threshold: float
    entropies: Floats
    per_token_logps: Floats
    old_per_token_logps: Floats
    gate: Floats
    mask: Flags
    clipped_low: Flags
    clipped_high: Flags
    ref_per_token_logps: Floats | None = None


@dataclass(frozen=True, eq=False)
class TokenRecords:
    """
    Recorded completions, ordered by step, rank and row.

    Attributes:
        completions (`Sequence[CompletionRecord]`): The completions.
        settings (`Mapping[str, Any]`): Settings of the objective: the fields of
            [`~objective.Constraints`] as nested dictionaries, `loss_type` and `temperature`.
    """

    completions: Sequence[CompletionRecord]
    settings: Mapping[str, Any]


def step_path(folder: str | Path, step: int) -> Path:
    """File of one step in a folder of records."""
    return Path(folder) / f"step-{step:08d}.parquet"


def write_token_records(path: str | Path, completions: Sequence[CompletionRecord], settings: Mapping[str, Any]) -> Path:
    """
    Writes the records of one step. The file is written completely or not at all, and replaces an existing one.

    Args:
        path (`str` or `Path`): The file, or a folder in which [`step_path`] names it by its step.
        completions (`Sequence[CompletionRecord]`): Completions of one step, of all ranks.
        settings (`Mapping[str, Any]`): Settings of the objective, serializable as JSON.

    Returns:
        `Path`: The file.

    Raises:
        ValueError: If there are no completions, they are of several steps, or the fields of one differ in length.
    """
    steps = sorted({record.step for record in completions})
    if len(steps) != 1:
        raise ValueError(f"A file has the completions of one step, got steps {steps}. Write one file per step.")
    for record in completions:
        check_lengths(record)
    ordered = sorted(completions, key=lambda record: (record.rank, record.row))
    columns = [pa.array([getattr(record, field.name) for record in ordered], field.type) for field in SCHEMA]
    metadata = {METADATA_KEY: json.dumps({"schema_version": SCHEMA_VERSION, "settings": dict(settings)})}
    table = pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(metadata))

    path = Path(path)
    if path.suffix != ".parquet":
        path = step_path(path, steps[0])
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def check_lengths(record: CompletionRecord) -> None:
    lengths = {name: len(value) for name in _PER_TOKEN if (value := getattr(record, name)) is not None}
    for name, length in lengths.items():
        if length != lengths["token_ids"]:
            raise ValueError(
                f"Completion of step {record.step}, rank {record.rank}, row {record.row} has "
                f"{lengths['token_ids']} token_ids but {length} {name}; give one entry per token, without padding."
            )


def read_token_records(path: str | Path, step: int | None = None, unreadable: list[str] | None = None) -> TokenRecords:
    """
    Reads the records of one step or of all.

    Args:
        path (`str` or `Path`):
            A file, a folder of files named as by [`step_path`], or the output folder of a run, whose `token_records`
            is read.
        step (`int`, *optional*): The only step to read; all if `None`.
        unreadable (`list[str]`, *optional*):
            List that receives what could not be read. Without it, or if nothing can be read, an error is raised.

    Returns:
        [`TokenRecords`]: the completions and their settings.

    Raises:
        ValueError: If there are no records or none of this step, a file is not a Parquet file of records (the message
            lists the missing columns) or has an unknown schema version, or files differ in their settings.
    """
    read = read_each(_files(Path(path), step), _read_table, unreadable)
    first, (_, settings) = read[0]
    completions: list[CompletionRecord] = []
    for file, (table, file_settings) in read:
        if file_settings != settings:
            differing = sorted(k for k in settings | file_settings if settings.get(k) != file_settings.get(k))
            raise ValueError(
                f"{first} and {file} were recorded with different {', '.join(differing)}; read one step at a time."
            )
        completions += [r for r in _completions(table) if step is None or r.step == step]
    if step is not None and not completions:
        raise ValueError(f"{path} has no completions of step {step}.")
    return TokenRecords(sorted(completions, key=lambda r: (r.step, r.rank, r.row)), settings)


def _files(path: Path, step: int | None) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.glob("step-*.parquet"))
    if not files and (path / FOLDER).is_dir():
        return _files(path / FOLDER, step)
    if not files:
        raise ValueError(f"{path} is neither a Parquet file nor a folder with step-*.parquet files. {_HINT}")
    if step is None:
        return files
    if step_path(path, step) not in files:
        recorded = ", ".join(file.stem.removeprefix("step-").lstrip("0") or "0" for file in files)
        raise ValueError(f"{path} has no records of step {step}; recorded steps: {recorded}.")
    return [step_path(path, step)]


def _read_table(file: Path) -> tuple[pa.Table, dict[str, Any]]:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{file} cannot be read as Parquet: {reason}. Is the copy complete?") from error
    version, settings = _metadata(file, table)
    absent = [field for field in SCHEMA if field.name not in table.column_names]
    missing = [field.name for field in absent if not field.nullable]
    lacks = f" It lacks the columns {', '.join(missing)}." if missing else ""
    if version not in (1, SCHEMA_VERSION):
        raise ValueError(
            f"{file} has token records of schema version {version}; this version reads 1 to {SCHEMA_VERSION}.{lacks} "
            "Read it with the version of trl-archer that wrote it."
        )
    if missing or not isinstance(settings, dict):
        lacks = lacks or " Its metadata has no key `trl_archer`."
        raise ValueError(f"{file} does not hold token records of trl-archer.{lacks} {_HINT}")
    for field in absent:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{file} has columns with other types than token records: {error}") from error
    return table, _nested(settings) if version == 1 else settings


def _metadata(file: Path, table: pa.Table) -> tuple[Any, Any]:
    """Schema version and settings; `None` for settings in a file of another kind."""
    try:
        metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError as error:
        raise ValueError(f"{file} has metadata under `trl_archer` that is not JSON: {error}") from error
    metadata = metadata if isinstance(metadata, dict) else {}
    return metadata.get("schema_version", SCHEMA_VERSION), metadata.get("settings")


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of schema version 1, which had the flat fields of `ArcherGRPOConfig`, in today's form."""
    roles: dict[str, Any] = {}
    for role, suffix in (("knowledge", ""), ("reasoning", "_reasoning")):
        low, high = (settings.pop(f"epsilon{suffix}{side}", None) for side in ("", "_high"))
        beta = settings.pop(f"beta{suffix}", None)
        if low is not None:
            roles[role] = {"epsilon_low": low, "epsilon_high": low if high is None else high, "beta": beta}
    return {**roles, **settings}


def _completions(table: pa.Table) -> list[CompletionRecord]:
    rows = zip(*(_column(table[name]) for name in SCHEMA.names), strict=True)
    return [CompletionRecord(**dict(zip(SCHEMA.names, row, strict=True))) for row in rows]


def _column(column: pa.ChunkedArray) -> list[Any]:
    """Values by row: Python scalars, lists of strings, and NumPy arrays for lists of numbers."""
    if not pa.types.is_list(column.type) or pa.types.is_string(column.type.value_type):
        return column.to_pylist()
    return list(column.to_numpy())
