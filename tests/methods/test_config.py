"""Combinations that mean nothing are refused, with the field, its value and the fix."""

from pathlib import Path
from typing import Any

import pytest

from trl_archer import ArcherGRPOConfig
from trl_archer.methods import ClipCov, Opefo, ProbabilityRange, Steer

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"surrogate": "ppo"}, "surrogate='ppo' is none of 'clip', 'aspo'"),
    ({"clip_range": "probabilities"}, "clip_range='probabilities' is none of"),
    ({"token_weights": "entropy"}, "token_weights='entropy' is none of None, 'opefo'"),
    ({"clip_range": "probability", "clip_schedule": "linear"}, "clip_schedule='linear' is none of"),
    ({"surrogate": "aspo", "delta": 10.0}, "Set delta to None, or change aspo_cap"),
    ({"surrogate": "dppo", "delta": 10.0}, "Set delta to None."),
    ({"aspo_cap": 2.0}, "aspo_cap=2.0 has no effect with surrogate='clip'"),
    ({"clip_schedule": "oscillate"}, "clip_schedule='oscillate' has no effect with clip_range='roles'"),
    ({"clip_slope_low": 0.0}, "only clip_range='probability' reads it"),
    ({"steer_min_weight": 0.5, "token_weights": "opefo"}, "only token_weights='steer' reads it"),
    ({"opefo_off_policy": True}, "opefo_off_policy=True has no effect"),
    ({"surrogate": "cispo", "clip_range": "probability"}, "surrogate='cispo' does not clip"),
    ({"surrogate": "dppo", "clip_range": "probability"}, "surrogate='dppo' does not clip"),
    ({"surrogate": "aspo", "aspo_cap": 0.9}, r"aspo_cap=0.9 is outside \[1, ∞\)"),
    ({"surrogate": "aspo", "aspo_cap": float("nan")}, "aspo_cap=nan is not a finite number"),
    ({"token_weights": "steer", "steer_min_weight": 0.0}, r"steer_min_weight=0.0 is outside \(0, 1\]"),
    ({"token_weights": "probability", "probability_alpha": 1.1}, r"outside \[0, 1\]"),
    ({"token_weights": "clip_cov", "clip_cov_ratio": 1.0}, r"outside \[0, 1\)"),
    ({"token_weights": "clip_cov", "clip_cov_low": 5.0}, "clip_cov_low=5.0 is not below clip_cov_high=5.0"),
    ({"clip_range": "probability", "clip_offset_low": 0.6}, "a clip distance of 1.1, outside"),
    ({"clip_range": "probability", "clip_slope_high": -0.6}, r"a clip distance of -0.1, outside \[0, ∞\)"),
    ({"token_weights": "opefo", "num_iterations": 2}, "num_iterations=1, or opefo_off_policy=True"),
    (
        {"token_weights": "opefo", "steps_per_generation": 4, "gradient_accumulation_steps": 2},
        "Set steps_per_generation to gradient_accumulation_steps",
    ),
    (
        {
            "token_weights": "opefo",
            "steps_per_generation": 1,
            "gradient_accumulation_steps": 2,
            "mask_zero_std_groups": False,
        },
        "spans several rollouts",
    ),
]


def config(tmp_path: Path, **kwargs: Any) -> ArcherGRPOConfig:
    return ArcherGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], **kwargs)


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[", ".join(changes) for changes, _ in REFUSED])
def test_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_fields_reach_the_method(tmp_path: Path) -> None:
    made = config(tmp_path, clip_range="probability", clip_offset_low=0.2, token_weights="steer", steer_min_weight=0.5)
    assert made.make_probability_range() == ProbabilityRange(offset_low=0.2)
    weights = made.make_token_weights()
    assert isinstance(weights, Steer)
    assert weights.min_weight == 0.5
    weights = config(tmp_path, token_weights="clip_cov", clip_cov_ratio=0.1, clip_cov_high=9.0).make_token_weights()
    assert isinstance(weights, ClipCov)
    assert (weights.ratio, weights.low, weights.high) == (0.1, 1.0, 9.0)
    assert isinstance(config(tmp_path, token_weights="opefo").make_token_weights(), Opefo)
    assert config(tmp_path).make_token_weights() is None
    assert config(tmp_path).make_probability_range() is None
