"""Saves and restores the position of a run within a generation batch.

A generation batch feeds many optimizer steps. A checkpoint taken between them contains the batch and the metrics that
are not logged yet, so a run can save at any step.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerState
from transformers.trainer_utils import has_length

from .checkpoints import TRAINER_STATE
from .config import DurableGRPOConfig

logger = get_logger(__name__)

PROGRESS = "durable_state"

# Fields that affect a rollout or what is computed from it. A change makes saved rollouts useless
_FINGERPRINT = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_iterations"),
    *("num_generations", "world_size", "max_completion_length", "chat_template_kwargs", "generation_kwargs"),
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "mask_truncated_completions"),
    *("reward_weights", "scale_rewards", "multi_objective_aggregation", "mask_zero_std_groups"),
    *("use_vllm", "vllm_importance_sampling_correction", "vllm_importance_sampling_mode"),
    *("vllm_importance_sampling_clip_min", "vllm_importance_sampling_clip_max"),
)


def trained_micro_batches(state: TrainerState, args: DurableGRPOConfig, dataloader: DataLoader) -> int:
    """
    Counts the micro-batches that a run has trained on at its `global_step`, as the Trainer counts and skips them.

    Returns:
        `int`: TRL's `_step` at the start of the next optimizer step. The last step of an epoch may take fewer.
    """
    accumulation = args.gradient_accumulation_steps
    if not has_length(dataloader):
        return state.global_step * accumulation
    epochs, updates = divmod(state.global_step, math.ceil(len(dataloader) / accumulation))
    return epochs * len(dataloader) + updates * accumulation


def _fingerprint(args: DurableGRPOConfig) -> dict[str, Any]:
    fields = {name: getattr(args, name, None) for name in _FINGERPRINT}  # not every configuration drops groups
    return {**fields, "beta != 0": args.beta != 0}  # whether there are reference log-probabilities


def to_device(batch: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Copies a micro-batch to a device. Tensors are cloned; a slice would be saved with the tensor it belongs to."""
    return {name: x.detach().to(device).clone() if isinstance(x, torch.Tensor) else x for name, x in batch.items()}


def _progress_file(folder: str | Path, args: DurableGRPOConfig) -> Path:
    """Returns this rank's file in a checkpoint."""
    rank = f"_{args.process_index}" if args.world_size > 1 else ""
    return Path(folder) / f"{PROGRESS}{rank}.pth"


def save_progress(progress: dict[str, Any], folder: str | Path, args: DurableGRPOConfig) -> None:
    """Writes the state that this rank needs to resume exactly."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save({**progress, "fingerprint": _fingerprint(args)}, _progress_file(folder, args))


def load_progress(folder: str | Path, args: DurableGRPOConfig) -> dict[str, Any] | None:
    """
    Reads the state that this rank saved in a checkpoint.

    Returns:
        `dict` or `None`: The state. `None`, with a warning, if there is none or if a setting that the rollouts depend
        on has changed. Completions are then sampled again.
    """
    path = _progress_file(folder, args)
    if not path.is_file():
        has_optimizer = any(found for x in ("optimizer*", "global_step*") for found in Path(folder).glob(x))
        logger.warning(
            f"{folder} has no {path.name}: the completions of the current generation batch are sampled again and "
            "metrics that were not logged yet are lost, so the run does not resume exactly. "
            f"{'' if has_optimizer else 'It has no optimizer either: moments and schedule start over. '}"
            "It was saved by another trainer, with another number of processes, or with save_only_model=True.",
            main_process_only=False,
        )
        return None
    progress = torch.load(path, map_location="cpu", weights_only=True)
    before, now = progress["fingerprint"], _fingerprint(args)
    if before != now:
        changed = ", ".join(
            f"{name} from {before.get(name)} to {x}" for name, x in now.items() if before.get(name) != x
        )
        logger.warning(f"Settings have changed since {folder} ({changed}): completions are sampled again.")
        return None
    return progress


def warn_of_inexact_resume(folder: str | Path, state: TrainerState, args: DurableGRPOConfig, data: DataLoader) -> None:
    """Warns of state that no checkpoint restores: a synced reference, and the position in a stream after pass 1."""
    if args.sync_ref_model:
        logger.warning("sync_ref_model=True: checkpoints have no reference model, so it restarts from the base model.")
    passes = math.ceil(state.epoch or 1) - 1
    if passes and not has_length(data) and not args.ignore_data_skip:
        logger.warning(
            f"train_dataset is a stream that was read {passes} times before {folder}, so its position cannot be "
            "restored exactly. Load it as a `Dataset` to resume exactly."
        )


def skip_epochs(sampler: Sampler | None, folder: Path | None) -> None:
    """Advances a sampler that shuffles in every epoch to the epoch of a checkpoint."""
    generator = getattr(sampler, "generator", None)
    if folder is None or generator is None:
        return
    epochs = json.loads((folder / TRAINER_STATE).read_text())["epoch"]
    for _ in range(int(epochs or 0)):
        torch.randperm(sampler.num_samples, generator=generator)  # type: ignore[union-attr]
