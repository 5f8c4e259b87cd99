"""Whole runs on two processes equal one in TRL's layout, on each backend; one rank has nothing to learn from.

Full fine-tuning and LoRA. Each run is resumed from its checkpoint, and what it saved loads without this package.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from trl_archer.records.parquet import CompletionRecord, read_token_records

from ..helpers.backends import BACKENDS, EACH, launch
from ..helpers.tolerances import FLOAT32_LOGS, RANK_SPLIT

pytestmark = pytest.mark.distributed
KINDS = ("full", "lora")
Weights = dict[str, Tensor]


class Runs(NamedTuple):
    """What a launch leaves: reports of each rank, whole weights by kind and run, and its folder."""

    ranks: list[dict[str, Any]]
    weights: dict[str, Weights]
    folder: Path

    def token_records(self, kind: str) -> list[CompletionRecord]:
        records = read_token_records(self.folder / kind / "out" / "token_records", step=3).completions
        return sorted(records, key=lambda record: (record.prompt, record.completion))


def run(backend: str | None, model_path: str, folder: Path) -> Runs:
    ranks = launch(backend, "backend_worker.py", model_path, folder, backend or "single")
    return Runs(ranks, torch.load(folder / "rank0.pt"), folder)


@pytest.fixture(scope="module")
def single(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = run(None, model_path, tmp_path_factory.mktemp("one") / "single")
    for kind in KINDS:
        (report,) = (rank[kind]["undisturbed"] for rank in runs.ranks)
        assert report["num_processes"] == 1
        assert len(report["logs"]) == 3
        assert report["logs"][0]["archer/dropped_groups"] == 4
        assert min(logs["grad_norm"] for logs in report["logs"]) > 0.1  # so that clipping acts, with LoRA
    # Far more than the tolerance: a share of an update that were missing would show
    initial = AutoModelForCausalLM.from_pretrained(model_path).state_dict()
    assert all((weight - initial[name]).abs().max() > 1e-3 for name, weight in runs.weights["full undisturbed"].items())
    assert all(x.abs().max() > 1e-3 for name, x in runs.weights["lora undisturbed"].items() if "lora_B" in name)
    return runs


@pytest.fixture(scope="module", params=EACH)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def two(backend: str, model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run(backend, model_path, tmp_path_factory.mktemp("two") / backend)


def largest_difference(left: Weights, right: Weights) -> float:
    """Relative to the largest weight."""
    assert left.keys() == right.keys()
    largest = max(weight.abs().max().item() for weight in right.values())
    return max((left[name] - weight).abs().max().item() for name, weight in right.items()) / largest


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_backend_it_claims_to_be(two: Runs, backend: str, kind: str) -> None:
    expected = BACKENDS[backend]
    assert len(two.ranks) == 2
    for rank in two.ranks:
        for report in rank[kind].values():
            assert report["num_processes"] == 2
            assert report["type"] == expected.distributed_type
            assert report["zero_stage"] == expected.zero_stage
            share = report["held"] / report["parameters"]
            assert share == pytest.approx(0.5 if backend in ("zero3", "fsdp2") else 1.0, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one_process(single: Runs, two: Runs, kind: str) -> None:
    name = f"{kind} undisturbed"
    assert largest_difference(two.weights[name], single.weights[name]) <= RANK_SPLIT
    ours, theirs = [r.ranks[0][kind]["undisturbed"]["logs"] for r in (two, single)]
    assert len(ours) == 3
    for logs, expected in zip(ours, theirs, strict=True):
        assert logs == {k: v if v is None else pytest.approx(v, **FLOAT32_LOGS) for k, v in expected.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_both_ranks_log_the_same(two: Runs, kind: str) -> None:
    first, second = (rank[kind]["undisturbed"]["logs"] for rank in two.ranks)
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_run_is_the_undisturbed_one(two: Runs, kind: str) -> None:
    """From the middle of a generation batch: weights, optimizer, rollouts and metrics, to the last bit."""
    resumed, undisturbed = (two.weights[f"{kind} {name}"] for name in ("resumed", "undisturbed"))
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[name], weight) for name, weight in undisturbed.items())
    for rank in two.ranks:
        assert rank[kind]["resumed"]["logs"] == rank[kind]["undisturbed"]["logs"]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_model_loads_without_this_package(two: Runs, model_path: str, kind: str) -> None:
    folder = two.folder / kind / "final"
    model = AutoModelForCausalLM.from_pretrained(folder if kind == "full" else model_path, dtype=torch.float32)
    if kind == "lora":
        model = PeftModel.from_pretrained(model, folder)
    loaded, trained = model.state_dict(), two.weights[f"{kind} undisturbed"]
    assert sum("lora" in name for name in trained) == (8 if kind == "lora" else 0)
    assert trained.keys() <= loaded.keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in trained.items())


@pytest.mark.parametrize("kind", KINDS)
def test_token_records_equal_those_of_one_process(single: Runs, two: Runs, kind: str) -> None:
    ours, theirs = two.token_records(kind), single.token_records(kind)
    assert len(ours) == 16  # of the four groups that are kept
    for record, expected in zip(ours, theirs, strict=True):
        assert (record.prompt, record.completion, record.reward) == (
            expected.prompt,
            expected.completion,
            expected.reward,
        )
        for name in ("token_ids", "mask", "gate", "clipped_low", "clipped_high"):
            assert np.array_equal(getattr(record, name), getattr(expected, name)), name
        for name in ("entropies", "per_token_logps", "old_per_token_logps", "ref_per_token_logps"):
            assert getattr(record, name) == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-5), name
