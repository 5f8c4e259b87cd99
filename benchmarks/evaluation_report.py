"""
CPU time and memory of the report of a large evaluation: 10,000 problems with 64 samples each.

python -m benchmarks.evaluation_report

With Inspect installed (the extra `eval`), it also measures how long it takes to count the samples of one of its logs.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trl_archer.evaluation.benchmarks import Benchmark, LoadedBenchmark, Problem
from trl_archer.evaluation.comparison import Method, compare, render_comparison
from trl_archer.evaluation.records import Outcome, count_outcomes
from trl_archer.evaluation.report import build_report, read_report, write_report

PROBLEMS, SAMPLES = 10_000, 64
LOGGED = 6_400  # samples in the log; writing them takes longer than reading


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


def write_inspect_log(path: Path, samples: int) -> None:
    """Writes a log as `trl-archer eval` does, with short completions."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    from trl_archer.evaluation.inspect_tasks import SCORER

    rows = [
        EvalSample(
            id=outcome.id,
            epoch=index % SAMPLES + 1,
            input=[ChatMessageUser(content=f"Problem {outcome.id}")],
            target="",
            output=ModelOutput.from_content("mock", "The answer is 1."),
            scores={
                SCORER: Score(
                    value=float("nan") if outcome.reward is None else outcome.reward,
                    metadata={"truncated": outcome.truncated, "tokens": outcome.tokens},
                )
            },
        )
        for index, outcome in enumerate(outcomes(samples // SAMPLES, SAMPLES))
    ]
    spec = EvalSpec(
        created="2026-01-01T00:00:00+00:00", task="large", dataset=EvalDataset(), model="mock", config=EvalConfig()
    )
    write_eval_log(EvalLog(eval=spec, samples=rows, status="success"), str(path))


def seconds_per_log(folder: Path) -> float:
    """CPU seconds to count the samples of a full log of `trl-archer eval`, from those of a smaller one."""
    from inspect_ai.log import read_eval_log

    from trl_archer.evaluation.inspect_run import SAMPLES_PER_LOG, count_log

    write_inspect_log(folder / "log.eval", LOGGED)
    log = read_eval_log(str(folder / "log.eval"), header_only=True)
    start = time.process_time()
    records = count_log(log, folder / "counts.json")
    seconds = time.process_time() - start
    return seconds * SAMPLES_PER_LOG / sum(record.samples for record in records)


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
        has_inspect = find_spec("inspect_ai") is not None
        if has_inspect:
            seconds["log"] = seconds_per_log(folder)

    from .environment import load, save  # imports torch, which would count as memory of the report

    if not has_inspect:
        seconds["log"] = load("evaluation_report")["seconds"]["log"]
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
