"""Presets of `trl-archer train`: the objective of a paper, with its values.

A preset sets the objective and the passes over a rollout. Batch, learning rate, lengths and data remain the recipe's.
"""

import difflib
from dataclasses import dataclass
from typing import Any

_NO_KL = {"beta": 0.0}
_EQUAL_ROLES = {"epsilon_reasoning": 0.2, "epsilon_reasoning_high": 0.2, "beta_reasoning": 0.0}
_NO_METHOD = {"surrogate": "clip", "clip_range": "roles", "token_weights": None}


@dataclass(frozen=True)
class Preset:
    """
    The objective of a paper.

    Attributes:
        paper (`str`): Its arXiv id.
        method (`str`): Trainer: `"archer"` or `"grpo"`.
        values (`dict[str, Any]`): Fields of the trainer's configuration.
    """

    paper: str
    method: str
    values: dict[str, Any]


def _archer(paper: str, **values: Any) -> Preset:
    common = {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.2, "entropy_quantile": 0.8, "gate_width": 0.0}
    return Preset(paper, "archer", {**common, **_NO_METHOD, "delta": None, **values})


def _grpo(paper: str, **values: Any) -> Preset:
    common = {"epsilon": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token", "top_entropy_quantile": 1.0}
    return Preset(paper, "grpo", {**common, "delta": None, **_NO_KL, **values})


PRESETS: dict[str, Preset] = {
    "archer": _archer(
        "2507.15778",
        epsilon_reasoning=0.5,
        epsilon_reasoning_high=0.5,
        beta=0.001,
        beta_reasoning=0.0,
        num_iterations=3,
        delta=10.0,
    ),
    "archer2": _archer(
        "2510.06062",
        surrogate="aspo",
        epsilon_reasoning=0.4,
        epsilon_reasoning_high=0.4,
        beta=0.001,
        beta_reasoning=0.001,
        num_iterations=3,
    ),
    "opefo": _archer("2605.11491", token_weights="opefo", num_iterations=1, **_EQUAL_ROLES, **_NO_KL),
    "flexible": _archer(
        "2602.09782", clip_range="probability", clip_schedule="increase_decrease", **_EQUAL_ROLES, **_NO_KL
    ),
    "dppo": _archer("2602.04879", surrogate="dppo", **_EQUAL_ROLES, **_NO_KL),
    "ar": _archer(
        "2505.12929",
        token_weights="probability",
        **{**_EQUAL_ROLES, "epsilon_high": 0.24, "epsilon_reasoning_high": 0.24, "beta_reasoning": 0.001},
        beta=0.001,
    ),
    "steer": _archer(
        "2510.10150",
        token_weights="steer",
        **{**_EQUAL_ROLES, "epsilon_high": 0.28, "epsilon_reasoning_high": 0.28, "delta": 10.0},
        **_NO_KL,
    ),
    "clip-cov": _archer("2505.22617", token_weights="clip_cov", **_EQUAL_ROLES, **_NO_KL),
    "grpo": _grpo("2402.03300", loss_type="grpo", num_iterations=1, beta=0.04),
    "dapo": _grpo("2503.14476", loss_type="dapo", epsilon_high=0.28),
    "dr-grpo": _grpo("2503.20783", loss_type="dr_grpo", scale_rewards="none"),
    "80-20": _grpo("2506.01939", loss_type="dapo", epsilon_high=0.28, top_entropy_quantile=0.2),
    "gspo": _grpo(
        "2507.18071", loss_type="grpo", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4
    ),
    "cispo": _grpo("2506.13585", loss_type="cispo", epsilon_high=5.0),
    "sapo": _grpo("2511.20347", loss_type="sapo", sapo_temperature_pos=1.0, sapo_temperature_neg=1.05),
}


def find_preset(name: str) -> Preset:
    """
    Returns a preset.

    Raises:
        ValueError: If there is none of this name; the message has the nearest one.
    """
    if name in PRESETS:
        return PRESETS[name]
    nearest = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(f"There is no preset {name!r}. {hint}The presets: {', '.join(PRESETS)}.")
