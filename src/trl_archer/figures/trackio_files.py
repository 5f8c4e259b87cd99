"""Rows of metrics from the database that Trackio keeps of a project."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

SUFFIX = ".db"


def read_database(file: Path, run: str | None = None) -> list[dict[str, Any]]:
    """
    Reads what one run logged to a project; changes nothing, also while the run goes on.

    Args:
        file (`Path`): The database, `<project>.db` in Trackio's folder.
        run (`str`, *optional*): Name or id of the run; may be left out if there is only one.

    Returns:
        `list[dict[str, Any]]`: Metrics by name for each row, in the order in which they were logged.

    Raises:
        ValueError: If the file cannot be read, or does not hold the run, or holds several.
    """
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            runs = connection.execute("SELECT DISTINCT run_id, run_name FROM metrics ORDER BY id").fetchall()
            run_id = _one_of(file, runs, run)
            rows = connection.execute("SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id", [run_id])
            return [{"step": step, **{k: _number(v) for k, v in json.loads(text).items()}} for step, text in rows]
    except sqlite3.Error as error:
        raise ValueError(f"{file} is not a project of Trackio: {error}. Pass <project>.db of its folder.") from error


def _number(value: Any) -> Any:
    """JSON has no numbers for these; Trackio writes their names."""
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _one_of(file: Path, runs: Sequence[tuple[str, str]], run: str | None) -> str | None:
    found = [run_id for run_id, name in runs if run in (None, run_id, name)]
    if len(found) == 1 or (run is None and not runs):
        return found[0] if found else None
    names = [name for _, name in runs]
    labels = [name if names.count(name) == 1 else run_id for run_id, name in runs]
    if not labels:
        raise ValueError(f"{file} has no run {run!r}: nothing was logged yet.")
    told = f"has no run {run!r}" if not found else f"holds {len(found)} runs" + (f" called {run!r}" if run else "")
    raise ValueError(f"{file} {told}; pass one of {', '.join(f'{file}/{label}' for label in labels[:4])}.")
