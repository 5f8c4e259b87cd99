"""A large evaluation: its report takes seconds, and memory that depends on the problems, not on the samples."""

import time
import tracemalloc
from pathlib import Path

from benchmarks.evaluation_report import PROBLEMS, SAMPLES, outcomes, report_on
from trl_archer.evaluation.records import count_outcomes

MOST_SECONDS = 60  # at full size
KIB_PER_PROBLEM = 2


def test_a_tenth_of_the_full_size_takes_a_tenth_of_the_time(tmp_path: Path) -> None:
    start = time.process_time()
    report = report_on(PROBLEMS // 10, SAMPLES, tmp_path)
    assert time.process_time() - start < MOST_SECONDS / 10
    result = report["benchmarks"]["large"]
    assert len(result["problems"]) == PROBLEMS // 10
    assert list(result["summary"]["pass_at"]) == [str(k) for k in range(1, SAMPLES + 1)]
    assert abs(result["summary"]["avg"]["value"] - 1 / 3) < 0.03  # the mean of the difficulties


def test_samples_are_not_kept() -> None:
    """64 samples of a problem would take more than 10 KiB."""
    problems = 200
    tracemalloc.start()
    try:
        count_outcomes(outcomes(problems, SAMPLES))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 1024 < KIB_PER_PROBLEM * problems
