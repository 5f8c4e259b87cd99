"""Helpers shared by all verifiable rewards: extracting text, separating reasoning, logging verdicts."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

Completion = str | list[dict[str, Any]]
LogExtra = Callable[[str, list[Any]], None]
LogMetric = Callable[[str, float], None]

_THINK, _END_OF_THINKING = "<think>", "</think>"


class Verdict(NamedTuple):
    """
    A reward and why it was given.

    Args:
        reward (`float`, *optional*): The reward; `None` if the completion could not be scored.
        kind (`str`): What decided it, in one word. Kinds are counted.
        reason (`str`): The same in one sentence, for the table of completions.
    """

    reward: float | None
    kind: str
    reason: str


def text_of(completion: Completion) -> str:
    """
    The text of a completion. For a conversation, the text of its last assistant message, reasoning first.

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
    thinking = reply.get("reasoning_content") or reply.get("thinking")  # when TRL parses replies, e.g. with tools
    return f"{thinking}{_END_OF_THINKING}{content}" if thinking else content


def final_part(text: str, thinking: bool = False) -> str | None:
    """
    The part of a completion after its reasoning. Only this part can hold the answer; the rest is drafts.

    Args:
        text (`str`): Text of a completion, read in linear time.
        thinking (`bool`, *optional*, defaults to `False`): Whether the prompt already opens the reasoning, as the chat
            templates of DeepSeek-R1 do.

    Returns:
        `str` or `None`: What follows the last `</think>`, or the whole text if there is none. `None` if the reasoning
        is unfinished: a `<think>` follows the last `</think>`, or `thinking` is set and there is no `</think>`.

    Example:

    ```python
    >>> final_part("<think>2 + 2</think>4"), final_part("4"), final_part("4", thinking=True), final_part("<think>4")
    ('4', '4', None, None)

    ```
    """
    end = text.rfind(_END_OF_THINKING)
    if text.rfind(_THINK) > end or (thinking and end < 0):
        return None
    return text if end < 0 else text[end + len(_END_OF_THINKING) :]


def report(
    name: str,
    verdicts: Sequence[Verdict],
    kinds: Sequence[str],
    texts: Sequence[str],
    thinking: bool,
    completion_ids: Sequence[Sequence[int]] | None,
    log_extra: LogExtra | None,
    log_metric: LogMetric | None,
) -> list[float | None]:
    """
    Logs the verdicts on a batch and returns the rewards.

    Args:
        name (`str`): Name of the reward, the prefix of its column and its metrics.
        verdicts (`Sequence` of [`Verdict`]): Verdicts on `N` completions.
        kinds (`Sequence[str]`): All kinds. The share of completions of each kind is a metric.
        texts (`Sequence[str]`): Texts of the completions, as returned by [`text_of`].
        thinking (`bool`): See [`final_part`].
        completion_ids (`Sequence` of `Sequence[int]`, *optional*): Their token ids, for [`completion_stats`].
        log_extra, log_metric (`Callable`, *optional*): Passed to reward functions by TRL.
    """
    rewards = [verdict.reward for verdict in verdicts]
    unscorable = Counter(verdict.reason for verdict in verdicts if verdict.reward is None)
    if unscorable:
        logger.warning(
            "%s could not score %d of %d completions and left them out. Most frequent reason: %s",
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
                for metric, value in completion_stats(text, ids, reward, thinking).items():
                    log_metric(f"{name}/{metric}", value)  # one value per completion: TRL averages over all ranks
    return rewards


def completion_stats(
    text: str, completion_ids: Sequence[int], reward: float | None, thinking: bool = False
) -> dict[str, float]:
    """
    Statistics of one completion, separate for right and wrong ones. Only their difference is informative.

    Args:
        text (`str`): Text of a completion.
        completion_ids (`Sequence[int]`): Its token ids.
        reward (`float` or `None`): Its reward. Above 0 is right, 0 or below is wrong.
        thinking (`bool`, *optional*, defaults to `False`): See [`final_part`].

    Returns:
        `dict[str, float]`: Under `*/right` or `*/wrong`: `length` in tokens; `thinking`, the share of characters before
        the [`final_part`], 1 if the reasoning is unfinished; `repetition`, the share of 20-grams of tokens that
        occurred earlier in the completion, in [0, 1). Empty if the reward is `None`.

    Example:

    ```python
    >>> completion_stats("abcd", [1, 2, 3, 4, 5], reward=0.0)["length/wrong"]
    5.0

    ```
    """
    from ..evaluation.repetition import repeated_ngram_share

    if reward is None:
        return {}
    side = "right" if reward > 0 else "wrong"
    return {
        f"length/{side}": float(len(completion_ids)),
        f"thinking/{side}": 1 - len(final_part(text, thinking) or "") / len(text) if text else 0.0,
        f"repetition/{side}": repeated_ngram_share([completion_ids]).item(),
    }
