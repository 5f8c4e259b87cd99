"""Archer, dual-token constraints for RLVR (arXiv 2507.15778), as a drop-in for TRL's GRPO trainer."""

from typing import TYPE_CHECKING, Any

from ._lazy import load_public

if TYPE_CHECKING:
    from .collapse import CollapseAlarm as CollapseAlarm
    from .config import ArcherGRPOConfig as ArcherGRPOConfig
    from .console import ConsoleLog as ConsoleLog
    from .trainer import ArcherGRPOTrainer as ArcherGRPOTrainer

__version__ = "0.1.0"

# Public name -> module. Loaded on first use, so that `import trl_archer` is quick and does not import torch.
_PUBLIC = {
    "ArcherGRPOConfig": ".config",
    "ArcherGRPOTrainer": ".trainer",
    "CollapseAlarm": ".collapse",
    "ConsoleLog": ".console",
}
__all__ = ["ArcherGRPOConfig", "ArcherGRPOTrainer", "CollapseAlarm", "ConsoleLog", "__version__"]


def __getattr__(name: str) -> Any:
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted(__all__)
