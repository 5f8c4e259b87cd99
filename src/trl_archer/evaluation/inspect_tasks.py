"""
Benchmarks as tasks of Inspect (https://inspect.aisi.org.uk), its seeded sampling and our verifiers as its scorer.

Inspect finds this module through an entry point: `inspect eval trl_archer/aime24 --model vllm/...` works without
`trl-archer eval`. All imports of Inspect are in the modules named `inspect_*`.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, ContentReasoning, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from .benchmarks import PRESETS, LoadedBenchmark, Problem, load_benchmark, verify
from .inspect_model import trl_archer as trl_archer  # registers the provider

SCORER = "verified"


LOADED: dict[tuple[str, int | None], LoadedBenchmark] = {}


def load(settings: str, limit: int | None = None) -> LoadedBenchmark:
    """The benchmark of some settings in JSON, loaded once per process."""
    key = (settings, limit)
    if key not in LOADED:
        LOADED[key] = load_benchmark(json.loads(settings), limit)
    return LOADED[key]


@solver
def seeded(seed: int = 0) -> Solver:
    """
    Generates one completion, with a seed for each problem and epoch.

    Without a seed, results cannot be reproduced. With one seed for all, every epoch gives the same completion.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        name = f"{seed}/{state.sample_id}/{state.epoch}"
        return await generate(state, seed=zlib.crc32(name.encode()))

    return solve


@scorer(metrics=[mean(), stderr()], name=SCORER)
def verified(settings: str, limit: int | None = None) -> Scorer:
    """Scores with the benchmark's verifier. A sample that cannot be scored is left out, not wrong."""
    loaded = load(settings, limit)
    problems = {problem.id: problem for problem in loaded.problems}
    verifier = loaded.benchmark.load_verifier()

    async def score(state: TaskState, target: Target) -> Score:
        call = partial(_grade, verifier, problems[str(state.sample_id)], state)
        return await anyio.to_thread.run_sync(call)  # the verifier waits for its workers

    return score


def _grade(verifier: Callable[..., list[float | None]], problem: Problem, state: TaskState) -> Score:
    reasons: list[str] = []
    message = state.output.choices[0].message
    thoughts = [part.reasoning for part in message.content if isinstance(part, ContentReasoning)]
    completion = f"{''.join(thoughts)}</think>{message.text}" if thoughts else message.text
    logging = partial(verifier, log_extra=lambda _, values: reasons.extend(values))
    (reward,) = verify(logging, [problem], [completion])
    usage = state.output.usage
    found: dict[str, Any] = {
        "explanation": "\n".join(map(str, reasons)) or None,
        "metadata": {
            "truncated": state.output.stop_reason in ("max_tokens", "model_length"),
            "tokens": usage.output_tokens if usage else 0,
        },
    }
    return Score.unscored(reason="not_scorable", **found) if reward is None else Score(value=reward, **found)


def make_task(
    settings: str,
    seed: int = 0,
    limit: int | None = None,
    system_prompt: str | None = None,
    problems: Sequence[int] | None = None,
) -> Task:
    """
    The task of a benchmark.

    Args:
        settings (`str`): Settings of the [`Benchmark`], as JSON.
        seed (`int`, *optional*, defaults to `0`): Seed of all samples.
        limit (`int`, *optional*): Number of problems to keep, from the start.
        system_prompt (`str`, *optional*): System message.
        problems (`list` of two `int`, *optional*): The first problem and the one after the last, to split long runs.
    """
    loaded = load(settings, limit)
    benchmark = loaded.benchmark
    system: list[ChatMessage] = [ChatMessageSystem(content=system_prompt)] if system_prompt else []
    return Task(
        dataset=MemoryDataset(
            [
                Sample(id=problem.id, input=[*system, ChatMessageUser(content=problem.prompt)])
                for problem in loaded.problems[slice(*problems or (None,))]
            ],
            name=benchmark.name,
        ),
        solver=seeded(seed),
        scorer=verified(settings, limit),
        epochs=Epochs(benchmark.k, "mean"),
        config=GenerateConfig(
            temperature=benchmark.temperature, top_p=benchmark.top_p, max_tokens=benchmark.max_new_tokens
        ),
        metadata={"data": loaded.fingerprint},
    )


@task
def benchmark(
    settings: str,
    data: str,
    weights: str,
    seed: int = 0,
    limit: int | None = None,
    system_prompt: str | None = None,
    problems: Sequence[int] | None = None,
) -> Task:
    """
    Any benchmark, for `trl-archer eval`.

    `data` and `weights` are digests. Inspect takes two runs for the same one if the arguments are equal, whatever has
    changed in the files.
    """
    return make_task(settings, seed, limit, system_prompt, problems)


def _preset(name: str) -> Callable[..., Task]:
    def preset(
        seed: int = 0, limit: int | None = None, system_prompt: str | None = None, dataset: str | None = None
    ) -> Task:
        changed = {"dataset": dataset} if dataset else {}
        return make_task(json.dumps({"name": name, **changed}), seed, limit, system_prompt)

    preset.__doc__ = f"The preset {name!r}, with the paper's sampling."
    return task(name=name)(preset)


_TASKS = {name: _preset(name) for name in PRESETS}
