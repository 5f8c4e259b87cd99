"""A trainer's state, a checkpoint, a CSV table and event files give the same run; errors name the file and the fix."""

import csv
import json
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from trl_archer.figures import read_run, read_runs
from trl_archer.figures.logs import parse_run

HISTORY: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0.1, "reward": 0.25, "entropy/reasoning": None, "entropy": 0.5},
    {"step": 20, "epoch": 0.2, "reward": 0.5, "entropy/reasoning": 2.0, "entropy": 0.25},
    {"step": 25, "eval_reward": 0.75},
    {"step": 30, "epoch": 0.3, "reward": 1.0, "entropy/reasoning": 1.5, "entropy": float("nan")},
    {"step": 30, "train_runtime": 7.0},
]


def write_state(folder: Path, history: list[dict[str, Any]] = HISTORY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"global_step": max((row["step"] for row in history), default=0), "log_history": history}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def rows_of_wandb() -> list[dict[str, Any]]:
    """Rows as TRL logs them to wandb: prefixes, both kinds of step, a table and a timing without an optimizer step."""
    rows: list[dict[str, Any]] = [
        {"_step": 0, "completions": {"_type": "table-file"}, "_runtime": 1.5},
        {"_step": 0, "profiling/Time taken: ArcherGRPOTrainer.compute_loss": 0.25, "_runtime": 1.5},
    ]
    for index, entry in enumerate(HISTORY, start=1):
        metrics = {k: v for k, v in entry.items() if k != "step"}
        named = {("eval/" + k[5:] if k.startswith("eval_") else f"train/{k}"): v for k, v in metrics.items()}
        rows.append({"_step": index, "_timestamp": 1e9, "train/global_step": entry["step"], **named})
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_state_of_a_trainer(tmp_path: Path) -> None:
    run = read_run(write_state(tmp_path / "archer"))
    assert run.name == "archer"
    assert run.steps.tolist() == [10, 20, 25, 30]
    assert run.metrics["reward"] == {10: 0.25, 20: 0.5, 30: 1.0}
    assert run.metrics["eval_reward"] == {25: 0.75}
    assert {metric: run.broken(metric) for metric in run.metrics if run.broken(metric)} == {"entropy": 1}
    assert run.notes == ()


def test_a_mean_over_nothing_is_a_gap_and_a_step_of_other_metrics_is_not(tmp_path: Path) -> None:
    run = read_run(write_state(tmp_path))
    steps, values = run.series("entropy/reasoning")
    assert steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(values, [np.nan, 2.0, 1.5])
    steps, values = run.series("reward")
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [0.25, 0.5, 1.0]
    assert [len(part) for part in run.series("no such metric")] == [0, 0]


def test_an_output_folder_is_its_furthest_state(tmp_path: Path) -> None:
    write_state(tmp_path / "run" / "checkpoint-9", HISTORY[:1])
    write_state(tmp_path / "run" / "checkpoint-20", HISTORY[:2])
    run = read_run(tmp_path / "run")
    assert run.steps.tolist() == [10, 20]
    write_state(tmp_path / "run")
    assert read_run(tmp_path / "run").steps.tolist() == [10, 20, 25, 30]
    checkpoint = read_run(tmp_path / "run" / "checkpoint-9")
    assert (checkpoint.name, checkpoint.steps.tolist()) == ("run", [10])


def test_a_table_equals_the_state(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "export.csv", rows_of_wandb())
    run, expected = read_run(path), read_run(write_state(tmp_path / "state"))
    assert run.steps.tolist() == expected.steps.tolist()
    assert run.metrics.keys() == expected.metrics.keys()
    for metric, values in expected.metrics.items():
        given = {step: value for step, value in values.items() if value is not None}  # a table has an empty cell
        assert run.metrics[metric].keys() == given.keys()
        np.testing.assert_array_equal(list(run.metrics[metric].values()), list(given.values()), err_msg=metric)
    assert run.broken("entropy") == 1
    assert run.notes == ()  # the rows of the table and the timing have no metric


