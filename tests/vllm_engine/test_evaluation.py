"""Evaluation while training, through a real vLLM engine: training does not notice, and samples follow their seeds."""

from pathlib import Path

import pytest

from .runs import run
from .settings import PASSES, ROLLOUTS

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_evaluation(mode: str, tmp_path: Path) -> None:
    kinds = [mode, f"{mode}-alone"] if mode == "colocate" else [mode]
    facts = {}
    for kind in kinds:
        (tmp_path / kind).mkdir()
        facts[kind] = run("evaluation_worker.py", kind, tmp_path / kind)
    evaluated = facts[mode]
    if mode == "colocate":  # a server draws other samples in each run, with or without evaluation
        alone = facts["colocate-alone"]
        assert (evaluated["logs"], evaluated["weights"]) == (alone["logs"], alone["weights"])
    assert evaluated["completions"][-1] == evaluated["completions"][-2]
    assert [row["step"] for row in evaluated["measured"]] == list(range(1, ROLLOUTS * PASSES + 1))
    assert all(0 < row["eval_toy/mean_length"] <= 8 for row in evaluated["measured"])
    for rows in evaluated["completions"]:  # of three problems with four samples each
        assert len(rows) == 12
        assert all(len({tuple(ids) for ids in rows[start : start + 4]}) > 1 for start in (0, 4, 8))
