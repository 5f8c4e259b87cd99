"""Rows of metrics from the files that trainers and trackers write: one dictionary per logged row."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from . import trackio_files

EVENTS = "events.out.tfevents."
RUN_KEYS = ("run_name", "run", "run_id", "Name")
_KINDS = (
    "a trainer_state.json, a checkpoint or output folder, TensorBoard event files, a database of trackio, or an export "
    "of wandb or trackio as .csv, .json or .jsonl"
)

Rows = list[dict[str, Any]]


class ReadRows(NamedTuple):
    """
    What was read.

    Attributes:
        file (`Path`): The file or folder that was read.
        rows (`list[dict[str, Any]]`): Metrics by name for each row.
        unreadable (`list[str]`): What else is there but cannot be read.
    """

    file: Path
    rows: Rows
    unreadable: list[str]


def read_rows(path: Path) -> ReadRows:
    """
    Reads what was logged, row by row; see [`~trl_archer.figures.read_run`] for what the path may be.

    Args:
        path (`Path`): A file or folder.

    Returns:
        [`ReadRows`]: the rows, with the file that they are from.

    Raises:
        ValueError: If there is nothing that can be read, or several runs.
        ImportError: If event files are to be read and tensorboard is not installed.
    """
    if path.parent.suffix == trackio_files.SUFFIX and path.parent.is_file():
        return ReadRows(path.parent, trackio_files.read_database(path.parent, run=path.name), [])
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass {_KINDS}.")
    read = _from_folder(path) if path.is_dir() else _from_file(path)
    for key in RUN_KEYS:
        _one_run(read.file, [row[key] for row in read.rows if key in row])
    return read


def checkpoint_step(folder: Path) -> int:
    """Step in the name of a checkpoint folder; -1 if it is none."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def _from_file(file: Path) -> ReadRows:
    if file.name.startswith(EVENTS):
        return ReadRows(file, _event_records([file]), [])
    unreadable: list[str] = []
    readers: dict[str, Callable[[Path], Rows]] = {
        ".json": _json_records,
        ".jsonl": partial(_json_lines, unreadable=unreadable),
        ".ndjson": partial(_json_lines, unreadable=unreadable),
        ".csv": _csv_records,
        trackio_files.SUFFIX: trackio_files.read_database,
    }
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} is of no kind that holds metrics; pass {_KINDS}.")
    return ReadRows(file, readers[file.suffix.lower()](file), unreadable)


def _from_folder(folder: Path) -> ReadRows:
    state = _furthest_state(folder)
    if state is not None:
        return state
    events = sorted(path for path in folder.rglob(f"{EVENTS}*") if path.is_file())
    if not events:
        raise ValueError(f"{folder} has neither a trainer_state.json nor TensorBoard event files; pass {_KINDS}.")
    return ReadRows(folder, _event_records(events), [])


def _furthest_state(folder: Path) -> ReadRows | None:
    """
    State of the folder or of its newest checkpoint, whichever is further: a run that was cut off has only the latter.
    Of checkpoints, the newest that can be read.
    """
    checkpoints = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda file: checkpoint_step(file.parent))
    read: list[tuple[Path, Any]] = []
    errors: dict[Path, ValueError] = {}
    for states in ([folder / "trainer_state.json"], checkpoints[::-1]):
        for file in filter(Path.exists, states):
            try:
                read.append((file, _load_state(file)))
                break
            except ValueError as error:
                errors[file] = error
    if not read:
        if errors:
            raise next(iter(errors.values()))
        return None
    file, state = max(read, key=lambda pair: pair[1].get("global_step") or 0)
    unreadable = [f"{broken} cannot be read, {file} is read instead" for broken in errors]
    return ReadRows(file, _rows(file, state["log_history"]), unreadable)


def _load_state(file: Path) -> Any:
    state = _load_json(file)
    if not _is_state(state):
        raise ValueError(f"{file} has no log_history; pass the state that a Trainer wrote.")
    return state


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


def _json_lines(file: Path, unreadable: list[str]) -> Rows:
    rows: Rows = []
    lines = _text(file).rstrip().splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                if rows and number == len(lines):  # a process that was killed as it wrote leaves half a line
                    unreadable.append(f"{file} is cut off in line {number}, which is left out")
                    break
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
