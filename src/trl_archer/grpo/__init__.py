"""
A faster, resumable version of TRL's GRPO, independent of Archer.

[`DurableGRPOTrainer`] runs TRL's own loss types unchanged and adds padding removal, guards against non-finite updates,
complete checkpoints, exact resume inside a rollout, a save on preemption, and retries when a vLLM server fails.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .config import DurableGRPOConfig as DurableGRPOConfig
    from .trainer import DurableGRPOTrainer as DurableGRPOTrainer

__all__ = ["DurableGRPOConfig", "DurableGRPOTrainer"]

_PUBLIC = {"DurableGRPOConfig": ".config", "DurableGRPOTrainer": ".trainer"}


def __getattr__(name: str) -> Any:
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted(__all__)
