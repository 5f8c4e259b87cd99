"""Checks made before the first GPU minute; each error names what is wrong, its value and the way out."""

from functools import partial
from typing import Any

import torch
import trl
from torch import nn
from torch.nn.functional import pad


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
            f"{name} has no column 'prompt', only {', '.join(map(repr, columns)) or 'none'}. Rename the "
            f"one that holds the prompts, as in `dataset.rename_column({next(iter(columns), 'question')!r}, 'prompt')`."
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


# Mean difference of log-probabilities, in nats, that rounding alone can make when a sequence is shifted
_ROUNDING = 1e-3
_ROUNDING_OF_HALF_PRECISION = 5e-2  # TF32 has as few digits


@torch.no_grad()
def check_left_padding(trainer: Any, inputs: dict[str, Any], shift: int = 8, longest: int = 64) -> None:
    """
    Checks on one row that padding on the left leaves the model's log-probabilities alone, as relative positions do.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with the model. Every rank runs the same two forward passes.
        inputs (`dict`): A micro-batch, of which the first row is used.
        shift (`int`, *optional*, defaults to `8`): Padding to try, in tokens.
        longest (`int`, *optional*, defaults to `64`): Tokens of prompt and of completion to use at most.

    Raises:
        ValueError: If they change by more than rounding.
    """
    prompt = inputs["prompt_ids"][0][inputs["prompt_mask"][0].bool()][-longest:]
    ids = torch.cat([prompt, inputs["completion_ids"][0, :longest]]).unsqueeze(0)
    mask = torch.ones_like(ids)
    width = ids.size(1) - len(prompt)
    score = partial(trl.GRPOTrainer._get_per_token_logps_and_entropies, trainer)  # TRL's own, which trims nothing
    training = trainer.model.training
    trainer.model.eval()  # no dropout between the two
    plain, _, _ = score(trainer.model, ids, mask, width)
    shifted, _, _ = score(trainer.model, pad(ids, (shift, 0)), pad(mask, (shift, 0)), width)
    trainer.model.train(training)
    # The largest over the ranks, so that all of them go on or none does
    difference = trainer.accelerator.gather((plain - shifted).abs().mean()).max().item()
    coarse = trainer.args.bf16 or trainer.args.fp16 or trainer.args.tf32
    exact = not coarse and trainer.model.dtype in (torch.float32, torch.float64)
    limit = _ROUNDING if exact else _ROUNDING_OF_HALF_PRECISION
    if not difference <= limit:
        raise ValueError(
            f"remove_padding=True: {shift} tokens of padding on the left change the model's log-probabilities by "
            f"{difference:.3g} nats on average, more than rounding ({limit} nats): its positions are absolute, or its "
            "arithmetic is coarse. Set remove_padding=False to train in TRL's layout."
        )
