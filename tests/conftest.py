"""Settings and fixtures of all tests: no network, one thread per process, a tiny model on disk."""

import os

# More threads than cores slow the tests down by up to a factor of 100
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    from .helpers.tiny import save_model

    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def moe_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    from .helpers.tiny import save_model

    return save_model(tmp_path_factory.mktemp("moe"), moe=True)
