"""What all verifiable rewards do with completions, and what they tell about them."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

Completion = str | list[dict[str, Any]]
LogExtra = Callable[[str, list[Any]], None]
LogMetric = Callable[[str, float], None]

_END_OF_THINKING = "</think>"


class Verdict(NamedTuple):
    """
    A reward and why it was given.

    Args:
        reward (`float`, *optional*): The reward; `None` for a completion that could not be scored.
        kind (`str`): What decided it, in one word, to be counted.
        reason (`str`): The same in a sentence, for the table of completions.
    """

    reward: float | None
    kind: str
    reason: str


def text_of(completion: Completion) -> str:
    """
    The text of a completion; of its last assistant message, reasoning first, when it is conversational.

    Example:

    ```python
    >>> text_of("4"), text_of([{"role": "assistant", "content": "4"}])
    ('4', '4')
    >>> text_of([{"role": "assistant", "content": [{"type": "text", "text": "4"}], "reasoning_content": "2 + 2"}])
    '2 + 2</think>4'

    ```
    """
    if isinstance(completion, str):
        return completion
    replies = [message for message in completion if message.get("role", "assistant") == "assistant"]
    reply = replies[-1] if replies else {}
    content = reply.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    thinking = reply.get("reasoning_content") or reply.get("thinking")  # where TRL parses replies, as with tools
    return f"{thinking}{_END_OF_THINKING}{content}" if thinking else content


def report(
    name: str,
    verdicts: Sequence[Verdict],
    kinds: Sequence[str],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]] | None,
    log_extra: LogExtra | None,
    log_metric: LogMetric | None,
) -> list[float | None]:
    """
    Logs the verdicts on a batch, and returns the rewards.

    Args:
        name (`str`): Name of the reward, which its column and its metrics start with.
        verdicts (`Sequence` of [`Verdict`]): Verdicts on `N` completions.
        kinds (`Sequence[str]`): Every kind that there is; each becomes a metric, its share of the completions.
        completions (`Sequence`): The `N` completions.
        completion_ids (`Sequence` of `Sequence[int]`, *optional*): Their token ids, for [`thinking_stats`].
        log_extra, log_metric (`Callable`, *optional*): What TRL hands to reward functions.
    """
    rewards = [verdict.reward for verdict in verdicts]
    unscorable = Counter(verdict.reason for verdict in verdicts if verdict.reward is None)
    if unscorable:
        logger.warning(
            "%s could not score %d of %d completions, and left them out; most often: %s",
            *(name, unscorable.total(), len(verdicts), unscorable.most_common(1)[0][0]),
        )
    if log_extra is not None:
        log_extra(f"{name}_reason", [verdict.reason for verdict in verdicts])
    if log_metric is not None and verdicts:
        counts = Counter(verdict.kind for verdict in verdicts)
        for kind in kinds:
            log_metric(f"{name}/{kind}", counts[kind] / len(verdicts))
        if completion_ids is not None:
            for completion, ids, reward in zip(completions, completion_ids, rewards, strict=True):
                for metric, value in thinking_stats([completion], [ids], [reward]).items():
                    log_metric(f"{name}/{metric}", value)  # one each, so that TRL's means are over those of all ranks
    return rewards


def thinking_stats(
    completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]], rewards: Sequence[float | None]
) -> dict[str, float]:
    """
    How right and wrong completions differ: what a rising mean length or repetition alone does not tell.

    Args:
        completions (`Sequence`): `N` completions.
        completion_ids (`Sequence` of `Sequence[int]`): Their token ids.
        rewards (`Sequence` of `float` or `None`): Their rewards; above 0 is right, 0 or below is wrong, `None` neither.

    Returns:
        `dict[str, float]`: For `right` and `wrong`, where there are such completions: `length/*`, mean tokens;
        `thinking/*`, mean share of the characters before the last `</think>` (0 without one); `repetition/*`, mean
        share of 20-grams of tokens that occurred before in the completion, in [0, 1).

    Example:

    ```python
    >>> thinking_stats(["ab</think>cd", "abcd"], [[1, 2, 3], [1, 2, 3, 4, 5]], [1.0, 0.0])["length/wrong"]
    5.0

    ```
    """
    from ..metrics import repeated_ngram_share

    repetition = repeated_ngram_share(completion_ids).tolist()
    stats = {}
    for side, is_right in (("right", True), ("wrong", False)):
        rows = [row for row, reward in enumerate(rewards) if reward is not None and (reward > 0) == is_right]
        if rows:
            stats[f"length/{side}"] = sum(len(completion_ids[row]) for row in rows) / len(rows)
            stats[f"thinking/{side}"] = sum(_thinking_share(text_of(completions[row])) for row in rows) / len(rows)
            stats[f"repetition/{side}"] = sum(repetition[row] for row in rows) / len(rows)
    return stats


def _thinking_share(text: str) -> float:
    return max(0, text.rfind(_END_OF_THINKING)) / len(text) if text else 0.0
