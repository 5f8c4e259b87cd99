"""Metrics of a run, read from the files that a trainer writes or from a CSV table."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .._files import read_each

_STATE, _EVENTS = "trainer_state.json", "events.out.tfevents."
_KINDS = f"a {_STATE}, a checkpoint or output folder, a CSV table or TensorBoard event files"
# Columns with the optimizer step, best first: `_step` of wandb counts calls of `log`
_STEP_KEYS = ("train/global_step", "global_step", "step", "Step", "_step")
_RUN_KEYS = ("run_name", "run", "run_id", "Name")

Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class RunLog:
    """
    Metrics of one run. Runs with the same `name` are seeds of one run.

    Attributes:
        name (`str`): Name of the run.
        metrics (`dict[str, dict[int, float | None]]`):
            Values by metric and optimizer step, in the order of steps. Metrics have no prefix `train/`; those of
            evaluations start with `eval_`. `None` is a mean over nothing, NaN a value that cannot be read.
        notes (`tuple[str, ...]`): What a reader of the figure should know about the files.
        unreadable (`tuple[str, ...]`): Files of the run that cannot be read. The notes include them.
    """

    name: str
    metrics: dict[str, dict[int, float | None]]
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """Optimizer steps with at least one logged metric, ascending."""
        return np.unique(np.array([step for values in self.metrics.values() for step in values], dtype=np.int64))

    def series(self, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """
        Steps at which a metric was logged, and its values; NaN where the value is not finite.

        Args:
            metric (`str`): Name of the metric. A metric that was never logged has an empty series.

        Returns:
            `tuple`: steps and values of shape `(M,)`.
        """
        logged = self.metrics.get(metric, {})
        values = np.array(list(logged.values()), dtype=np.float64)
        return np.array(list(logged), dtype=np.int64), np.where(np.isfinite(values), values, np.nan)

    def broken(self, metric: str) -> int:
        """Number of values that are NaN, infinite or unreadable."""
        return sum(not math.isfinite(value) for value in self.metrics.get(metric, {}).values() if value is not None)


def parse_run(text: str) -> tuple[str | None, list[Path]]:
    """
    Splits `name=path[,path...]` into the name, `None` if there is none, and the paths. An existing path is not split.

    Example:

    ```python
    >>> name, paths = parse_run("archer=runs/seed0,runs/seed1")
    >>> name, [path.as_posix() for path in paths]
    ('archer', ['runs/seed0', 'runs/seed1'])

    ```
    """
    name, rest = None, text
    if "=" in text and not Path(text).exists():
        name, rest = (part.strip() for part in text.split("=", 1))
    if name == "":
        raise ValueError(f"{text!r} has no name before '='; write name=path[,path...].")
    parts = [rest] if Path(rest).exists() else [part.strip() for part in rest.split(",")]
    if not all(parts):
        raise ValueError(f"{text!r} has an empty path; write name=path[,path...].")
    return name, [Path(part) for part in parts]


def read_runs(texts: Sequence[str], unreadable: list[str] | None = None) -> list[RunLog]:
    """
    Reads runs given as `name=path[,path...]`, see [`parse_run`]. The default name is that of the folder.

    Args:
        texts (`Sequence[str]`): One text per run.
        unreadable (`list[str]`, *optional*):
            Receives a message for each file that cannot be read. Without it, or if no run can be read, that is an
            error.

    Returns:
        `list[RunLog]`: The runs; seeds of one run have the same name.

    Raises:
        ValueError: If two runs have the same name, or a path cannot be read.
    """
    by_name: dict[str, list[Path]] = {}
    for text in texts:
        name, paths = parse_run(text)
        name = name or _default_name(paths[0])
        if name in by_name:
            raise ValueError(f"Two runs are called {name!r}; rename one, for example name={text}.")
        by_name[name] = paths
    seeds = [(name, path) for name, paths in by_name.items() for path in paths]
    runs = [run for _, run in read_each(seeds, lambda seed: read_run(seed[1], seed[0]), unreadable)]
    if unreadable is not None:
        unreadable += [text for run in runs for text in run.unreadable]
    return runs


def read_run(path: str | Path, name: str | None = None) -> RunLog:
    """
    Reads the metrics of one run.

    Args:
        path (`str` or `Path`):
            An output folder, a checkpoint folder, a `trainer_state.json`, a CSV table with a column of steps, or a
            TensorBoard event file. An output folder gives its state or that of its newest checkpoint, whichever is
            further, or its event files if it has neither.
        name (`str`, *optional*): Name of the run; `None` is the name of the folder or file.

    Returns:
        [`RunLog`]: its metrics. Where a step was logged twice, as after a resume, the last value counts.

    Raises:
        ValueError: If the path cannot be read; the message names the file and the fix.
        ImportError: If the path holds event files and tensorboard is not installed.
    """
    path = Path(path)
    name = name or _default_name(path)
    file, rows, unreadable = _read_rows(path)
    step_key = next((key for key in _STEP_KEYS if any(key in row for row in rows)), "")
    if rows and not step_key:
        raise ValueError(f"{file} has no column of steps; it needs one of {', '.join(_STEP_KEYS)}.")

    metrics: dict[str, dict[int, float | None]] = {}
    numeric, repeated = set(), set()
    stepless = 0
    for row in rows:
        cells, step = _cells(row), _number(row.get(step_key))
        if not _is_finite(step):
            stepless += any(_is_finite(_number(cell)) for cell in cells.values())
            continue
        for metric, cell in cells.items():
            values, value = metrics.setdefault(metric, {}), _number(cell)
            if _is_finite(value) and values.get(int(step), value) != value:
                repeated.add(step)
            values[int(step)] = value
            if isinstance(cell, int | float) or _is_finite(value):
                numeric.add(metric)
    metrics = {metric: dict(sorted(values.items())) for metric, values in metrics.items() if metric in numeric}
    remarks = {
        f"no metrics in {file.name} yet": not metrics,
        f"{stepless} of {len(rows)} rows of {file.name} have no step and are left out": stepless,
        f"{len(repeated)} steps logged more than once, as after a resume; the last value counts": repeated,
    }
    notes = [f"{name}: {remark}" for remark, applies in remarks.items() if applies]
    return RunLog(name, metrics, (*unreadable, *notes), tuple(unreadable))


def _default_name(path: Path) -> str:
    path = path.resolve()
    if path.is_file():
        path = path.parent if path.name == _STATE or path.name.startswith(_EVENTS) else path.with_suffix("")
    return path.parent.name if _checkpoint_step(path) >= 0 else path.name


def _checkpoint_step(folder: Path) -> int:
    """The step in the name of a checkpoint folder; -1 for any other folder."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a row under the trainer's names. Timings are not metrics: TRL logs them at every call."""
    return {
        re.sub("^eval/", "eval_", name.removeprefix("train/")): cell
        for name, cell in row.items()
        if name not in (*_STEP_KEYS, *_RUN_KEYS) and not name.startswith(("_", "profiling/"))
    }