def test_a_table_of_several_runs_is_refused(tmp_path: Path) -> None:
    rows = [{"timestamp": "2025-11-01T10:00:00", "run_name": "a", "step": 3, "train/reward": "0.5", "host": "gpu-1"}]
    run = read_run(write_csv(tmp_path / "one.csv", rows))
    assert run.metrics == {"reward": {3: 0.5}}
    path = write_csv(tmp_path / "two.csv", [*rows, rows[0] | {"run_name": "b"}])
    with pytest.raises(ValueError, match=r"two\.csv holds 2 runs \(a, b\); export each run to its own file"):
        read_run(path)


def test_the_last_value_of_a_step_counts(tmp_path: Path) -> None:
    rows = [{"step": s, "reward": r} for s, r in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, 0.35))]
    run = read_run(write_csv(tmp_path / "resumed.csv", rows))
    assert list(run.metrics["reward"].values()) == [0.1, 0.25, 0.35]
    assert run.notes == ("resumed: 2 steps logged more than once, as after a resume; the last value counts",)


def test_rows_without_a_step_are_noted(tmp_path: Path) -> None:
    rows = [{"step": 1, "reward": 1.0}, {"reward": 2.0}, {"profiling/Time taken: T.f": 0.5}]
    run = read_run(write_csv(tmp_path / "run.csv", rows))
    assert run.steps.tolist() == [1]
    assert run.notes == ("run: 1 of 3 rows of run.csv have no step and are left out",)


def test_timings_are_not_metrics(tmp_path: Path) -> None:
    rows = [{"step": 1, "profiling/Time taken: T.f": 0.5}, {"step": 2, "reward": 1.0, "profiling/Time taken: T.f": 1}]
    run = read_run(write_csv(tmp_path / "run.csv", rows))
    assert run.steps.tolist() == [2]
    assert run.metrics.keys() == {"reward"}


def test_a_broken_state_is_replaced_by_a_checkpoint(tmp_path: Path) -> None:
    write_state(tmp_path / "checkpoint-10", HISTORY[:1])
    for folder in (tmp_path, tmp_path / "checkpoint-20"):
        (write_state(folder) / "trainer_state.json").write_text('{"log_history": [')
    run = read_run(tmp_path)
    assert run.steps.tolist() == [10]
    whole = tmp_path / "checkpoint-10" / "trainer_state.json"
    broken = [tmp_path / "trainer_state.json", tmp_path / "checkpoint-20" / "trainer_state.json"]
    assert run.unreadable == tuple(f"{file} cannot be read, {whole} is read instead" for file in broken)
    assert set(run.unreadable) <= set(run.notes)
    whole.unlink()
    with pytest.raises(ValueError, match=r"trainer_state\.json is not JSON"):
        read_run(tmp_path)


def test_unreadable_runs_do_not_stop_the_others(tmp_path: Path) -> None:
    good, bad = write_state(tmp_path / "good"), tmp_path / "bad"
    unreadable: list[str] = []
    assert [run.name for run in read_runs([f"a={good},{bad}", f"b={bad}", f"c={good}"], unreadable)] == ["a", "c"]
    assert len(unreadable) == 2
    assert unreadable[0].startswith(f"Left out: {bad} does not exist")
    with pytest.raises(ValueError, match="does not exist"):
        read_runs([str(good), str(bad)])
    with pytest.raises(ValueError, match=r"bad does not exist(.|\n)*worse does not exist"):
        read_runs([str(bad), str(tmp_path / "worse")], [])


def test_unreadable_cells_of_a_metric_are_counted(tmp_path: Path) -> None:
    rows = [{"step": 1, "kl": "oops"}, {"step": 2, "kl": "0.5"}, {"step": 3, "kl": "Infinity"}, {"step": 4, "kl": "1"}]
    run = read_run(write_csv(tmp_path / "a.csv", rows))
    np.testing.assert_array_equal(run.series("kl")[1], [np.nan, 0.5, np.nan, 1.0])
    assert run.broken("kl") == 2


