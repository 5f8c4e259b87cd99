"""Reward for programs: the tests they pass in a sandbox."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ...sandbox.local import Sandbox, open_runner
from ...sandbox.program import Executor, SandboxError
from ...workers import shared_pool
from ..completions import Completion, LogExtra, LogMetric, Verdict, report, text_of
from .cases import CodeTests, read_rows, suite_from
from .extraction import extract_program, opens_program
from .judge import Judgment, judge

_KINDS = "passed wrong_answer no_value crashed timeout too_much_output no_program not_scorable".split()
_START_SECONDS = 120.0  # of a sandbox on a busy machine
_REQUESTS = 16  # in flight, to a remote sandbox
_SECONDS_PER_TEST = 5.0  # on top of the program's time: interpreter start and output comparison
_SECONDS_PER_CHECK = 180.0  # of test code, which is run many times


def code_reward(
    completions: list[Completion],
    tests: list[Any],
    completion_ids: list[list[int]] | None = None,
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **kwargs: Any,
) -> list[float | None]:
    """
    Rewards Python programs that pass all their tests in the local sandbox.

    For other settings (partial credit, packages, limits, another sandbox) see [`get_code_reward`].

    Args:
        completions (`list`): Completions, plain or conversational. The program is the last fenced block of Python.
        tests (`list`): Tests of each completion's problem, in one of the layouts of
            [`~trl_archer.rewards.code.cases.read_tests`].
        completion_ids, log_extra, log_metric (*optional*): Passed to reward functions by TRL's trainers.
        kwargs: Other columns of the dataset. A column `fn_name` names the function that each problem's tests call, for
            tests that do not contain the name. A prompt in `prompts` may open the program's fence.

    Returns:
        `list` of `float` or `None`: 1.0 if all tests pass. 0.0 if one fails or there is no program. `None`, not
        scorable, if the tests cannot be used or the sandbox itself failed.

    Raises:
        ImportError: If the packages of the extra `code` are not installed.
        SandboxError: If no isolation works on this machine (docs/security.md).
    """
    logging: dict[str, Any] = {"completion_ids": completion_ids, "log_extra": log_extra, "log_metric": log_metric}
    return _default()(completions, tests, **logging, **kwargs)


def get_code_reward(
    sandbox: Sandbox | Executor | None = None,
    scoring: Literal["all", "fraction"] = "all",
    max_tests: int | None = 15,
    seed: int | None = 0,
    tolerance: float = 1e-6,
    workers: int | None = None,
    thinking: bool = False,
) -> Callable[..., list[float | None]]:
    """
    A [`code_reward`] with other settings.

    Args:
        sandbox ([`Sandbox`] or [`Executor`], *optional*): Where programs run. The local [`Sandbox`] if `None`.
        scoring (`str`, *optional*, defaults to `"all"`): `"all"`: 1 if all tests pass, else 0, as in the paper; stops
            at the first crash or limit. `"fraction"`: the share of tests that pass, 0 if a program that does nothing
            passes the same ones; runs all tests.
        max_tests (`int`, *optional*, defaults to `15`): How many of a problem's tests to run, the same ones for all of
            its completions. All tests if `None`.
        seed (`int`, *optional*, defaults to `0`): Seed for choosing the tests. If `None`, those with the longest inputs
            are chosen.
        tolerance (`float`, *optional*, defaults to `1e-6`): Absolute and relative tolerance for numbers with a decimal
            point or an exponent.
        workers (`int`, *optional*): How many programs run in parallel. If `None`, the number of cores per local rank,
            or 16 for a remote sandbox.
        thinking (`bool`, *optional*, defaults to `False`): Whether the prompt already opens the reasoning, as the chat
            templates of DeepSeek-R1 do. A completion without `</think>` then has no program.

    Returns:
        `Callable`: The reward function. It can be pickled.

    Raises:
        ImportError: If the local sandbox is used and the packages of the extra `code` are not installed.
    """
    return CodeReward(sandbox or Sandbox(), scoring, max_tests, seed, tolerance, workers, thinking)


@dataclasses.dataclass(frozen=True)
class CodeReward:
    """The reward function that [`get_code_reward`] returns. It has the same arguments."""

    sandbox: Sandbox | Executor = dataclasses.field(default_factory=Sandbox)
    scoring: Literal["all", "fraction"] = "all"
    max_tests: int | None = 15
    seed: int | None = 0
    tolerance: float = 1e-6
    workers: int | None = None
    thinking: bool = False

    __name__ = "code_reward"  # TRL logs under this name

    def __post_init__(self) -> None:
        if self.scoring not in ("all", "fraction"):
            raise ValueError(f"scoring is {self.scoring!r}; it must be 'all' or 'fraction'.")
        for name in ("max_tests", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or None.")

    def __call__(
        self, completions: list[Completion], tests: list[Any], *, fn_name: Sequence[Any] | None = None, **kwargs: Any
    ) -> list[float | None]:
        """See [`code_reward`]."""
        suites = read_rows(tests, fn_name or [None] * len(tests), self.max_tests, self.seed)
        texts = [text_of(completion) for completion in completions]
        opened = [opens_program(prompt) for prompt in kwargs.get("prompts") or [""] * len(texts)]
        programs = [extract_program(text, self.thinking, start) for text, start in zip(texts, opened, strict=True)]
        rows = list(zip(programs, suites, strict=True))
        jobs = {  # groups repeat programs
            (program, id(suite)): (program, suite)
            for program, suite in rows
            if program is not None and isinstance(suite, CodeTests)
        }
        judged = dict(zip(jobs, self._judge(list(jobs.values())), strict=True))
        verdicts = [self._verdict(suite, judged.get((program or "", id(suite)))) for program, suite in rows]
        return report(self.__name__, verdicts, _KINDS, texts, self.thinking, **kwargs)

    def _judge(self, jobs: Sequence[tuple[str, CodeTests]]) -> list[Judgment | str]:
        """The judgment on each program, or how the sandbox failed."""
        if not jobs:
            return []
        options = {"stop_early": self.scoring == "all", "tolerance": self.tolerance}
        if not isinstance(self.sandbox, Sandbox):
            return _judge_remotely(self.sandbox, jobs, options, self.workers or _REQUESTS)
        settings = self.sandbox.as_dict()
        own = self.sandbox.limits.wall_seconds + _SECONDS_PER_TEST
        longest = max(len(suite) * (own if suite.form != "check" else _SECONDS_PER_CHECK + own) for _, suite in jobs)
        outcomes = shared_pool("trl_archer.rewards.code.reward:_judge_locally", self.workers).map(
            [(settings, source, dataclasses.astuple(suite), options) for source, suite in jobs],
            seconds=_START_SECONDS + longest,
        )
        judged = [outcome.detail if outcome.failure else outcome.value for outcome in outcomes]
        if all(outcome.failure is None and isinstance(outcome.value, str) for outcome in outcomes):
            raise SandboxError(judged[0])  # the sandbox does not work on this machine, nor will it for the next batch
        return [entry if isinstance(entry, str) else Judgment(*entry) for entry in judged]

    def _verdict(self, suite: CodeTests | str, judged: Judgment | str | None) -> Verdict:
        if isinstance(suite, str):
            return Verdict(None, "not_scorable", suite)
        if judged is None:
            return Verdict(0.0, "no_program", "no program")
        if isinstance(judged, str):
            return Verdict(None, "not_scorable", f"sandbox: {judged}")
        if judged.outcome == "not scorable":
            return Verdict(None, "not_scorable", judged.reason)
        reward = judged.fraction if self.scoring == "fraction" else float(judged.is_correct)
        return Verdict(reward, judged.outcome.replace(" ", "_"), judged.reason)


@functools.cache
def _default() -> CodeReward:
    return CodeReward()


def _judge_remotely(
    executor: Executor, jobs: Sequence[tuple[str, CodeTests]], options: dict[str, Any], requests: int
) -> list[Judgment | str]:
    def judge_one(job: tuple[str, CodeTests]) -> Judgment | str:
        try:
            return judge(*job, executor.run, **options)
        except SandboxError as error:
            return str(error)

    with ThreadPoolExecutor(requests) as threads:
        return list(threads.map(judge_one, jobs))


# Runs in workers


def _judge_locally(item: Any) -> Judgment | str:
    settings, source, suite, options = item
    try:
        runner = open_runner(settings)
    except SandboxError as error:
        return str(error)
    return judge(source, suite_from(suite), runner.run, **options)