def _number(cell: Any) -> float | None:
    """The number in a cell, `None` if it is empty, NaN if it holds something else."""
    try:
        return None if cell is None else float(cell)
    except (TypeError, ValueError):
        return math.nan


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _read_rows(path: Path) -> tuple[Path, Rows, list[str]]:
    """The file or folder that was read, its rows, and messages about files that cannot be read."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass {_KINDS}.")
    if path.is_dir():
        return _from_folder(path)
    if path.name.startswith(_EVENTS):
        return path, _event_rows([path]), []
    if path.suffix == ".json":
        return path, _load_state(path)["log_history"], []
    if path.suffix == ".csv":
        return path, _csv_rows(path), []
    raise ValueError(f"{path} is not a file of metrics; pass {_KINDS}.")


def _from_folder(folder: Path) -> tuple[Path, Rows, list[str]]:
    """An interrupted run has states in its checkpoints only. A resumed one may have an old state beside newer ones."""
    checkpoints = sorted(folder.glob(f"checkpoint-*/{_STATE}"), key=lambda file: _checkpoint_step(file.parent))
    states: list[tuple[Path, Any]] = []
    errors: dict[Path, ValueError] = {}
    for files in ([folder / _STATE], checkpoints[::-1]):
        for file in filter(Path.exists, files):
            try:
                states.append((file, _load_state(file)))
                break
            except ValueError as error:
                errors[file] = error
    if states:
        file, state = max(states, key=lambda pair: pair[1].get("global_step") or 0)
        return file, state["log_history"], [f"{path} cannot be read, {file} is read instead" for path in errors]
    if errors:
        raise next(iter(errors.values()))
    events = sorted(path for path in folder.rglob(f"{_EVENTS}*") if path.is_file())
    if not events:
        raise ValueError(f"{folder} has neither a {_STATE} nor TensorBoard event files; pass {_KINDS}.")
    return folder, _event_rows(events), []


def _load_state(file: Path) -> Any:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not JSON: {error}. If it is cut off, pass an older checkpoint.") from error
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise ValueError(f"{file} has no log_history; pass the {_STATE} of a Trainer.")
    return state


def _csv_rows(file: Path) -> Rows:
    import pandas

    try:
        table = pandas.read_csv(file, dtype=str, index_col=False, na_filter=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is not a CSV table in UTF-8: {error}. Export it again.") from error
    for column in table.columns.intersection(_RUN_KEYS):
        runs = sorted(table[column].unique())
        if len(runs) > 1:
            raise ValueError(f"{file} holds {len(runs)} runs ({', '.join(runs[:4])}); export each run to its own file.")
    # An empty cell is a metric that the row did not log
    return [{name: cell for name, cell in row.items() if cell} for row in table.to_dict("records")]


def _event_rows(files: Sequence[Path]) -> Rows:
    try:
        accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError as error:
        raise ImportError(
            f"{files[0]} is a TensorBoard event file; `pip install tensorboard` to read it, or pass the run's {_STATE}."
        ) from error
    events: list[tuple[float, int, str, float]] = []
    for file in files:
        reader = accumulator.EventAccumulator(str(file), size_guidance={accumulator.SCALARS: 0})  # 0: keep all
        reader.Reload()
        for tag in reader.Tags()["scalars"]:
            events += [(event.wall_time, event.step, tag, event.value) for event in reader.Scalars(tag)]
    events.sort(key=lambda event: event[0])  # what a resumed run wrote comes last
    return [{"step": step, tag: value} for _, step, tag, value in events]
