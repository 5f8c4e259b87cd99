"""Each method on two processes equals one in TRL's layout, and resumes bit-for-bit, with its statistics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ..helpers.backends import launch
from ..helpers.methods_worker import METHODS
from ..helpers.tolerances import FLOAT32_LOGS, RANK_SPLIT

pytestmark = pytest.mark.distributed
Runs = tuple[list[dict[str, Any]], dict[str, dict[str, Tensor]]]


def run(backend: str | None, model_path: str, folder: Path) -> Runs:
    ranks = launch(backend, "methods_worker.py", model_path, folder, backend or "single")
    return ranks, torch.load(folder / "rank0.pt")


@pytest.fixture(scope="module")
def single(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run(None, model_path, tmp_path_factory.mktemp("one") / "single")


@pytest.fixture(scope="module", params=["ddp", "zero3"])
def two(request: pytest.FixtureRequest, model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run(request.param, model_path, tmp_path_factory.mktemp("two") / request.param)


@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_equal_one_process(single: Runs, two: Runs, name: str) -> None:
    ours, theirs = (weights[f"{name} undisturbed"] for _, weights in (two, single))
    largest = max(weight.abs().max().item() for weight in theirs.values())
    assert max((ours[key] - weight).abs().max().item() for key, weight in theirs.items()) <= RANK_SPLIT * largest
    logs, expected = (ranks[0][name]["undisturbed"]["logs"] for ranks, _ in (two, single))
    assert len(logs) == 3
    for one, other in zip(logs, expected, strict=True):
        assert one == {k: v if v is None else pytest.approx(v, **FLOAT32_LOGS) for k, v in other.items()}


@pytest.mark.parametrize("name", METHODS)
def test_resumed_run_is_the_undisturbed_one(two: Runs, name: str) -> None:
    resumed, undisturbed = (two[1][f"{name} {kind}"] for kind in ("resumed", "undisturbed"))
    assert all(torch.equal(resumed[key], weight) for key, weight in undisturbed.items())


def test_methods_differ(single: Runs) -> None:
    """A method that did nothing would pass the other tests."""
    flat = {name: torch.cat([w.flatten() for w in single[1][f"{name} undisturbed"].values()]) for name in METHODS}
    names = list(METHODS)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not torch.equal(flat[one], flat[other]), (one, other)
