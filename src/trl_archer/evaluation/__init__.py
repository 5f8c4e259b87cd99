"""From a policy to a number: sampling, avg@k and pass@k.

Names are imported on first use: importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .estimators import avg_at_k, pass_at_k
    from .sampling import sample

__all__ = ["avg_at_k", "pass_at_k", "sample"]

_PUBLIC = {"avg_at_k": ".estimators", "pass_at_k": ".estimators", "sample": ".sampling"}


def __getattr__(name: str) -> Any:
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
