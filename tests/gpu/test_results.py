"""The driver stops at its budget and keeps what it has; tables and figures show what is there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from benchmarks.gpu import __main__ as driver
from benchmarks.gpu import tables, update_phase
from benchmarks.real_model import figures

ENVIRONMENT = {"commit": "abc", "machine": "a GPU", "torch": "2", "trl": "1"}
SMALL = update_phase.Case("rehearsal", 16, "log-normal", 4)


def drive(monkeypatch: pytest.MonkeyPatch, output: Path, *options: str) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(output), *options])
    code = driver.main()
    return code, json.loads((output / f"gpu_{driver.card()}.json").read_text())["parts"]


def test_driver_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def good(seconds: float, save: Any, args: Any) -> dict[str, Any]:
        return {"exit": 0}

    def bad(seconds: float, save: Any, args: Any) -> dict[str, Any]:
        save({"cases": {}})
        raise RuntimeError("out of luck")

    monkeypatch.setattr(driver, "PARTS", {"smoke": good, "tests": bad, "update_phase": good})
    code, parts = drive(monkeypatch, tmp_path, "--parts", "smoke,tests")
    assert code == 1
    assert parts["smoke"]["exit"] == 0
    assert parts["tests"]["error"] == "RuntimeError: out of luck"
    assert parts["tests"]["cases"] == {}
    code, parts = drive(monkeypatch, tmp_path, "--parts", "update_phase")
    assert (code, set(parts)) == (0, {"smoke", "tests", "update_phase"})  # earlier results remain


def test_driver_starts_nothing_without_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path), "--budget", "1"])
    assert driver.main() == 1
    assert "smoke: not started" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu", "--parts", "smoke,sleep"])
    with pytest.raises(SystemExit):
        driver.main()
    assert "'sleep', which is none of smoke, tests, update_phase, real_model" in capsys.readouterr().err


@pytest.mark.slow
def test_update_phase_and_its_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole case at a tiny size, then the tables of docs/performance.md, docs/scaling.md and docs/gpu.md."""
    monkeypatch.setattr(update_phase, "REHEARSAL", (SMALL,))
    monkeypatch.setattr(update_phase, "ROUNDS", 1)
    saved: list[dict[str, Any]] = []
    found = update_phase.run(lambda result: saved.append(json.loads(json.dumps(result))), deadline=float("inf"))
    (case,) = found["cases"].values()
    assert saved == [found]
    for method in ("archer", "grpo"):
        case["memory"][method]["bytes"] = 2**30  # as a GPU would have counted
    # Padding removal makes the largest micro-batch no larger, and the real tokens are those of both
    assert case["memory"]["archer"]["tokens"] <= case["memory"]["grpo"]["tokens"]
    assert case["real_tokens"] == sum(update_phase.draw_lengths(SMALL)) + sum(
        map(update_phase.prompt_length, range(32))
    )

    parts = {
        "tests": {"tests": 3, "failures": 1, "skipped": 0, "failed": ["test_x"], "peak_gib": {"test_x": 1.5}},
        "update_phase": {**found, "cases": {**found["cases"], "large": {"error": "out of memory"}}},
    }
    content = {"command": "python -m benchmarks.gpu", "environment": ENVIRONMENT, "parts": parts}
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.update_phase() == tables.memory() == tables.tests() == tables.NOT_RUN
    (tmp_path / "gpu_card.json").write_text(json.dumps(content))
    assert "large: out of memory" in tables.update_phase()
    assert f"| {SMALL.name} |" in tables.update_phase()
    assert f"| {SMALL.name}, TRL | 4 x {case['memory']['grpo']['tokens']:,} | 1,024 |" in tables.memory()
    assert "3 tests, 1 failed, 0 skipped, peak memory 1.5 GiB; failed: `test_x`." in tables.tests()


def test_flops_of_a_model() -> None:
    """Six per weight and token without attention, whose share grows with the length."""
    shape = update_phase.MODELS["qwen2.5-0.5b"]
    tokens = [512] * update_phase.ROWS
    total = sum(tokens) + sum(map(update_phase.prompt_length, range(update_phase.ROWS)))
    per_token = update_phase.model_flops(shape, tokens) / total
    assert 0.9 < per_token / (6 * shape.parameters) < 1.1
    longer = update_phase.model_flops(shape, [8192] * update_phase.ROWS) / (update_phase.ROWS * 8192)
    assert longer > 1.2 * per_token


def runs() -> list[dict[str, Any]]:
    measures = {"avg_at_k": 0.2, "facts: nats": 2.0, "perplexity": 20.0}
    roles = {f"{name}/{role}": 0.1 for name in ("entropy", "kl") for role in ("reasoning", "knowledge")}
    shared = {
        "environment": ENVIRONMENT,
        "scale": {"name": "cpu", "micro_batch": 4, "micro_batches": 2, "problems": 8, "vocabulary": "task"},
        "updates": 4,
        "untrained": {"perplexity": 19.0},
        "before": {**measures, **roles},
        "during": [{"step": 2, **measures, **roles}],
        "curves": {"reward": [[1, 0.2], [3, 0.4]]},
    }
    return [
        {**shared, "method": method, "seed": seed, "after": {**measures, **roles, "avg_at_k": 0.4 + seed / 10}}
        for method in ("archer", "grpo")
        for seed in (0, 1)
    ]


def test_real_model_table_and_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.real_model() == "Not run yet."
    unfinished = {**runs()[0], "seed": 2}
    del unfinished["after"]
    (tmp_path / "real_model.json").write_text(json.dumps({"command": "x", "runs": [*runs(), unfinished]}))
    assert "| avg@8 |  | 0.200 | 0.450 (0.400 to 0.500) | 0.450 (0.400 to 0.500) |" in tables.real_model()
    figure = figures.plot_runs(runs())
    lines = {ax.get_title(loc="left"): [line.get_ydata() for line in ax.lines] for ax in figure.axes}
    means = [list(values) for values in lines["avg@8, held out"]]
    assert [0.2, 0.2, pytest.approx(0.45)] in means
    pyplot.close("all")
