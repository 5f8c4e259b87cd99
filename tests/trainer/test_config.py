"""Every setting is checked at construction; the message names the field, its value and the fix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import HfArgumentParser

from trl_archer import ArcherGRPOConfig
from trl_archer.options import REJECTED

NAN, INF = float("nan"), float("inf")


def config(tmp_path: Path, **kwargs: Any) -> ArcherGRPOConfig:
    return ArcherGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], **kwargs)


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    paper = {
        "entropy_quantile": 0.8,
        "epsilon": 0.2,
        "epsilon_high": None,
        "epsilon_reasoning": 0.5,
        "epsilon_reasoning_high": None,
        "beta": 0.001,
        "beta_reasoning": 0.0,
        "gate_width": 0.0,
        "mask_zero_std_groups": True,
        "use_bias_correction_kl": False,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "temperature": 1.0,
    }
    made = config(tmp_path)
    assert {name: getattr(made, name) for name in paper} == paper


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        *(("entropy_quantile", value, "0.8") for value in (0.0, 1.0, -0.1, 80)),
        *(("gate_width", value, "0.0 for the paper's step") for value in (-0.1, 1.5)),
        ("epsilon", "0.1", "The default is 0.2"),
        *((name, value, "finite") for name in ("entropy_quantile", "gate_width") for value in (NAN, INF, "0.8", True)),
        *((name, -0.1, "negative") for name in ("epsilon", "epsilon_reasoning", "beta", "beta_reasoning")),
        *((name, -0.1, "negative") for name in ("epsilon_high", "epsilon_reasoning_high", "delta")),
        *((name, NAN, "finite") for name in ("epsilon", "epsilon_reasoning_high", "beta", "delta")),
        *((name, INF, "finite") for name in ("epsilon_high", "epsilon_reasoning", "beta_reasoning")),
        ("epsilon", None, "finite"),
        ("epsilon_reasoning", 1.0, "epsilon_reasoning_high"),
        ("epsilon", 1.5, "epsilon_high"),
        *(("loss_type", value, "dapo") for value in ("cispo", "sapo", "luspo", "vespo", "dpao")),
        ("importance_sampling_level", "sequence", "'token'"),
        *(("metric_for_best_model", value, "'eval_reward'") for value in ("loss", "eval_loss")),
        ("top_entropy_quantile", 0.2, "entropy_quantile"),
        ("sapo_temperature_neg", 2.0, "1.05"),
        ("delta", 1.5, "larger delta"),
        ("delta", 0.5, "larger delta"),
    ],
)
def test_refusal(tmp_path: Path, name: str, value: Any, way_out: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        config(tmp_path, **{name: value})
    assert repr(value).strip("'") in str(error.value)
    assert way_out in str(error.value)


def test_every_rejected_field_is_refused_off_its_default(tmp_path: Path) -> None:
    defaults = config(tmp_path)
    for name in REJECTED:
        default = getattr(defaults, name)
        other = (not default) if isinstance(default, bool) else 0.5 if isinstance(default, float) else "sequence"
        with pytest.raises(ValueError, match=f"{name}={other!r}"):
            config(tmp_path, **{name: other})


def test_reasoning_weight_without_a_reference_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"beta_reasoning=0.002 needs a reference model, which beta=0.0"):
        config(tmp_path, beta=0.0, beta_reasoning=0.002)
    assert config(tmp_path, beta=0.0).beta == 0.0


@pytest.mark.parametrize(
    "kwargs",
    [
        {"epsilon": 0.0, "epsilon_reasoning": 0.0},
        {"epsilon_high": 3.0, "epsilon_reasoning_high": 5.0},
        {"delta": 10.0},
        {"gate_width": 1.0},
        {"epsilon_reasoning": 0.1},
        {"beta": 1, "gate_width": 0},
        {"epsilon": np.float32(0.1)},
    ],
)
def test_unusual_but_sound_settings_are_taken(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    made = config(tmp_path, **kwargs)
    assert all(getattr(made, name) == value for name, value in kwargs.items())


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, True),
        ({"gradient_accumulation_steps": 4}, True),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, True),
        ({"num_iterations": 3}, False),
        ({"steps_per_generation": 4}, False),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 4}, False),
    ],
)
def test_strictly_on_policy(tmp_path: Path, kwargs: dict[str, Any], expected: bool) -> None:
    assert config(tmp_path, mask_zero_std_groups=False, **kwargs).strictly_on_policy is expected


def test_command_line(tmp_path: Path) -> None:
    parser = HfArgumentParser(ArcherGRPOConfig)
    flags = "--use_cpu --bf16 False --epsilon_reasoning 0.4 --gate_width 0.1 --mask_zero_std_groups False --delta 10"
    (made,) = parser.parse_args_into_dataclasses(["--output_dir", str(tmp_path), *flags.split()])
    assert (made.epsilon_reasoning, made.gate_width, made.mask_zero_std_groups, made.delta) == (0.4, 0.1, False, 10)
    assert "reasoning tokens" in " ".join(parser.format_help().split())


def test_round_trip_through_its_dictionary(tmp_path: Path) -> None:
    made = config(tmp_path, epsilon_reasoning=0.4)
    assert made.to_dict()["epsilon_reasoning"] == 0.4


def test_the_best_model_is_not_chosen_by_the_loss(tmp_path: Path) -> None:
    """Which is the Trainer's default."""
    options: dict[str, Any] = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 500}
    with pytest.raises(ValueError, match="metric_for_best_model='loss': the loss of a policy gradient"):
        config(tmp_path, **options)
    assert config(tmp_path, **options, metric_for_best_model="eval_reward").greater_is_better
