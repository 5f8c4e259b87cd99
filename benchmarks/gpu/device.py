"""The device, its clock, its memory and its matmul rate. A CPU stands in for a GPU in a rehearsal."""

import re
import time
from collections.abc import Callable
from typing import Any

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def card() -> str:
    """Name of the device for a file name, such as `nvidia_h100_80gb_hbm3`."""
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "rehearsal"
    return re.sub(r"\W+", "_", name.lower())


class Stopwatch:
    """Seconds between marks, by CUDA events on a GPU."""

    def __init__(self) -> None:
        self._marks: list[tuple[str, Any]] = []
        self.mark("begin")

    def mark(self, name: str) -> None:
        """Ends the part `name`."""
        if DEVICE == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        else:
            event = time.perf_counter()
        self._marks.append((name, event))

    def seconds(self) -> dict[str, float]:
        """Seconds by part; parts of the same name add up."""
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for (_, start), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            passed = start.elapsed_time(end) / 1000 if DEVICE == "cuda" else end - start
            found[name] = found.get(name, 0.0) + passed
        return found


def peak(step: Callable[[], Any]) -> int | None:
    """Peak bytes that a step allocates in addition to what is there; `None` on a CPU."""
    if DEVICE == "cpu":
        step()
        return None
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def matmul_rate(repeats: int = 10) -> float:
    """FLOP per second of a square bf16 matrix product on random numbers, which is as fast as the device gets."""
    size = 8192 if DEVICE == "cuda" else 128
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    watch = Stopwatch()
    for _ in range(repeats):
        left @ right
    watch.mark("products")
    return repeats * 2 * size**3 / watch.seconds()["products"]
