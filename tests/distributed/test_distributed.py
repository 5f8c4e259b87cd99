"""Two processes are one process on the same global batch, with unequal lengths and a rank without any token."""

from typing import Any

import pytest
import torch

from ..helpers.backends import launch
from ..helpers.tolerances import FLOAT32_LOGS, RANK_SPLIT

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def runs(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Results of one process, and of two."""
    folder = tmp_path_factory.mktemp("ranks")
    (single,) = launch(None, "distributed_worker.py", model_path, folder / "one")
    return single, launch("ddp", "distributed_worker.py", model_path, folder / "two")


def test_there_really_are_two(runs: Any) -> None:
    single, ranks = runs
    assert single["world"]["num_processes"] == 1
    assert [rank["world"] for rank in ranks] == [{"num_processes": 2, "type": "DistributedType.MULTI_CPU"}] * 2


@pytest.mark.parametrize("trim", ["", " trim"])
@pytest.mark.parametrize("drop", ["", " drop"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_same_weights_and_metrics_as_one_process(runs: Any, loss_type: str, drop: str, trim: str) -> None:
    """One process in TRL's layout is the measure, also of ranks that left padding and rows out."""
    single, ranks = runs
    plain, name = loss_type + drop, loss_type + drop + trim
    expected = torch.tensor(single[plain]["weights"])
    for rank in ranks:
        difference = (torch.tensor(rank[name]["weights"]) - expected).abs().max() / expected.abs().max()
        assert difference <= RANK_SPLIT
        assert rank[name]["metrics"].keys() == single[plain]["metrics"].keys()
        for metric, value in single[plain]["metrics"].items():
            assert rank[name]["metrics"][metric] == pytest.approx(value, **FLOAT32_LOGS), metric
    assert ranks[0][name]["metrics"] == ranks[1][name]["metrics"]


def test_each_rank_drops_its_own_groups_and_totals_span_both(runs: Any) -> None:
    _, ranks = runs
    rollouts = [rank["rollout"] for rank in ranks]
    assert [rollout["kept"] for rollout in rollouts] == [[True] * 8, [False] * 8]
    for rollout in rollouts:
        assert rollout["num_items_in_batch"] == rollouts[0]["tokens"] + rollouts[1]["tokens"] > 0
        assert rollout["num_sequences_in_batch"] == 8
        assert rollout["dropped_groups"] == [2]


def test_whole_run_with_groups_dropped_on_some_ranks(runs: Any) -> None:
    _, ranks = runs
    assert ranks[0]["run"]["weights"] == ranks[1]["run"]["weights"]
    ours = ("archer/", "entropy", "kl", "clip_ratio", "completions/", "reward")
    for one, two in zip(ranks[0]["run"]["metrics"], ranks[1]["run"]["metrics"], strict=True):
        assert {k: v for k, v in one.items() if k.startswith(ours)} == {
            k: v for k, v in two.items() if k.startswith(ours)
        }
    assert any(entry.get("archer/dropped_groups", 0) > 0 for entry in ranks[0]["run"]["metrics"])
