"""Rows of metrics from the files that trainers and trackers write: one dictionary per logged row."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from . import trackio_files

EVENTS = "events.out.tfevents."
RUN_KEYS = ("run_name", "run", "run_id", "Name")
_KINDS = (
    "a trainer_state.json, a checkpoint or output folder, TensorBoard event files, a database of trackio, or an export "
    "of wandb or trackio as .csv, .json or .jsonl"
)

Rows = list[dict[str, Any]]


def read_rows(path: Path) -> tuple[Path, Rows]:
    """
    Reads what was logged, row by row; see [`~trl_archer.figures.read_run`] for what the path may be.

    Args:
        path (`Path`): A file or folder.

    Returns:
        `tuple[Path, list[dict[str, Any]]]`: the file or folder that was read, and metrics by name for each row.

    Raises:
        ValueError: If there is nothing that can be read, or several runs.
        ImportError: If event files are to be read and tensorboard is not installed.
    """
    if path.parent.suffix == trackio_files.SUFFIX and path.parent.is_file():
        return path.parent, trackio_files.read_database(path.parent, run=path.name)
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass {_KINDS}.")
    file, rows = _from_folder(path) if path.is_dir() else (path, _from_file(path))
    for key in RUN_KEYS:
        _one_run(file, [row[key] for row in rows if key in row])
    return file, rows


def checkpoint_step(folder: Path) -> int:
    """Step in the name of a checkpoint folder; -1 if it is none."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def _from_file(file: Path) -> Rows:
    if file.name.startswith(EVENTS):
        return _event_records([file])
    readers: dict[str, Callable[[Path], Rows]] = {
        ".json": _json_records,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_records,
        trackio_files.SUFFIX: trackio_files.read_database,
    }
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} is of no kind that holds metrics; pass {_KINDS}.")
    return readers[file.suffix.lower()](file)


def _from_folder(folder: Path) -> tuple[Path, Rows]:
    state = _furthest_state(folder)
    if state is not None:
        return state
    events = sorted(path for path in folder.rglob(f"{EVENTS}*") if path.is_file())
    if not events:
        raise ValueError(f"{folder} has neither a trainer_state.json nor TensorBoard event files; pass {_KINDS}.")
    return folder, _event_records(events)


def _furthest_state(folder: Path) -> tuple[Path, Rows] | None:
    """State of the folder or of its newest checkpoint: a run that was cut off has only the latter."""
    states = [folder / "trainer_state.json"]
    checkpoints = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    if checkpoints:
        states.append(max(checkpoints, key=checkpoint_step) / "trainer_state.json")
    read = [(file, _load_json(file)) for file in states if file.exists()]
    if not read:
        return None
    for file, state in read:
        if not _is_state(state):
            raise ValueError(f"{file} has no log_history; pass the state that a Trainer wrote.")
    file, state = max(read, key=lambda pair: pair[1].get("global_step") or 0)
    return file, _rows(file, state["log_history"])


def _is_state(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("log_history"), list)


def _load_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not JSON: {error}. If it was cut off, pass an older checkpoint.") from error


def _rows(file: Path, data: Any) -> Rows:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise ValueError(f"{file} must hold a list of objects, one per logged row.")
    return data


def _json_records(file: Path) -> Rows:
    """A trainer's state, a list of rows, or a table by column as pandas writes it."""
    data = _load_json(file)
    if _is_state(data):
        return _rows(file, data["log_history"])
    if isinstance(data, dict) and data and all(isinstance(column, dict) for column in data.values()):
        indices = list(dict.fromkeys(index for column in data.values() for index in column))
        data = [{name: column[index] for name, column in data.items() if index in column} for index in indices]
    return _present(_rows(file, data))


def _json_lines(file: Path) -> Rows:
    rows = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{file} has no JSON object in line {number}: {error}. Remove or mend it.") from error
    return _present(_rows(file, rows))


def _csv_records(file: Path) -> Rows:
    text = _text(file)
    if not text.strip():
        raise ValueError(f"{file} is empty; export it again.")
    try:
        rows: Rows = list(csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True))
    except csv.Error as error:
        raise ValueError(f"{file} is not CSV: {error}. Export it again.") from error
    return _present(_without_run_prefix(file, rows))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not text in UTF-8: {error}. Export it again.") from error


def _present(rows: Rows) -> Rows:
    """Tables leave a cell empty where a row did not log the column, which says nothing of its value."""
    return [{name: value for name, value in row.items() if value is not None and value != ""} for row in rows]


def _without_run_prefix(file: Path, rows: Rows) -> Rows:
    """Columns of a wandb panel are called `run - metric`, with `__MIN` and `__MAX` beside."""
    found = {name: re.fullmatch(r"(.+) - (\S+)", name) for row in rows[:1] for name in row}
    prefixes = {match[1] for match in found.values() if match}
    _one_run(file, prefixes)
    renamed = {name: match[2] if match else name for name, match in found.items()}
    return [
        {renamed[name]: value for name, value in row.items() if name and not name.endswith(("__MIN", "__MAX"))}
        for row in rows
    ]


def _one_run(file: Path, names: Iterable[Any]) -> None:
    names = sorted(set(map(str, names)))
    if len(names) > 1:
        raise ValueError(f"{file} holds {len(names)} runs ({', '.join(names[:4])}); export each run to its own file.")


def _event_records(files: Sequence[Path]) -> Rows:
    try:
        accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError as error:
        raise ImportError(
            f"{files[0]} is a TensorBoard event file; `pip install tensorboard` to read it, or pass the run's "
            "trainer_state.json."
        ) from error
    events: list[tuple[float, int, str, float]] = []
    for file in files:
        reader = accumulator.EventAccumulator(str(file), size_guidance={accumulator.SCALARS: 0})  # 0: keep all
        reader.Reload()
        for tag in reader.Tags()["scalars"]:
            events += [(event.wall_time, event.step, tag, event.value) for event in reader.Scalars(tag)]
    events.sort(key=lambda event: event[0])  # what a resumed run wrote comes last
    return [{"step": step, tag: value} for _, step, tag, value in events]
