"""Completes the model card that TRL writes: settings, versions, data and the command of the run."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard

from ... import __version__

if TYPE_CHECKING:
    from ...grpo.config import DurableGRPOConfig
    from ...grpo.trainer import DurableGRPOTrainer

_TITLE = "## Training settings"
_METHOD = (
    "surrogate clip_range token_weights entropy_quantile epsilon epsilon_high epsilon_reasoning epsilon_reasoning_high "
    "beta beta_reasoning gate_width"
)
_OTHERS = (
    "delta loss_type scale_rewards num_iterations num_generations generation_batch_size temperature "
    "max_completion_length learning_rate lr_scheduler_type max_steps seed"
)
_SECRETS = ("hub_token", "push_to_hub_token")


@dataclass(frozen=True)
class CardDetails:
    """
    What a model card says about a run, beyond the trainer's configuration.

    Attributes:
        rewards (`list[str]`): Names of the rewards.
        dataset (`str`): The dataset as the recipe names it.
        on_hub (`bool`): Whether `dataset` is the name of a dataset on the Hub.
        arguments (`Sequence[str]`): Arguments of `trl-archer train`.
    """

    rewards: list[str]
    dataset: str
    on_hub: bool
    arguments: Sequence[str]


def complete_cards(trainer: "DurableGRPOTrainer", details: CardDetails) -> None:
    """Lets a trainer complete each of its model cards, those of checkpoints included."""
    create = trainer.create_model_card
    path = Path(trainer.args.output_dir) / "README.md"

    def create_complete(model_name: str | None = None, dataset_name: str | None = None, tags: Any = None) -> None:
        model_name = model_name or path.resolve().parent.name
        create(model_name, dataset_name or (details.dataset if details.on_hub else None), tags)
        if trainer.is_world_process_zero() and path.is_file():
            complete_card(path, trainer.args, details)

    trainer.create_model_card = create_complete


def complete_card(path: Path, config: "DurableGRPOConfig", details: CardDetails) -> None:
    """Writes command, version and settings of a run into a model card, and names a local model."""
    card = ModelCard.load(path)
    names = [name for name in f"{_METHOD} {_OTHERS}".split() if getattr(config, name, None) is not None]
    rows = [(name, getattr(config, name)) for name in names]
    rows = [
        ("dataset", details.dataset),
        ("reward_funcs", ", ".join(details.rewards)),
        *((name, getattr(value, "value", value)) for name, value in rows),
    ]
    table = "\n".join(["| setting | value |", "| --- | --- |", *(f"| `{name}` | {value} |" for name, value in rows)])
    processes = "1 process" if config.world_size == 1 else f"{config.world_size} processes"
    section = (
        f"{_TITLE}\n\nTrained with trl-archer {__version__} on {processes}:\n\n"
        f"```bash\n{command_line(details.arguments)}\n```\n\n{table}\n\n"
        "`run.json` contains all settings and the versions of all libraries.\n\n"
    )
    text = card.text.replace("[None](https://huggingface.co/None)", "a local model")
    text = text.replace('model="None"', f'model="{config.output_dir}"')
    before, versions, after = text.partition("### Framework versions")
    card.text = f"{before}{section}{versions}{after}"
    card.data.tags = [*(card.data.tags or []), "trl-archer"]
    card.save(path)


def command_line(arguments: Sequence[str]) -> str:
    """
    The command of a run, without tokens.

    Example:

    ```python
    >>> command_line(["--config", "my recipe.yaml", "--hub_token", "hf_abc"])
    "trl-archer train --config 'my recipe.yaml' --hub_token ..."

    ```
    """
    words, is_secret = ["trl-archer", "train"], False
    for word in arguments:
        flag, equals, _ = word.partition("=")
        names_secret = flag.lstrip("-").replace("-", "_") in _SECRETS
        words.append("..." if is_secret else f"{flag}=..." if names_secret and equals else word)
        is_secret = names_secret and not equals
    return shlex.join(words)
