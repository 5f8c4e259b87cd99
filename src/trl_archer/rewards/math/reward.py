"""Reward for mathematical answers, graded by rules and Math-Verify."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ...workers import shared_pool
from ..completions import Completion, LogExtra, LogMetric, Verdict, report, text_of
from .extraction import extract_answer
from .golds import acceptable_answers

_KINDS = "rule math_verify wrong no_answer gave_up not_scorable".split()

Key = tuple[tuple[str, ...], str]  # acceptable answers and the given one


def math_reward(
    completions: list[Completion],
    solution: list[Any],
    completion_ids: list[list[int]] | None = None,
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **kwargs: Any,
) -> list[float | None]:
    r"""
    Rewards right final answers.

    An answer is right if a rule-based check or Math-Verify accepts it (Wang et al. 2025, Sec. 4.1). Worker processes
    grade the answers under a hard time limit. For other settings see [`get_math_reward`].

    Args:
        completions (`list`): Completions, plain or conversational. The answer is the last `\boxed{}`, see
            [`~trl_archer.rewards.math.extraction.extract_answer`].
        solution (`list`): For each completion the right answer, bare or boxed, or a list of acceptable answers.
        completion_ids, log_extra, log_metric (*optional*): Passed to reward functions by TRL's trainers.
        kwargs: Other columns of the dataset, not used.

    Returns:
        `list` of `float` or `None`: 1.0 if the answer is right. 0.0 if it is wrong, missing, or not graded in time.
        `None`, not scorable, if the solution cannot be read.

    Example:

    ```python
    >>> math_reward([r"It is \boxed{\frac{1}{2}}.", r"It is \boxed{2}."], solution=["0.5", "0.5"])
    [1.0, 0.0]

    ```
    """
    return _default(completions, solution, completion_ids=completion_ids, log_extra=log_extra, log_metric=log_metric)


def get_math_reward(
    phrases: bool = False,
    thinking: bool = False,
    seconds: float = 5.0,
    memory_mib: int = 4096,
    workers: int | None = None,
) -> Callable[..., list[float | None]]:
    r"""
    A [`math_reward`] with other settings.

    Args:
        phrases (`bool`, *optional*, defaults to `False`): Whether phrases such as "the answer is ..." count if a
            completion has no box.
        thinking (`bool`, *optional*, defaults to `False`): Whether the prompt already opens the reasoning, as the chat
            templates of DeepSeek-R1 do. A completion without `</think>` then has no answer.
        seconds (`float`, *optional*, defaults to `5.0`): Time limit for grading one answer.
        memory_mib (`int`, *optional*, defaults to `4096`): Limit of a worker's address space in MiB.
        workers (`int`, *optional*): Number of worker processes. If `None`, the number of cores per local rank.

    Returns:
        `Callable`: The reward function. It can be pickled.
    """
    return MathReward(phrases, thinking, seconds, memory_mib, workers)


@dataclasses.dataclass(frozen=True)
class MathReward:
    """The reward function that [`get_math_reward`] returns. It has the same arguments."""

    phrases: bool = False
    thinking: bool = False
    seconds: float = 5.0
    memory_mib: int = 4096
    workers: int | None = None

    __name__ = "math_reward"  # TRL logs under this name

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mib", "workers"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0.")

    def __call__(self, completions: list[Completion], solution: list[Any], **kwargs: Any) -> list[float | None]:
        """See [`math_reward`]."""
        if len(solution) != len(completions):
            raise ValueError(
                f"There are {len(completions)} completions and {len(solution)} solutions. Pass one for each."
            )
        texts = [text_of(completion) for completion in completions]
        keys: list[Key] = [
            (acceptable_answers(gold), extract_answer(text, self.phrases, thinking=self.thinking) or "")
            for text, gold in zip(texts, solution, strict=True)
        ]
        graded = self._grade(list(dict.fromkeys(keys)))  # groups repeat answers
        verdicts = [graded[key] for key in keys]
        return report(self.__name__, verdicts, _KINDS, texts, self.thinking, **kwargs)

    def _grade(self, keys: Sequence[Key]) -> dict[Key, Verdict]:
        pool = shared_pool("trl_archer.rewards.math.grading:grade_item", self.workers, self.memory_mib)
        outcomes = dict(zip(keys, pool.map(keys, self.seconds), strict=True))
        # If the solution alone can be read in time, the answer caused the failure
        failed = list(dict.fromkeys(golds for (golds, _), outcome in outcomes.items() if outcome.failure))
        alone = pool.map([(golds, None) for golds in failed], self.seconds)
        sound = {golds for golds, outcome in zip(failed, alone, strict=True) if outcome.value}
        return {key: _verdict(key, outcome.value, outcome.detail, key[0] in sound) for key, outcome in outcomes.items()}


_default = MathReward()


def _verdict(key: Key, grade: Any, failure: str, gold_is_sound: bool) -> Verdict:
    golds, answer = key
    wanted = " or ".join(golds) or "(empty)"
    if grade is None:
        if gold_is_sound:
            return Verdict(0.0, "gave_up", f"{answer:.200} could not be compared with {wanted:.200}: {failure}")
        return Verdict(None, "not_scorable", f"the solution {wanted:.200} cannot be graded: {failure}")
    correct, how, _, error = grade
    if correct is None:
        return Verdict(None, "not_scorable", f"the solution {wanted:.200} cannot be read")
    if correct:
        return Verdict(1.0, how, f"{answer:.200} is {wanted:.200} ({how})")
    if not answer:
        return Verdict(0.0, "no_answer", "no answer")
    return Verdict(0.0, "wrong", f"{answer:.200} is not {wanted:.200}{f' ({error})' if error else ''}")
