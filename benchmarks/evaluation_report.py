"""
CPU time and memory of the report of a large evaluation: 10,000 problems with 64 samples each.

python -m benchmarks.evaluation_report
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trl_archer.evaluation.benchmarks import Benchmark, LoadedBenchmark, Problem
from trl_archer.evaluation.comparison import Method, compare, render_comparison
from trl_archer.evaluation.records import Outcome, count_outcomes
from trl_archer.evaluation.report import build_report, read_report, write_report

PROBLEMS, SAMPLES = 10_000, 64


def outcomes(problems: int, samples: int, seed: int = 0) -> Iterator[Outcome]:
    """Samples of problems of different difficulty; one in a hundred cannot be scored."""
    generator = np.random.default_rng(seed)
    for problem in range(problems):
        scores = (generator.random(samples) < generator.beta(1, 2)).tolist()
        scored = (generator.random(samples) >= 0.01).tolist()
        tokens = generator.integers(100, 32768, samples).tolist()
        for score, is_scored, count in zip(scores, scored, tokens, strict=True):
            yield Outcome(str(problem), float(score) if is_scored else None, count > 32000, count)


def report_on(problems: int, samples: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Counts samples, writes the report of an evaluation, and reads it again."""
    benchmark = Benchmark(name="large", dataset="large.jsonl", k=samples)
    asked = [Problem(str(problem), f"Problem {problem}", {"solution": "1"}) for problem in range(problems)]
    records = count_outcomes(outcomes(problems, samples, seed))
    write_report(build_report({"model": "m"}, [(LoadedBenchmark(benchmark, asked, []), records)]), folder)
    return read_report(folder)


def main() -> None:
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[name] = time.process_time() - start

    with TemporaryDirectory() as name:
        folder = Path(name)
        with timed("report"):
            first = report_on(PROBLEMS, SAMPLES, folder / "first")
        second = report_on(PROBLEMS, SAMPLES, folder / "second", seed=1)
        with timed("compare"):
            render_comparison(compare(Method("first", [first]), Method("second", [second])))
        size = (folder / "first" / "report.json").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    from .environment import save  # imports torch, which would count as memory of the report

    result = {
        "command": "python -m benchmarks.evaluation_report",
        "problems": PROBLEMS,
        "samples": SAMPLES,
        "seconds": seconds,  # of one core
        "peak_mib": peak,
        "report_mib": size / 2**20,
    }
    print(save("evaluation_report", result))


if __name__ == "__main__":
    main()
