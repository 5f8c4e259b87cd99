"""Training with a real vLLM engine in the trainer's process. `cpu_shims` lists what replaces the GPU."""

from typing import Any

import pytest

from .runs import assert_correction_enters_the_loss, assert_rollouts_come_from_the_policy, assert_weights_arrive, run

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=["untied", "tied", "lora"])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Untied embeddings, tied embeddings, and an adapter that is merged before weights are sent."""
    return run("colocate_worker.py", request.param, tmp_path_factory.mktemp(request.param))


def test_engine(facts: dict[str, Any]) -> None:
    assert_weights_arrive(facts)
    assert_rollouts_come_from_the_policy(facts)
    assert_correction_enters_the_loss(facts, "token_truncate", per_token=True)
    assert_correction_enters_the_loss(facts, "sequence_mask", per_token=False)
