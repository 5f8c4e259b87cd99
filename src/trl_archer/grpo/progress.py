"""Where a run is within a generation batch, which a checkpoint carries.

A generation batch feeds many optimizer steps. A checkpoint taken between them carries that batch and the metrics not
logged yet, so that saving needs no right moment: it may be due at any step, at the end of an epoch, after an evaluation
or on SIGTERM, and the weights saved are those of that step.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from transformers.trainer_utils import has_length

from .checkpoints import TRAINER_STATE

logger = get_logger(__name__)

PROGRESS = "archer_state"


def trained_micro_batches(trainer: Any) -> int:
    """
    Micro-batches that a run has trained on at its `global_step`, as the Trainer counts and skips them.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer that is training.

    Returns:
        `int`: TRL's `_step` at the start of the next optimizer step. The last step of an epoch may take fewer.
    """
    accumulation, dataloader = trainer.args.gradient_accumulation_steps, trainer.callback_handler.train_dataloader
    if not has_length(dataloader):
        return trainer.state.global_step * accumulation
    epochs, updates = divmod(trainer.state.global_step, math.ceil(len(dataloader) / accumulation))
    return epochs * len(dataloader) + updates * accumulation


def save_progress(trainer: Any, folder: str | Path) -> None:
    """
    Saves what this rank needs in order to go on exactly: metrics not logged yet and rollouts not used up.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        folder (`str` or `Path`): Checkpoint.
    """
    progress = {
        "geometry": _geometry(trainer),
        "loss": trainer._tr_loss.detach().cpu(),
        "last_logged": trainer._globalstep_last_logged,
        "metrics": {name: [float(x) for x in values] for name, values in trainer._metrics["train"].items()},
        "statistics": [row.cpu() for row in trainer._statistics["train"]],
        "skipped_updates": trainer._skipped_updates,
        "rollouts": None,
    }
    if trained_micro_batches(trainer) % _window(trainer):
        # Clones, or each slice would be saved with all of the tensor that it is part of
        progress["rollouts"] = [
            {name: x.detach().cpu().clone() if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
            for batch in trainer._buffered_inputs
        ]
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save(progress, _progress_file(trainer, folder))


def load_progress(trainer: Any, folder: str | Path) -> None:
    """
    Restores what [`save_progress`] saved, once the Trainer has set up its loop.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        folder (`str` or `Path`): Checkpoint that it resumes from. Without saved progress, or if batch sizes or the
            number of processes have changed, completions are sampled anew, with a warning.
    """
    trainer._last_loaded_step = -1  # vLLM has the weights of before
    if trainer.args.sync_ref_model:
        logger.warning("sync_ref_model=True: checkpoints hold no reference model; it starts again from the base model.")
    if trainer.args.ignore_data_skip:
        return
    passes = math.ceil(trainer.state.epoch or 1) - 1
    if passes and not has_length(trainer.callback_handler.train_dataloader):
        logger.warning(
            f"train_dataset is a stream that was passed over {passes} times before {folder}: the place in it is not "
            "found again exactly. Load it as a `Dataset` to resume exactly."
        )
    trainer._step = trained_micro_batches(trainer)
    path = _progress_file(trainer, folder)
    if not path.is_file():
        has_optimizer = any(found for x in ("optimizer*", "global_step*") for found in Path(folder).glob(x))
        logger.warning(
            f"{folder} has no {path.name}: completions of the current generation batch are sampled anew and metrics "
            "not logged yet are lost, so the run is not repeated exactly. "
            f"{'' if has_optimizer else 'It has no optimizer either: its moments and the schedule start anew. '}"
            "It was saved by another trainer, by another number of processes, or with save_only_model=True.",
            main_process_only=False,
        )
        return
    progress = torch.load(path, map_location="cpu", weights_only=True)
    before, geometry = progress["geometry"], _geometry(trainer)
    if before != geometry:
        changed = ", ".join(f"{k} from {before.get(k)} to {v}" for k, v in geometry.items() if before.get(k) != v)
        logger.warning(f"Batches have changed since {folder} ({changed}): completions are sampled anew.")
        return
    device = trainer.accelerator.device
    trainer._tr_loss = progress["loss"].to(device)
    # The summary at the end spans the steps of this call
    trainer._total_loss_scalar -= trainer.accelerator.reduce(trainer._tr_loss.clone(), reduction="mean").item()
    trainer._globalstep_last_logged = progress["last_logged"]
    trainer._metrics["train"].update(progress["metrics"])
    trainer._statistics["train"] = [row.to(device) for row in progress["statistics"]]
    trainer._skipped_updates = progress["skipped_updates"]
    if progress["rollouts"] is not None:
        trainer._buffered_inputs = [
            {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
            for batch in progress["rollouts"]
        ]


def _progress_file(trainer: Any, folder: str | Path) -> Path:
    rank = f"_{trainer.accelerator.process_index}" if trainer.accelerator.num_processes > 1 else ""
    return Path(folder) / f"{PROGRESS}{rank}.pth"


def _window(trainer: Any) -> int:
    """Micro-batches that one generation batch feeds."""
    return trainer.args.steps_per_generation * trainer.args.num_iterations


def _geometry(trainer: Any) -> dict[str, int]:
    names = (
        *("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_iterations"),
        *("num_generations", "world_size"),
    )
    return {name: getattr(trainer.args, name) for name in names}


def skip_epochs(sampler: Any, folder: str | None) -> None:
    """
    Moves a sampler that shuffles anew in every epoch to the epoch of a checkpoint.

    Args:
        sampler (`Sampler`): TRL's sampler, whose generator draws one permutation per epoch.
        folder (`str` or `None`): Checkpoint that the run resumes from.
    """
    if folder is None or getattr(sampler, "generator", None) is None:
        return
    epochs = json.loads((Path(folder) / TRAINER_STATE).read_text())["epoch"]
    for _ in range(int(epochs or 0)):
        torch.randperm(sampler.num_samples, generator=sampler.generator)