def test_an_empty_run_is_not_an_error(tmp_path: Path) -> None:
    run = read_run(write_state(tmp_path / "new", []))
    assert len(run.steps) == 0
    assert run.metrics == {}
    assert run.notes == ("new: no metrics in trainer_state.json yet",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", r"a\.json is not JSON"),
        ("a.json", '{"x": 1}', r"a\.json has no log_history"),
        ("a.json", '{"log_history": [1]}', r"a\.json has no log_history"),
        ("a.csv", "", r"a\.csv is not a CSV table in UTF-8: No columns"),
        ("a.csv", 'step,reward\n1,"2\n', r"a\.csv is not a CSV table in UTF-8"),
        ("a.csv", "x,reward\n1,2\n", r"a\.csv has no column of steps; it needs one of train/global_step"),
        ("a.jsonl", "{}", r"a\.jsonl is not a file of metrics; pass a trainer_state\.json"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path / name)


def test_bad_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"step,reward\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"a\.csv is not a CSV table in UTF-8: 'utf-8' codec"):
        read_run(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"gone does not exist; pass"):
        read_run(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has neither a trainer_state\.json nor TensorBoard event files"):
        read_run(tmp_path)
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"trainer_state\.json has no log_history"):
        read_run(tmp_path)


class Event(NamedTuple):
    wall_time: float
    step: int
    value: float


def fake_tensorboard(monkeypatch: pytest.MonkeyPatch, events: dict[str, dict[str, list[Event]]]) -> None:
    """The part of tensorboard's reader that is used, over events by file name and tag."""

    class EventAccumulator:
        def __init__(self, path: str, size_guidance: dict[str, int]):
            assert size_guidance == {"scalars": 0}
            self.scalars: dict[str, list[Event]] = {}
            self.path = path

        def Reload(self) -> None:  # noqa: N802
            self.scalars = events[Path(self.path).name]

        def Tags(self) -> dict[str, Any]:  # noqa: N802
            return {"scalars": list(self.scalars), "images": []}

        def Scalars(self, tag: str) -> list[Event]:  # noqa: N802
            return self.scalars[tag]

    module = types.ModuleType("tensorboard.backend.event_processing.event_accumulator")
    module.__dict__.update(SCALARS="scalars", EventAccumulator=EventAccumulator)
    for name in ("tensorboard", "tensorboard.backend", "tensorboard.backend.event_processing"):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_event_files_are_read_in_the_order_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, resumed = "events.out.tfevents.2.host", "events.out.tfevents.1.host"
    for name in (first, resumed):
        folder = tmp_path / "run" / "runs" / f"started-{name[-6]}"
        folder.mkdir(parents=True)
        (folder / name).touch()
    events = {
        first: {"train/reward": [Event(1.0, 1, 0.1), Event(2.0, 2, 0.2)], "eval/reward": [Event(2.5, 2, 0.9)]},
        resumed: {"train/reward": [Event(9.0, 2, 0.25), Event(10.0, 3, 0.35)]},
    }
    fake_tensorboard(monkeypatch, events)
    run = read_run(tmp_path / "run")
    assert run.name == "run"
    assert run.steps.tolist() == [1, 2, 3]
    assert run.metrics["reward"] == {1: 0.1, 2: 0.25, 3: 0.35}
    assert run.series("eval_reward")[1].tolist() == [0.9]
    assert len(run.notes) == 1


def test_event_files_need_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    (tmp_path / "events.out.tfevents.1.host").touch()
    with pytest.raises(ImportError, match=r"event file; `pip install tensorboard` to read it, or pass the run's train"):
        read_run(tmp_path)


def test_notation_of_runs(tmp_path: Path) -> None:
    assert parse_run("archer=a, b") == ("archer", [Path("a"), Path("b")])
    assert parse_run("a,b") == (None, [Path("a"), Path("b")])
    odd = tmp_path / "lr=1e-6,beta=0"
    odd.mkdir()
    assert parse_run(str(odd)) == (None, [odd])
    assert parse_run(f"x={odd}") == ("x", [odd])
    with pytest.raises(ValueError, match=r"'=a' has no name before '='"):
        parse_run("=a")
    with pytest.raises(ValueError, match=r"'x=a,' has an empty path"):
        parse_run("x=a,")


def test_seeds_share_a_name_and_runs_do_not(tmp_path: Path) -> None:
    one, two = write_state(tmp_path / "1" / "out"), write_state(tmp_path / "2" / "out")
    assert [run.name for run in read_runs([f"archer={one},{two}", str(one)])] == ["archer", "archer", "out"]
    with pytest.raises(ValueError, match="Two runs are called 'out'; rename one"):
        read_runs([str(one), str(two)])
