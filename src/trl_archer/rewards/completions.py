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
    """A reward and why it was given."""

    reward: float | None  # `None` if the completion could not be scored
    kind: str  # what decided it, in one word; kinds are counted
    reason: str  # the same in one sentence, for the table of completions


def text_of(completion: Completion) -> str:
    """The text of a completion. For a conversation, the text of its last assistant message, reasoning first."""
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
    What follows the last `</think>`, or the whole text. Only this part can hold the answer; the rest is drafts. `None`
    if the reasoning is unfinished: a `<think>` follows the last `</think>`, or the prompt already opens the reasoning
    (`thinking`) and there is no `</think>`.
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
    /,  # a dataset may have columns of these names
    completion_ids: Sequence[Sequence[int]] | None = None,
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **_: Any,
) -> list[float | None]:
    """
    Logs the verdicts on a batch, the share of each kind, and [`completion_stats`]. Returns the rewards. The keyword
    arguments are those that TRL's trainers pass to reward functions.
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
    Statistics under `*/right` (reward above 0) or `*/wrong`, because only their difference is informative: `length` in
    tokens; `thinking`, the share of characters before the [`final_part`], 1 if the reasoning is unfinished;
    `repetition`, the share of 20-grams that occurred earlier in the completion, in [0, 1). Empty if unscorable.
    """
    from .repetition import repeated_ngram_share  # imports torch, which workers do not need

    if reward is None:
        return {}
    side = "right" if reward > 0 else "wrong"
    return {
        f"length/{side}": float(len(completion_ids)),
        f"thinking/{side}": 1 - len(final_part(text, thinking) or "") / len(text) if text else 0.0,
        f"repetition/{side}": repeated_ngram_share([completion_ids]).item(),
    }
