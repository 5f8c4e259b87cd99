"""Countdown with scratchpad: a verifiable task, a tiny tokenizer and a tiny policy, all offline.

Names are imported on first use, so that importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from .evaluate import evaluate_policy, sample, token_roles
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
    "sample",
    "sample_problems",
    "solve",
    "to_expression",
    "token_roles",
    "verify",
]

_MODULE_OF = {
    "build_model": "policy",
    "build_tokenizer": "policy",
    "evaluate_policy": "evaluate",
    "load_policy": "policy",
    "sample": "evaluate",
    "token_roles": "evaluate",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF.get(name, 'countdown')}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
