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
    texts: Sequence[str],
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
        texts (`Sequence[str]`): Texts of the completions, as [`text_of`] gives them.
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
            for text, ids, reward in zip(texts, completion_ids, rewards, strict=True):
                for metric, value in thinking_stats(text, ids, reward).items():
                    log_metric(f"{name}/{metric}", value)  # one each, so that TRL's means are over those of all ranks
    return rewards


def thinking_stats(text: str, completion_ids: Sequence[int], reward: float | None) -> dict[str, float]:
    """
    What tells right from wrong completions: a rising mean length or repetition alone does not.

    Args:
        text (`str`): Text of a completion.
        completion_ids (`Sequence[int]`): Its token ids.
        reward (`float` or `None`): Its reward; above 0 is right, 0 or below is wrong, `None` neither.

    Returns:
        `dict[str, float]`: Under `*/right` or `*/wrong`: `length`, in tokens; `thinking`, share of the characters
        before the last `</think>`, 0 without one; `repetition`, share of 20-grams of tokens that occurred before in
        the completion, in [0, 1). Empty if it is neither.

    Example:

    ```python
    >>> thinking_stats("abcd", [1, 2, 3, 4, 5], reward=0.0)["length/wrong"]
    5.0

    ```
    """
    from ..evaluation.repetition import repeated_ngram_share

    if reward is None:
        return {}
    side = "right" if reward > 0 else "wrong"
    return {
        f"length/{side}": float(len(completion_ids)),
        f"thinking/{side}": max(0, text.rfind(_END_OF_THINKING)) / len(text) if text else 0.0,
        f"repetition/{side}": repeated_ngram_share([completion_ids]).item(),
    }
