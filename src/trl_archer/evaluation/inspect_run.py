"""Runs benchmarks with Inspect, and continues runs that were interrupted."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from inspect_ai import Epochs, eval_set
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import EvalLog, read_eval_log_sample_summaries
from inspect_ai.model import Model
from rich.text import Text

from .._files import whole_file
from .benchmarks import LoadedBenchmark
from .inspect_tasks import LOADED, SCORER, benchmark
from .records import Outcome, ProblemRecord, count_outcomes

logger = logging.getLogger(__name__)

# Inspect keeps about 10 kB per sample in memory until a log is complete
SAMPLES_PER_LOG = 20_000
# A run with a larger share of failed samples stops, as when a server is gone, and can be continued
_MAX_FAILED = 0.05


def run_benchmark(
    loaded: LoadedBenchmark,
    model: Model,
    folder: str | Path,
    *,
    weights: str,
    seed: int = 0,
    limit: int | None = None,
    system_prompt: str | None = None,
    max_connections: int | None = None,
    display: str | None = None,
) -> list[ProblemRecord]:
    """
    Samples and scores the problems of a benchmark. What a folder already holds is not sampled again.

    Args:
        loaded ([`LoadedBenchmark`]): The benchmark, loaded with the same `limit`.
        model (`Model`): A model of Inspect.
        folder (`str` or `Path`): Folder of Inspect's logs of this benchmark.
        weights (`str`): Digest of the model's weights.
        seed (`int`, *optional*, defaults to `0`): Seed of all samples.
        limit (`int`, *optional*): Number of problems to keep, from the start.
        system_prompt (`str`, *optional*): System message.
        max_connections (`int`, *optional*): Requests in flight; Inspect's default for the model if `None`.
        display (`str`, *optional*): Inspect's display, such as `"none"`.

    Returns:
        `list[ProblemRecord]`: Counts of each problem, in the order of the data set.

    Raises:
        ValueError: If the folder belongs to an evaluation with other settings, weights or data.
        RuntimeError: If the evaluation stopped before its end.
    """
    k, total = loaded.benchmark.k, len(loaded.problems)
    # Without K, so that more samples continue the same task
    settings = json.dumps({**loaded.benchmark.as_dict(), "k": 1}, sort_keys=True)
    LOADED[settings, limit] = loaded
    step = max(1, SAMPLES_PER_LOG // k)
    records: list[ProblemRecord] = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        task = benchmark(
            settings,
            data=loaded.fingerprint,
            weights=weights,
            seed=seed,
            limit=limit,
            system_prompt=system_prompt,
            problems=[start, stop],
        )
        try:
            success, logs = eval_set(
                task,
                log_dir=str(Path(folder) / f"problems-{start}-{stop}"),
                model=model,
                epochs=Epochs(k, "mean"),
                retry_attempts=0,
                retry_immediate=False,
                retry_on_error=1,
                fail_on_error=_MAX_FAILED,
                max_retries=5,
                max_connections=max_connections,
                log_buffer=1 if (stop - start) * k <= 2000 else None,  # samples that a kill may lose
                log_realtime=False,
                score_display=False,
                display=display,
            )
        except PrerequisiteError as error:
            raise ValueError(
                f"{loaded.benchmark.name}: Inspect refuses to start. If {folder} belongs to an evaluation with other "
                "settings, weights or data, choose another output folder. Its message: "
                f"{Text.from_markup(str(error.message)).plain}"
            ) from None
        log = logs[0]
        if not success or log.status != "success":
            reason = log.error.message if log.error else f"status {log.status}"
            raise RuntimeError(
                f"{loaded.benchmark.name}: the evaluation stopped early ({reason}). The same command continues it."
            )
        records += count_log(log, Path(folder) / f"problems-{start}-{stop}.json")
    order = {problem.id: index for index, problem in enumerate(loaded.problems)}
    return sorted(records, key=lambda record: order[record.id])


def count_log(log: EvalLog, stored: Path) -> list[ProblemRecord]:
    """
    Counts the samples of each problem in a log.

    The counts are stored in a file, because a log of 20,000 samples takes seconds to read, and read from there if it
    belongs to this log.
    """
    name = Path(log.location).name
    if stored.is_file() and (content := json.loads(stored.read_text()))["log"] == name:
        return [ProblemRecord(**row) for row in content["records"]]
    records = count_outcomes(_outcomes(log))
    with whole_file(stored) as temporary:
        temporary.write_text(json.dumps({"log": name, "records": [asdict(record) for record in records]}))
    return records


def _outcomes(log: EvalLog) -> Iterator[Outcome]:
    errors: Counter[str] = Counter()
    for summary in read_eval_log_sample_summaries(log.location):
        score = (summary.scores or {}).get(SCORER)
        if summary.error or score is None:
            errors[summary.error or "no score"] += 1
            yield Outcome(str(summary.id), None, failed=True)
            continue
        value = score.as_float()
        details = score.metadata or {}
        reward = None if math.isnan(value) else value
        yield Outcome(str(summary.id), reward, bool(details.get("truncated")), int(details.get("tokens", 0)))
    if errors:
        reason, _ = errors.most_common(1)[0]
        logger.warning("%s: %d samples failed. Most frequent error: %s", log.location, errors.total(), reason)
