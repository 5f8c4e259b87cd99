"""Methods of other papers under Archer's objective: clip ranges, surrogates and token weights.

[`MethodConfig`] selects them by name. Each is a function of [`~objective.Tokens`] that a [`~objective.Method`] holds.
"""

from .config import MethodConfig
from .flow import entropy_balance, entropy_change
from .ranges import ClipSchedule, ProbabilityRange
from .surrogates import aspo, cispo, dppo
from .weights import ClipCov, Opefo, Probability, Steer, TokenWeights, uniform_by_token

__all__ = [
    "ClipCov",
    "ClipSchedule",
    "MethodConfig",
    "Opefo",
    "Probability",
    "ProbabilityRange",
    "Steer",
    "TokenWeights",
    "aspo",
    "cispo",
    "dppo",
    "entropy_balance",
    "entropy_change",
    "uniform_by_token",
]
