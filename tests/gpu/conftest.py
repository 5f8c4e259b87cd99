"""The device of a test, float32 without TF32, and the peak memory of each test."""

import os

# cuBLAS reads it once; deterministic algorithms need it
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # of `rollout_func`

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ..helpers.tiny import save_model

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)
# Both precisions on a GPU; for the rehearsal one is enough
EACH_PRECISION = [("cpu", "bfloat16"), *(pytest.param("cuda", x, marks=CUDA.marks) for x in ("float32", "bfloat16"))]
PEAKS: dict[str, float] = {}  # GiB by test


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> str:
    """`"cpu"` for the rehearsal, and `"cuda"`."""
    return request.param


@pytest.fixture(scope="session")
def wide_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model for a GPU: large enough for its kernels, small enough for an oracle in plain Python."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512, "max_position_embeddings": 1024}
    return save_model(tmp_path_factory.mktemp("wide"), initializer_range=0.08, **sizes)


@pytest.fixture
def path(device: str, request: pytest.FixtureRequest) -> str:
    """Folder of the model for the device."""
    return request.getfixturevalue("wide_path" if device == "cuda" else "model_path")


@pytest.fixture(autouse=True)
def float32_is_float32() -> Iterator[None]:
    """TF32 would round the float32 that others are compared with to 10 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(autouse=True)
def peak_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Records the peak memory of each test on a GPU."""
    on_gpu = torch.cuda.is_available() and "cuda" in request.node.name
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if on_gpu:
        PEAKS[request.node.name] = torch.cuda.max_memory_allocated() / 2**30
        request.node.user_properties.append(("peak_gib", round(PEAKS[request.node.name], 3)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PEAKS:
        terminalreporter.section("peak memory on the GPU")
        for name, peak in sorted(PEAKS.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{peak:8.2f} GiB  {name}")


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Only deterministic algorithms; an operation that has none raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path
