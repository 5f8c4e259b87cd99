"""
Verifiable rewards for math and code, for TRL's trainers and ours.

They are TRL reward functions and also work with `GRPOTrainer`. A reward of `None` means that a completion could not be
scored and is left out of its group. It never means a wrong answer.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from trl.rewards import get_repetition_penalty_reward as get_repetition_penalty_reward
    from trl.rewards import get_soft_overlong_punishment as get_soft_overlong_punishment

    from .code.reward import code_reward as code_reward
    from .code.reward import get_code_reward as get_code_reward
    from .math.golds import unscorable_golds as unscorable_golds
    from .math.reward import get_math_reward as get_math_reward
    from .math.reward import math_reward as math_reward

# Public name -> module, loaded on first use: workers import from here and need neither torch nor TRL
_PUBLIC = {
    "code_reward": ".code.reward",
    "get_code_reward": ".code.reward",
    "get_math_reward": ".math.reward",
    "get_repetition_penalty_reward": "trl.rewards",
    "get_soft_overlong_punishment": "trl.rewards",
    "math_reward": ".math.reward",
    "unscorable_golds": ".math.golds",
}
__all__ = [
    "code_reward",
    "get_code_reward",
    "get_math_reward",
    "get_repetition_penalty_reward",
    "get_soft_overlong_punishment",
    "math_reward",
    "unscorable_golds",
]


def __getattr__(name: str) -> Any:
    if name == "code_reward":  # fails here, not at the first call in a training run
        from ..sandbox.local import check_installed

        check_installed()
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted(__all__)
