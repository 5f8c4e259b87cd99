"""Adds the settings of a run to the model card that TRL writes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard

from ... import __version__

if TYPE_CHECKING:
    from ...grpo.config import DurableGRPOConfig
    from ...grpo.trainer import DurableGRPOTrainer

_TITLE = "## Training settings"
_METHOD = (
    "entropy_quantile epsilon epsilon_high epsilon_reasoning epsilon_reasoning_high beta beta_reasoning gate_width"
)
_OTHERS = (
    "delta loss_type scale_rewards num_iterations num_generations generation_batch_size temperature "
    "max_completion_length learning_rate lr_scheduler_type max_steps seed"
)


def add_settings_to_cards(trainer: "DurableGRPOTrainer", rewards: list[str]) -> None:
    """
    Lets the trainer write the settings of the run into each of its model cards, those of checkpoints included.

    Args:
        trainer ([`DurableGRPOTrainer`]): Trainer.
        rewards (`list[str]`): Names of the rewards.
    """
    create = trainer.create_model_card

    def create_with_settings(*args: Any, **kwargs: Any) -> None:
        create(*args, **kwargs)
        path = Path(trainer.args.output_dir) / "README.md"
        if trainer.is_world_process_zero() and path.is_file():
            add_settings(path, trainer.args, rewards)

    trainer.create_model_card = create_with_settings


def add_settings(path: Path, config: "DurableGRPOConfig", rewards: list[str]) -> None:
    """Writes the settings of a run, and the version of trl-archer, into a model card."""
    card = ModelCard.load(path)
    names = [name for name in f"{_METHOD} {_OTHERS}".split() if getattr(config, name, None) is not None]
    rows = [(name, getattr(config, name)) for name in names]
    rows = [("reward_funcs", ", ".join(rewards)), *((name, getattr(value, "value", value)) for name, value in rows)]
    table = "\n".join(["| setting | value |", "| --- | --- |", *(f"| `{name}` | {value} |" for name, value in rows)])
    section = f"{_TITLE}\n\nTrained with trl-archer {__version__}.\n\n{table}\n\n"
    text = card.text.replace("[None](https://huggingface.co/None)", "a local model")
    before, versions, after = text.partition("### Framework versions")
    card.text = f"{before}{section}{versions}{after}"
    card.data.tags = [*(card.data.tags or []), "trl-archer"]
    card.save(path)
