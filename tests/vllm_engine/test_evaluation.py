"""Evaluation while training, through a real vLLM engine: training does not notice, and samples differ."""

from pathlib import Path

import pytest

from .runs import run
from .settings import PASSES, ROLLOUTS

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_training_is_the_same(mode: str, tmp_path: Path) -> None:
    facts = {}
    for kind in (mode, f"{mode}-alone"):
        (tmp_path / kind).mkdir()
        facts[kind] = run("evaluation_worker.py", kind, tmp_path / kind)
    evaluated, alone = facts[mode], facts[f"{mode}-alone"]
    assert (evaluated["logs"], evaluated["weights"]) == (alone["logs"], alone["weights"])
    assert [row["step"] for row in evaluated["measured"]] == list(range(1, ROLLOUTS * PASSES + 1))
    assert all(0 < row["eval_toy/mean_length"] <= 8 for row in evaluated["measured"])
    for rows in evaluated["completions"]:  # of three problems with four samples each
        assert len(rows) == 12
        assert all(len({tuple(ids) for ids in rows[start : start + 4]}) > 1 for start in (0, 4, 8))
