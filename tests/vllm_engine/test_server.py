"""Training with a real vLLM server, started by the command in our error messages."""

from pathlib import Path
from typing import Any

import pytest

from .runs import assert_correction_enters_the_loss, assert_rollouts_come_from_the_policy, assert_weights_arrive, run
from .settings import PASSES

pytestmark = pytest.mark.vllm
SYNC = ["/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache"]


def assert_engine(facts: dict[str, Any]) -> None:
    assert_weights_arrive(facts)
    assert_rollouts_come_from_the_policy(facts)
    assert_correction_enters_the_loss(facts, "token_truncate", per_token=True)
    assert_correction_enters_the_loss(facts, "sequence_mask", per_token=False)


def test_server_and_refusals(tmp_path: Path) -> None:
    facts = run("server_worker.py", "untied", tmp_path)
    assert_engine(facts)
    refusals = facts["refusals"]
    assert f"serves '{tmp_path}/model', not '{tmp_path}/other', the model to train." in refusals["model"]
    assert "runs vLLM 0.31.0, but vLLM 0.22.0 is installed here" in refusals["version"]


def test_server_killed_while_generating_and_restarted(tmp_path: Path) -> None:
    """The new server gets the weights before any of its completions is used."""
    facts = run("server_worker.py", "tied", tmp_path)
    assert_engine(facts)
    for rollout in (1, 2):
        posts = [path for path, step in facts["posts"] if step == rollout * PASSES]
        generation = [*SYNC, "/v1/completions"]
        assert posts == [*generation, "/init_weight_transfer_engine", *generation], rollout
