"""Trackio's local dashboard shows a run: its metrics, their values and the completions."""

import csv
import json
import re
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers.integrations import rewrite_logs

from trl_archer.figures import read_run

from .dashboard import environment, serve
from .dashboard_run import HTML, PROJECT, RUN

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_spec("trackio") is None, reason="needs Trackio: pip install trl-archer[trackio]"),
]
ROOT = Path(__file__).parents[2]
STEP = "train/global_step"
NOT_REPORTED = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"}


class Run(NamedTuple):
    folder: Path  # TRACKIO_DIR
    output: Path
    logged: list[dict[str, Any]]  # `log_history` under the names reported to trackers


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    output = tmp_path_factory.mktemp("run")
    folder = output / "trackio"
    done = subprocess.run(
        [sys.executable, "-m", "tests.browser.dashboard_run", str(output)],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    logged = []
    for entry in history:
        metrics = {name: value for name, value in entry.items() if name != "step" and name not in NOT_REPORTED}
        logged.append({**rewrite_logs(metrics), STEP: entry["step"]})
    return Run(folder, output, logged)


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    with serve(run.folder, PROJECT) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that can reach only the dashboard. It must not request anything else, log an error or show a dialog."""
    unwanted = []
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)

    def route(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            unwanted.append(f"request: {route.request.url}")
            route.abort()

    def dismiss(dialog: Any) -> None:
        unwanted.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.route("**/*", route)
    page = context.new_page()
    page.on("dialog", dismiss)
    page.on("pageerror", lambda error: unwanted.append(f"error: {error}"))
    page.on("console", lambda message: message.type == "error" and unwanted.append(f"console: {message.text}"))
    yield page
    context.close()
    assert unwanted == []


def ask(page: Any, address: str, name: str, **arguments: Any) -> Any:
    response = page.request.post(f"{address}api/{name}", data=arguments)
    assert response.ok, response.text()
    return response.json()["data"]


def open_metrics(page: Any, address: str, query: str = "") -> None:
    page.goto(f"{address}?project={PROJECT}&x_axis={STEP}&smoothing=0{query}")
    page.wait_for_selector(".plot-container canvas, .plot-container svg.marks")


def sections(page: Any) -> dict[tuple[str, ...], set[str]]:
    """Metrics of the plots on the page, by their headings."""
    found = defaultdict(set)
    plots = page.evaluate(
        """() => [...document.querySelectorAll('.plot-container[data-metric]')].map((plot) => {
            const headings = [];
            for (let node = plot.closest('.accordion'); node; node = node.parentElement.closest('.accordion'))
                headings.unshift(node.querySelector('.accordion-label').textContent);
            return [headings, plot.dataset.metric];
        })"""
    )
    for headings, metric in plots:
        found[tuple(heading.rpartition(" (")[0] for heading in headings)].add(metric)
    return dict(found)


def test_plots_are_grouped_by_metric_name(page: Any, address: str, run: Run) -> None:
    open_metrics(page, address)
    found = sections(page)
    expected = defaultdict(set)
    for metric in {name for entry in run.logged for name, value in entry.items() if value is not None} - {STEP}:
        first, *rest = metric.split("/")
        expected[(first, *rest[: len(rest) > 1])].add(metric)  # train/entropy/reasoning: train, entropy
    assert {group: metrics for group, metrics in found.items() if group != ("profiling",)} == expected
    assert found["train", "archer"] == {
        f"train/archer/{name}" for name in "dropped_groups entropy_spread entropy_threshold reasoning_fraction".split()
    }
    for mode in ("train", "eval"):
        assert found[mode, "kl"] == {f"{mode}/kl/reasoning", f"{mode}/kl/knowledge"}
        assert found[mode, "entropy"] == {f"{mode}/entropy/reasoning", f"{mode}/entropy/knowledge"}
        assert f"{mode}/clip_ratio/reasoning/high_mean" in found[mode, "clip_ratio"]
        assert f"{mode}/completions/repetition" in found[mode, "completions"]
        assert f"{mode}/math_reward/no_answer" in found[mode, "math_reward"]


def test_values_equal_the_log(page: Any, address: str, run: Run) -> None:
    (found,) = ask(page, address, "get_runs_for_project", project=PROJECT)
    assert found["name"] == RUN
    rows = ask(page, address, "get_logs", project=PROJECT, run=RUN, run_id=found["id"])
    metrics = [
        {name: value for name, value in row.items() if name.startswith(("train/", "eval/"))}
        for row in rows
        if STEP in row
    ]
    assert metrics == run.logged


@pytest.mark.parametrize("metric", ["archer/entropy_threshold", "entropy/reasoning", "clip_ratio/knowledge/low_mean"])
def test_a_plot_draws_the_logged_values(page: Any, address: str, run: Run, metric: str, tmp_path: Path) -> None:
    metric = f"train/{metric}"
    open_metrics(page, address, f"&metric_filter=^{metric}$")
    plot = page.locator(f"[data-metric='{metric}']")
    with page.expect_download() as download:
        plot.get_by_label("data as a CSV file").click()
    path = tmp_path / "plot.csv"
    download.value.save_as(path)
    expected = {entry[STEP]: entry[metric] for entry in run.logged if metric in entry}
    assert len(set(expected.values())) > 2
    with path.open() as file:
        drawn = {int(row[STEP]): float(row[metric]) for row in csv.DictReader(file)}
    assert drawn == expected
    series = read_run(path).series(metric.removeprefix("train/"))
    assert dict(zip(*(values.tolist() for values in series), strict=True)) == expected


def test_completions_are_shown_literally(page: Any, address: str, run: Run) -> None:
    page.goto(f"{address}media?project={PROJECT}")
    page.wait_for_selector(".table-section")
    assert page.locator(".table-section .media-label").all_text_contents() == ["completions"] * len(run.logged)
    newest = page.locator(".table-section").first
    written = pq.read_table(run.output / "out/completions/completions_00006.parquet")  # at the end of the run
    columns = ["step", "prompt", "completion", "length_reward", "math_reward", "math_reward_reason", "advantage"]
    assert newest.locator("th").all_text_contents() == written.column_names == columns
    shown = [
        [cell.strip() for cell in row.locator("td").all_text_contents()] for row in newest.locator("tbody tr").all()
    ]
    rows = written.to_pylist()
    texts = ("prompt", "completion", "math_reward_reason")
    assert [[row[columns.index(name)] for name in texts] for row in shown] == [
        [row[name].strip() for name in texts] for row in rows
    ]
    for name in ("step", "length_reward", "math_reward", "advantage"):
        drawn = [float(row[columns.index(name)]) for row in shown]
        np.testing.assert_array_equal(drawn, np.array([row[name] for row in rows], dtype=float))
    assert {row[columns.index("math_reward")] for row in shown} == {"0", "NaN"}  # wrong, and not scorable
    assert any(HTML in row["completion"] for row in rows)  # as text, not as an element
    assert page.locator(".table-section img, .table-section td b").count() == 0


def test_documented_import_of_a_run(run: Run, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/dashboard.md").read_text(), re.S)
    checkpoint = tmp_path / "runs/archer/checkpoint-80"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_bytes((run.output / "trainer_state.json").read_bytes())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), check=True, timeout=120)
    with closing(sqlite3.connect(tmp_path / "my-project.db")) as connection:
        rows = connection.execute(
            "SELECT step, metrics FROM metrics WHERE run_name = 'imported' ORDER BY id"
        ).fetchall()
    history = json.loads((run.output / "trainer_state.json").read_text())["log_history"]
    assert [step for step, _ in rows] == [entry["step"] for entry in history]
    for (step, metrics), entry in zip(rows, history, strict=True):
        expected = rewrite_logs({name: value for name, value in entry.items() if name != "step"})
        assert json.loads(metrics) == {**expected, STEP: step}
