"""Checks made before the first GPU minute; each error names what is wrong, its value and the way out."""

from typing import Any

import trl
from torch import nn


def refuse_unsloth(trainer_class: type) -> None:
    """
    Refuses to run on a `GRPOTrainer` that Unsloth has rewritten: it returns no entropies, which Archer is made of.

    Args:
        trainer_class (`type`): Class of the trainer about to be built.

    Raises:
        RuntimeError: If Unsloth's trainer is among its bases or has taken the place of `trl.GRPOTrainer`.
    """
    for cls in (*trainer_class.__mro__, trl.GRPOTrainer):
        if "unsloth" in f"{cls.__module__}.{cls.__qualname__}".lower():
            raise RuntimeError(
                f"Unsloth has replaced TRL's GRPOTrainer by {cls.__module__}.{cls.__qualname__}, which returns no "
                "token entropies. Remove `import unsloth` from this process to train with Archer."
            )


def check_dataset(name: str, dataset: Any) -> None:
    """
    Checks that every data set has a `prompt` column. Of a stream with unknown columns the first row is read.

    Args:
        name (`str`): Argument that holds the data set, for the message.
        dataset (`Dataset`, `IterableDataset`, a dictionary of them or `None`): The data.

    Raises:
        ValueError: If there is no such column.
    """
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_dataset(f"{name}['{key}']", part)
        return
    columns = getattr(dataset, "column_names", None)
    if dataset is not None and columns is None:
        columns = list(next(iter(dataset), {"prompt": None}))
    if columns is not None and "prompt" not in columns:
        raise ValueError(
            f"{name} has no column 'prompt', only {', '.join(map(repr, columns)) or 'none'}. Rename one with "
            f"`rename_column(..., 'prompt')`."
        )


def check_trainable(model: nn.Module) -> None:
    """
    Checks that training can change the model.

    Args:
        model (`nn.Module`): Model, adapters included.

    Raises:
        ValueError: If no parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        count = sum(parameter.numel() for parameter in model.parameters())
        raise ValueError(
            f"None of the model's {count:,} parameters requires a gradient, so training would change nothing. Pass a "
            "`peft_config`, load the adapter with `is_trainable=True`, or call `requires_grad_(True)`."
        )
