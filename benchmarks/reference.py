"""Tables of the settings, from the configuration classes and `trl_archer.options`."""

import dataclasses
from typing import Any

from trl_archer.grpo.config import documented_parameters

from .markdown import table

# Ranges of fields that do not accept every value of their type. A test tries both sides of each bound.
RANGES = {
    "entropy_quantile": "(0, 1)",
    "gate_width": "[0, 1]",
    "epsilon": "[0, 1)",
    "epsilon_high": "[0, ∞)",
    "epsilon_reasoning": "[0, 1)",
    "epsilon_reasoning_high": "[0, ∞)",
    "beta": "[0, ∞)",
    "beta_reasoning": "[0, ∞)",
    "token_records_steps": "1, 2, ...",
    "max_skipped_updates": "1, 2, ...",
    "max_failed_saves": "1, 2, ...",
    "max_generation_retries": "0, 1, ...",
}


def _value(value: Any) -> str:
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _defaults(dataclass: type) -> dict[str, Any]:
    return {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(dataclass)
    }


def own_fields() -> str:
    """Every parameter that `ArcherGRPOConfig` documents, by group."""
    from trl_archer import ArcherGRPOConfig
    from trl_archer.grpo import DurableGRPOConfig
    from trl_archer.methods import MethodConfig

    defaults, parts, group = _defaults(ArcherGRPOConfig), [], None
    classes = (ArcherGRPOConfig, MethodConfig, DurableGRPOConfig)
    parameters = [p for cls in classes for p in documented_parameters(str(cls.__doc__))]
    for group in dict.fromkeys(parameter.group for parameter in parameters):
        rows = [
            [f"`{p.name}`", f"{p.kind}, {_value(defaults[p.name])}", RANGES.get(p.name, ""), p.text]
            for p in parameters
            if p.group == group
        ]
        heading = group[0].upper() + group[1:]
        parts.append(f"### {heading}\n\n{table(['field', 'type, default', 'range', 'meaning'], rows)}")
    return "\n\n".join(parts)


def inherited_fields() -> str:
    """Inherited parameters that the Archer loss reads, with the defaults of both configurations."""
    from trl import GRPOConfig

    from trl_archer import ArcherGRPOConfig
    from trl_archer.options import HONORED_BY_LOSS

    ours, theirs = _defaults(ArcherGRPOConfig), _defaults(GRPOConfig)
    rows = [
        [
            f"`{name}`",
            _value(ours[name]) + (f" (TRL: {_value(theirs[name])})" if ours[name] != theirs[name] else ""),
            meaning,
        ]
        for name, meaning in HONORED_BY_LOSS.items()
    ]
    return table(["field", "default", "effect on the loss"], rows)


def rejected_fields() -> str:
    """Inherited parameters that must keep their default."""
    from trl import GRPOConfig

    from trl_archer.options import REJECTED

    defaults = _defaults(GRPOConfig)
    rows = [[f"`{name}`", _value(defaults[name]), reason] for name, reason in REJECTED.items()]
    return table(["field", "required value", "reason and fix"], rows)


def irrelevant_fields() -> str:
    """Inherited parameters without effect."""
    from trl_archer.options import IRRELEVANT

    return table(["field", "why it has no effect"], [[f"`{name}`", reason] for name, reason in IRRELEVANT.items()])


def passed_on_fields() -> str:
    """Inherited parameters that TRL and the Trainer read, as two lists."""
    from trl_archer.options import HONORED_BY_TRAINER, HONORED_BY_TRL

    def names(fields: frozenset[str]) -> str:
        return ", ".join(f"`{name}`" for name in sorted(fields))

    return (
        "Generation, rewards, logging and models, in "
        f"[TRL's `GRPOConfig`](https://huggingface.co/docs/trl/grpo_trainer#trl.GRPOConfig): "
        f"{names(HONORED_BY_TRL)}.\n\n"
        "Optimizer, precision, checkpoints and distribution, in "
        "[transformers' `TrainingArguments`](https://huggingface.co/docs/transformers/main_classes/trainer"
        f"#transformers.TrainingArguments): {names(HONORED_BY_TRAINER)}."
    )


def presets() -> str:
    """Presets of `trl-archer train`, with the values that differ from the trainer's defaults."""
    from trl_archer import ArcherGRPOConfig
    from trl_archer.commands.train.presets import PRESETS
    from trl_archer.grpo import DurableGRPOConfig

    configs: dict[str, type] = {"archer": ArcherGRPOConfig, "grpo": DurableGRPOConfig}
    rows = []
    for name, preset in PRESETS.items():
        defaults = _defaults(configs[preset.method])
        paper = f"[{preset.paper}](https://arxiv.org/abs/{preset.paper})"
        values = [f"`{k}={v!r}`" for k, v in preset.values.items() if v != defaults[k]]
        rows.append(
            [f"`{name}`", paper, configs[preset.method].__name__.replace("Config", "Trainer"), ", ".join(values)]
        )
    return table(["preset", "paper", "trainer", "values beside the trainer's defaults"], rows)


def train_arguments() -> str:
    """Arguments of `trl-archer train` for data and rewards."""
    from trl_archer.commands.train.arguments import TrainArguments

    defaults = _defaults(TrainArguments)
    rows = [
        [f"`{p.name}`", _value(defaults[p.name]), p.text] for p in documented_parameters(str(TrainArguments.__doc__))
    ]
    return table(["argument", "default", "meaning"], rows)
