"""Fixtures and settings of all tests: offline, one thread per process, a tiny model on disk."""

import os

# Several test processes with several threads each fight for the cores and slow down a hundredfold
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
