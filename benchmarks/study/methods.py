"""The methods of the study, as changes of one recipe. All of them run in the same trainer."""

from collections.abc import Mapping
from typing import Any

# Values of the paper, where a method does not change them
RANGE: dict[str, Any] = {"epsilon": 0.2, "epsilon_high": 0.2}
EQUAL: dict[str, Any] = {**RANGE, "epsilon_reasoning": 0.2, "epsilon_reasoning_high": 0.2}
HIGHER: dict[str, Any] = {**EQUAL, "epsilon_high": 0.28, "epsilon_reasoning_high": 0.28}
ARCHER: dict[str, Any] = {**RANGE, "epsilon_reasoning": 0.5, "epsilon_reasoning_high": 0.5, "beta_reasoning": 0.0}
NO_KL: dict[str, Any] = {"beta": 0.0, "beta_reasoning": 0.0}

MAIN = ("grpo", "grpo-kl", "80-20", "archer", "archer-no-kl")  # the others are variants of these
BATCH_WIDE = "archer-batch"  # the threshold is a quantile of the batch, not of each response; see batch_wide.py


def methods(kl: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """
    The settings of each method.

    Args:
        kl (`Mapping[str, float]`): The KL weight of `"grpo-kl"` and `"archer"`, which the calibration chooses.
    """
    archer = {**ARCHER, "beta": kl["archer"]}
    return {
        "grpo": {**EQUAL, **NO_KL},
        "grpo-kl": {**EQUAL, "beta": kl["grpo-kl"], "beta_reasoning": kl["grpo-kl"]},
        "dapo": {**HIGHER, **NO_KL},
        "80-20": {"method": "grpo", "epsilon": 0.2, "epsilon_high": 0.28, "top_entropy_quantile": 0.2, "beta": 0.0},
        "archer": archer,
        "archer-graded": {**archer, "gate_width": 0.1},
        BATCH_WIDE: archer,
        "archer-no-kl": {**archer, **NO_KL},
        "archer-one-range": {**archer, **EQUAL},
    }
