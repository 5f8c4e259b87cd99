"""Metrics of a run, from what trainers and trackers leave behind."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import read_each
from .log_files import EVENTS, RUN_KEYS, ReadRows, checkpoint_step, read_rows

# Step of the optimizer, best first: wandb's `_step` counts calls of `log`, not optimizer steps
_STEP_KEYS = ("train/global_step", "global_step", "step", "Step", "_step")
_TIMING = "profiling/"
_GENERIC_STEMS = {"trainer_state", "log_history", "history", "metrics", "export"}


@dataclass(frozen=True, eq=False)
class RunLog:
    """
    Metrics of one run. Runs of one `name` are seeds of the same run.

    Attributes:
        name (`str`): Name of the run.
        steps (`np.ndarray` of shape `(N,)`, int64): Optimizer steps at which anything was logged, ascending.
        metrics (`dict[str, np.ndarray]`):
            Values of shape `(N,)` by metric, without `train/`; evaluation metrics begin with `eval_`. NaN where a
            metric has no value.
        logged (`dict[str, np.ndarray]`):
            Whether the metric was logged at a step, shape `(N,)`: tells a mean over nothing, which is logged without
            a value, from a step at which only others were logged.
        broken (`dict[str, int]`): How many values by metric were NaN, infinite or unreadable.
        notes (`tuple[str, ...]`): What a reader of the figure should know of the file.
        unreadable (`tuple[str, ...]`): What belongs to the run but could not be read; it is among the notes, too.
    """

    name: str
    steps: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]
    logged: dict[str, NDArray[np.bool_]]
    broken: dict[str, int]
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def series(self, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """
        Steps at which a metric was logged, and its values; NaN where there is no finite one.

        Args:
            metric (`str`): Name of the metric; one that was never logged has an empty series.

        Returns:
            `tuple`: steps and values of shape `(M,)`.
        """
        if metric not in self.metrics:
            return self.steps[:0], np.empty(0)
        logged = self.logged[metric]
        values = self.metrics[metric][logged]
        return self.steps[logged], np.where(np.isfinite(values), values, np.nan)


def parse_run(text: str) -> tuple[str | None, list[Path]]:
    """
    Splits `name=path[,path...]`, a run with the paths of its seeds. The name is optional, and a path that exists is
    not split.

    Args:
        text (`str`): The notation.

    Returns:
        `tuple[str | None, list[Path]]`: name, `None` if there is none, and paths.

    Raises:
        ValueError: If the name or a path is empty.

    Example:

    ```python
    >>> name, paths = parse_run("archer=runs/seed0,runs/seed1")
    >>> name, [path.as_posix() for path in paths]
    ('archer', ['runs/seed0', 'runs/seed1'])

    ```
    """
    name: str | None = None
    rest = text
    if "=" in text and not Path(text).exists():
        name, rest = (part.strip() for part in text.split("=", 1))
        if not name:
            raise ValueError(f"{text!r} has no name before '='; write name=path[,path...].")
    parts = [rest] if Path(rest).exists() else [part.strip() for part in rest.split(",")]
    if not all(parts):
        raise ValueError(f"{text!r} has an empty path; write name=path[,path...].")
    return name, [Path(part) for part in parts]


def read_runs(texts: Sequence[str], unreadable: list[str] | None = None) -> list[RunLog]:
    """
    Reads runs given as `name=path[,path...]`, see [`parse_run`]; a path without a name is named after its folder.

    Args:
        texts (`Sequence[str]`): One notation per run.
        unreadable (`list[str]`, *optional*):
            A list to which is added what could not be read, instead of the error, as long as there is a run that can.

    Returns:
        `list[RunLog]`: The runs, seeds of one run under its name.

    Raises:
        ValueError: If two runs have one name, or a path cannot be read.
    """
    seeds: list[tuple[str, Path]] = []
    names = set()
    for text in texts:
        name, paths = parse_run(text)
        name = name or _default_name(paths[0])
        if name in names:
            raise ValueError(f"Two runs are called {name!r}; name them apart, as in name={text}.")
        names.add(name)
        seeds += [(name, path) for path in paths]
    runs = [run for _, run in read_each(seeds, lambda seed: read_run(seed[1], seed[0]), unreadable)]
    if unreadable is not None:
        unreadable += [text for run in runs for text in run.unreadable]
    return runs


def read_run(path: str | Path, name: str | None = None) -> RunLog:
    """
    Reads the metrics of one run.

    Args:
        path (`str` or `Path`):
            A `trainer_state.json`, a checkpoint folder, an output folder (its state, or that of the newest
            checkpoint, whichever is further; TensorBoard event files if there is neither), an event file, a project
            of trackio (`<project>.db`, or `<project>.db/<run>` where it holds several), or an export of wandb or
            trackio as CSV, JSON or JSON lines.
        name (`str`, *optional*): Name of the run; that of the folder or file if `None`.

    Returns:
        [`RunLog`]: its metrics. Where a step was logged twice, as after a resume, the last value counts.

    Raises:
        ValueError: If there is nothing at the path that can be read; the message names the file and the way out.
        ImportError: If event files are to be read and tensorboard is not installed.
    """
    path = Path(path)
    return _run_log(name or _default_name(path), read_rows(path))


def _default_name(path: Path) -> str:
    path = path.resolve()
    if path.is_file():
        path = path.parent if path.stem in _GENERIC_STEMS or path.name.startswith(EVENTS) else path.with_suffix("")
    return path.parent.name if checkpoint_step(path) >= 0 else path.name


def _run_log(name: str, read: ReadRows) -> RunLog:
    file, rows = read.file, [row for row in read.rows if not _is_timing(row)]
    step_key = next((key for key in _STEP_KEYS if any(key in row for row in rows)), "")
    if rows and not step_key:
        raise ValueError(f"{file} has no column of steps; it needs one of {', '.join(_STEP_KEYS)}.")

    table: dict[int, dict[str, float]] = {}
    broken: Counter[str] = Counter()
    numeric, repeated = set(), set()
    stepless = 0
    for row in rows:
        step = _number(row.get(step_key))
        if not math.isfinite(step):
            stepless += any(math.isfinite(_number(cell)) for _, cell in _cells(row))  # else a table or text
            continue
        values = table.setdefault(int(step), {})
        for metric, cell in _cells(row):
            value = _number(cell)
            if math.isfinite(value) and values.get(metric, value) != value:
                repeated.add(step)
            values[metric] = value
            broken[metric] += cell is not None and not math.isfinite(value)
            if isinstance(cell, int | float) or math.isfinite(value):
                numeric.add(metric)
    notes = list(read.unreadable)
    if not table:
        notes.append(f"{name}: no metrics in {file.name} yet")
    if stepless:
        notes.append(f"{name}: {stepless} of {len(rows)} rows of {file.name} have no step and are left out")
    if repeated:
        notes.append(f"{name}: {len(repeated)} steps logged more than once, as after a resume; the last value counts")
    names = [metric for metric in broken if metric in numeric]
    steps = sorted(table)
    return RunLog(
        name=name,
        steps=np.array(steps, dtype=np.int64),
        metrics={metric: np.array([table[step].get(metric, math.nan) for step in steps]) for metric in names},
        logged={metric: np.array([metric in table[step] for step in steps]) for metric in names},
        broken={metric: broken[metric] for metric in names if broken[metric]},
        notes=tuple(notes),
        unreadable=tuple(read.unreadable),
    )


def _is_timing(row: Mapping[str, Any]) -> bool:
    """Whether TRL timed a function; it logs that at every call, on a row without the optimizer step of the metrics."""
    return any(name and name.startswith(_TIMING) for name in row) and not any(
        math.isfinite(_number(cell)) for _, cell in _cells(row)
    )


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Metrics of a row under the names that the trainer gave them."""
    for name, cell in row.items():
        if name and name not in _STEP_KEYS and name not in RUN_KEYS and not name.startswith(("_", _TIMING)):
            yield re.sub("^eval/", "eval_", name.removeprefix("train/")), cell


def _number(cell: Any) -> float:
    """The number in a cell; NaN if it holds none."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return math.nan
