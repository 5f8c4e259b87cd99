"""The objective's settings from flat names, as the oracle and the configuration have them."""

from dataclasses import asdict
from typing import Any

from trl_archer.objective import ArcherTokenLoss, Constraint, Constraints, archer_token_loss

from .oracle import Settings


def constraints(**settings: Any) -> Constraints:
    """[`Constraints`] from the fields of the oracle's `Settings`."""
    flat = Settings(**settings)
    knowledge_high = flat.epsilon if flat.epsilon_high is None else flat.epsilon_high
    reasoning_high = flat.epsilon_reasoning if flat.epsilon_reasoning_high is None else flat.epsilon_reasoning_high
    return Constraints(
        knowledge=Constraint(flat.epsilon, knowledge_high, flat.beta),
        reasoning=Constraint(flat.epsilon_reasoning, reasoning_high, flat.beta_reasoning),
        entropy_quantile=flat.entropy_quantile,
        gate_width=flat.gate_width,
        delta=flat.delta,
        use_bias_correction_kl=flat.use_bias_correction_kl,
    )


def record_settings(**settings: Any) -> dict[str, Any]:
    """The settings that token records carry, from flat ones."""
    return {**asdict(constraints(**settings)), "loss_type": "dapo", "temperature": 1.0}


def token_loss(*args: Any, **kwargs: Any) -> ArcherTokenLoss:
    """[`archer_token_loss`] with flat settings among its arguments."""
    settings = {name: kwargs.pop(name) for name in Settings.__dataclass_fields__ if name in kwargs}
    return archer_token_loss(*args, **kwargs, constraints=constraints(**settings))
