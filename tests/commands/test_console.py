"""One line per log, one message when nothing can be learned, and one error per launch."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from trl_archer import ConsoleLog
from trl_archer.commands.train.failure import report_refusal

from ..helpers.tiny import make_trainer

LOGS = {
    "loss": "0.1",
    "reward": 0.4123,
    "frac_reward_zero_std": 0.25,
    "entropy": 0.5,
    "entropy/reasoning": 1.25,
    "kl": 0.00123,
    "completions/mean_length": 231.4,
    "completions/clipped_ratio": 0.0625,
    "grad_norm": None,
}


def show(*logs: dict[str, Any], step: int = 7, first: bool = True) -> None:
    console = ConsoleLog()
    state = SimpleNamespace(global_step=0, max_steps=120, is_world_process_zero=first)
    console.on_train_begin(None, state, None)
    state.global_step = step
    for log in logs:
        console.on_log(None, state, None, logs=log)


def test_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(LOGS)
    line, *rest = capsys.readouterr().out.splitlines()
    assert not rest
    start = "step   7/120   reward 0.412   entropy 0.500   reasoning 1.250   KL 0.0012   length 231   truncated 6%   "
    assert line.startswith(start)
    assert line.endswith(" left")


def test_a_line_without_a_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    """Rewards are logged once per rollout."""
    show({"loss": 0.1, "entropy": 0.5})
    assert capsys.readouterr().out.startswith("step   7/120   reward -   entropy 0.500")


def test_evaluation_end_and_other_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    show({"eval_reward": 0.5, "eval_entropy": None, "eval_runtime": 3.0}, {"train_runtime": 4000.0}, {"epoch": 1})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["step   7/120   evaluation   reward 0.500", "Trained 7 steps in 1 h 7 min."]
    show(LOGS, first=False)
    assert capsys.readouterr().out == ""


def test_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"avg@4": 0.41234, "stderr": 0.0213, "pass@4": 0.7, "truncated": 0.1}
    show({**{f"eval_math500/{name}": value for name, value in found.items()}, "eval_one/avg@1": 0.5})
    expected = "step   7/120   evaluation   math500 avg@4 0.412 ± 0.021   pass@4 0.700   one avg@1 0.500\n"
    assert capsys.readouterr().out == expected


def test_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    state = SimpleNamespace(global_step=0, max_steps=0, is_world_process_zero=True)
    ConsoleLog().on_log(None, state, None, logs={"eval_toy/avg@1": 0.25})
    assert capsys.readouterr().out == "before training   evaluation   toy avg@1 0.250\n"


def test_groups_without_signal_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    empty = {"reward": 0.0, "frac_reward_zero_std": 1.0, "entropy": None, "kl": None}
    show(LOGS, empty, empty)
    out = capsys.readouterr().out
    assert out.count("All groups have equal rewards (mean 0), so nothing was learned") == 1
    assert "None" not in out


def test_it_takes_the_place_of_the_printers() -> None:
    trainer = MagicMock()
    console = ConsoleLog.attach(trainer)
    assert [call.args[0] for call in trainer.remove_callback.call_args_list] == [PrinterCallback, ProgressCallback]
    trainer.add_callback.assert_called_once_with(console)


def test_trackers_get_no_none(model_path: str, tmp_path: Path) -> None:
    """Groups with equal rewards have no entropy; the log history says so, and trackers do not see it."""
    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            seen.append(dict(logs))

    trainer = make_trainer(
        model_path,
        tmp_path,
        reward_funcs=lambda completions, **kwargs: [1.0 for _ in completions],
        trainer_kwargs={"callbacks": [Tracker()]},
        max_steps=1,
        logging_steps=1,
    )
    ConsoleLog.attach(trainer)
    trainer.train()
    assert any(value is None for value in trainer.state.log_history[0].values())
    assert seen[0]["reward"] == 1.0
    assert not [name for log in seen for name, value in log.items() if value is None]


def test_one_error_per_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    report_refusal("error: no")
    assert capsys.readouterr().err == "error: no\n"
    for rank, printed in (("0", "error: no\n"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / rank))
        report_refusal("error: no")
        assert capsys.readouterr().err == printed
        assert json.loads((tmp_path / rank).read_text())["message"]["message"] == "error: no"
