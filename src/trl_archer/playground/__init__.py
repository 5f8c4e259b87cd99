"""Countdown with scratchpad: a verifiable task, a tiny tokenizer and a tiny policy, all offline.

Names are imported on first use: importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .countdown import (
        Problem,
        countdown_reward,
        demonstrate,
        load_dataset,
        sample_problems,
        solve,
        to_expression,
        verify,
    )
    from .evaluate import evaluate_policy, token_roles
    from .policy import build_model, build_tokenizer, load_policy

__all__ = [
    "Problem",
    "build_model",
    "build_tokenizer",
    "countdown_reward",
    "demonstrate",
    "evaluate_policy",
    "load_dataset",
    "load_policy",
    "sample_problems",
    "solve",
    "to_expression",
    "token_roles",
    "verify",
]

_PUBLIC = {
    **dict.fromkeys(__all__, ".countdown"),
    **dict.fromkeys(("evaluate_policy", "token_roles"), ".evaluate"),
    **dict.fromkeys(("build_model", "build_tokenizer", "load_policy"), ".policy"),
}


def __getattr__(name: str) -> Any:
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
