"""Checkpoints that a killed run resumes from exactly: complete or refused, with the rollouts of a window in progress.

A generation batch feeds many optimizer steps. A checkpoint taken between them carries that batch and the metrics not
logged yet, so that saving needs no right moment: it may be due at any step, at the end of an epoch, after an evaluation
or on SIGTERM, and the weights saved are those of that step.

Order of writing: a marker, the files of all ranks, the manifest with the size of every file, the state of the Trainer.
A folder counts as complete when the last two are there and every size is as listed.
"""

import errno
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length

logger = get_logger(__name__)

MANIFEST = "manifest.json"
MARKER = "incomplete"
PROGRESS = "archer_state"
TRAINER_STATE = "trainer_state.json"

_WEIGHTS = ("*.safetensors", "pytorch_model*", "adapter_model*", "global_step*")

# What decides the shapes of a model, by name in its configuration
_ARCHITECTURE = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "num_experts", "tie_word_embeddings"),
)
_ADAPTER = ("peft_type", "r", "target_modules", "modules_to_save")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; weights, optimizer and rollouts in memory are as before."""


# Which checkpoint


def why_incomplete(folder: str | Path) -> str | None:
    """
    Says what a checkpoint lacks.

    Args:
        folder (`str` or `Path`): Checkpoint of ours, or of another trainer: without a manifest, its weights have to be
            there and every tensor file has to be readable to its end.

    Returns:
        `str` or `None`: The reason, `None` for a complete one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "it is not a folder"
    try:
        json.loads((folder / TRAINER_STATE).read_text())
    except FileNotFoundError:
        return f"{TRAINER_STATE}, which is written last, is missing"
    except ValueError:
        return f"{TRAINER_STATE} is cut off"
    if (folder / MANIFEST).is_file():
        return _differs_from_manifest(folder)
    if (folder / MARKER).is_file():
        return "saving stopped before all processes had written their files"
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        return "it holds no weights"
    return next((f"{path.name} is cut off" for path in _files(folder) if not _is_readable(path)), None)


def _differs_from_manifest(folder: Path) -> str | None:
    for name, size in json.loads((folder / MANIFEST).read_text())["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    return None


def _is_readable(path: Path) -> bool:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return True
        except SafetensorError:
            return False
    # torch writes zip archives, whose directory stands at the end
    return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def list_checkpoints(run_dir: Path) -> dict[int, Path]:
    """
    Checkpoints of a run, complete or not.

    Args:
        run_dir (`Path`): Folder of the run.

    Returns:
        `dict[int, Path]`: Folder by step, the latest first.
    """
    found = {path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"): path for path in run_dir.glob("checkpoint-*")}
    return dict(sorted(((int(step), path) for step, path in found.items() if step.isdecimal()), reverse=True))


def find_checkpoint(trainer: Any, resume_from_checkpoint: str | bool | None) -> str | None:
    """
    Settles what to resume from, on all ranks alike.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer about to train.
        resume_from_checkpoint (`str`, `bool` or `None`): A checkpoint, or `True` for the last complete one in
            `output_dir`; later ones that are not complete are passed over with a warning.

    Returns:
        `str` or `None`: Path of the checkpoint, `None` to start afresh.

    Raises:
        ValueError: If the checkpoint is not complete, belongs to another model, or `output_dir` has no complete one.
    """
    if resume_from_checkpoint is None or resume_from_checkpoint is False:
        return None
    if resume_from_checkpoint is True:
        folder = _last_complete(trainer)
    else:
        folder = Path(resume_from_checkpoint)
        reasons = _on_writing_ranks(trainer, lambda: why_incomplete(folder))
        for reason in filter(None, reasons):
            raise ValueError(
                f"resume_from_checkpoint='{folder}' is not a complete checkpoint: {reason}. Pass "
                "resume_from_checkpoint=True for the last complete one in output_dir."
            )
    check_model(folder, trainer.accelerator.unwrap_model(trainer.model), trainer._trainable_shapes)
    return str(folder)


def _last_complete(trainer: Any) -> Path:
    run_dir = Path(trainer.args.output_dir)
    by_node = _on_writing_ranks(
        trainer, lambda: {s: why_incomplete(path) for s, path in list_checkpoints(run_dir).items()}
    )
    steps = sorted({step for node in by_node for step in node}, reverse=True)
    reasons: dict[Path, str] = {}
    for step in steps:
        folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        reason = next(filter(None, (node.get(step, "a node lacks it") for node in by_node)), None)
        if reason is None:
            for other, why in reasons.items():
                logger.warning(f"{other} is not complete ({why}); training resumes from {folder} instead.")
            return folder
        reasons[folder] = reason
    seen = "; ".join(f"{folder}: {why}" for folder, why in reasons.items()) or "there is none"
    raise ValueError(
        f"resume_from_checkpoint=True: no complete checkpoint in output_dir='{run_dir}' ({seen}). Start without "
        "resume_from_checkpoint, or pass the path of a checkpoint."
    )


def _on_writing_ranks(trainer: Any, read: Callable[[], Any]) -> list[Any]:
    """What each rank sees that writes checkpoints: one, or one per node with `save_on_each_node`."""
    return gather_object([read()] if trainer.args.should_save else [])


def check_model(folder: str | Path, model: Any, shapes: dict[str, list[int]] | None = None) -> None:
    """
    Checks that a checkpoint belongs to a model.

    Args:
        folder (`str` or `Path`): Checkpoint.
        model (`PreTrainedModel` or `PeftModel`): Model about to be trained.
        shapes (`dict[str, list[int]]`, *optional*): Its [`trainable_shapes`], if a wrapper hides them by now.

    Raises:
        ValueError: If one is an adapter and the other is not, or if configuration or weights differ; the message names
            the field and both values.
    """
    folder = Path(folder)
    has_adapter = (folder / "adapter_config.json").is_file()
    if has_adapter != isinstance(model, PeftModel):
        kinds = ("a PEFT adapter", "a full model")
        raise ValueError(
            f"{folder} holds {kinds[not has_adapter]}, but the trainer has {kinds[has_adapter]}. "
            f"{'Pass the `peft_config` that it was trained with' if has_adapter else 'Leave `peft_config` out'}, or "
            "start without resume_from_checkpoint."
        )
    if has_adapter:
        saved = json.loads((folder / "adapter_config.json").read_text())
        _compare(folder, "adapter", saved, model.peft_config[model.active_adapters[0]].to_dict(), _ADAPTER)
    elif (folder / "config.json").is_file():
        _compare(
            folder, "model", json.loads((folder / "config.json").read_text()), model.config.to_dict(), _ARCHITECTURE
        )
    if (folder / MANIFEST).is_file():
        saved = json.loads((folder / MANIFEST).read_text())["parameters"]
        shapes = trainable_shapes(model) if shapes is None else shapes
        _compare(folder, "model", saved, shapes, sorted(saved.keys() | shapes.keys()))


def _compare(folder: Path, what: str, saved: dict[str, Any], ours: dict[str, Any], names: Any) -> None:
    for name in names:
        left, right = (
            sorted(x) if isinstance(x, list | set) and name == "target_modules" else x
            for x in (saved.get(name), ours.get(name))
        )
        if left != right:
            raise ValueError(
                f"{folder} is a checkpoint of another {what}: {name} is {left} there and {right} here. Resume with the "
                f"{what} that it was saved from, or start without resume_from_checkpoint."
            )


def trainable_shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    """
    Shapes of what training changes.

    Args:
        model (`nn.Module`): Model before any wrapper, whose names are those of every run.

    Returns:
        `dict[str, list[int]]`: Shape by name, the whole one of a parameter that ZeRO-3 has split.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in parameters}


# Saving


def save_checkpoint(trainer: Any, folder: Path, write: Callable[[], None]) -> None:
    """
    Writes a checkpoint, or takes back what was written of it.

    All ranks agree on the outcome. A save that fails leaves the earlier checkpoints and everything in memory alone;
    training goes on and saves again when the next save is due. It stops after `max_failed_saves` in a row, and when no
    later save will come.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        folder (`Path`): Checkpoint to write; what it holds is replaced.
        write (`Callable`): Writes it, as the Trainer does.

    Raises:
        CheckpointError: If it could not be written, and waiting for the next save is no use.
    """
    best = trainer.state.best_model_checkpoint
    writing = False
    try:
        if trainer.args.should_save:
            _make_room(trainer, folder)
        _agree()
        writing = True
        write()
        _agree()
    except Exception as error:
        if not _is_write_error(error) or (writing and _others_are_busy(trainer, error)):
            raise
        failure = _agreed(error)
    else:
        if trainer.args.should_save:
            (folder / MARKER).unlink(missing_ok=True)
        trainer._failed_saves = 0
        return
    trainer.state.best_model_checkpoint = best
    trainer._failed_saves += 1
    _report(trainer, folder, failure)


def _make_room(trainer: Any, folder: Path) -> None:
    """Removes what a killed process left, and marks the folder as not complete until it is."""
    for path in list_checkpoints(folder.parent).values():
        if (path / MARKER).is_file() and why_incomplete(path):
            shutil.rmtree(path, ignore_errors=True)
    # As large as the previous one. All ranks can still agree on this failure, also under DeepSpeed and FSDP
    needed = trainer._checkpoint_bytes
    if folder.parent.is_dir():
        disk = shutil.disk_usage(folder.parent)
        if disk.free < needed and disk.total > 0:  # object stores may know neither
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: the previous checkpoint has {needed:,} bytes")
    shutil.rmtree(folder, ignore_errors=True)
    if not trainer.args.save_only_model:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("This checkpoint was not written to its end.\n")


def write_manifest(trainer: Any, folder: str | Path) -> None:
    """
    Lists the files of a checkpoint, once every rank has written its own.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer. All ranks call it; those that write checkpoints write the manifest.
        folder (`str` or `Path`): Checkpoint, complete but for the state of the Trainer.
    """
    _agree()
    if not trainer.args.should_save:
        return
    folder = Path(folder)
    files = {str(p.relative_to(folder)): p.stat().st_size for p in _files(folder) if p.name != MARKER}
    for name in files:
        _flush(folder / name)
    manifest = {"files": files, "parameters": trainer._trainable_shapes}
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=1))
    _flush(partial)
    partial.replace(folder / MANIFEST)
    trainer._checkpoint_bytes = sum(files.values())


def _flush(path: Path) -> None:
    """To the disk, so that no crash of the machine leaves a manifest of files that were never stored."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _agree(failure: str | None = None) -> None:
    """Waits for all ranks, and raises on all of them if one failed."""
    failures = list(filter(None, gather_object([failure])))
    if failures:
        raise CheckpointError("; ".join(failures))


def _others_are_busy(trainer: Any, error: Exception) -> bool:
    """Whether the other ranks wait for this one in collectives of other code, so that only its end can end them."""
    in_collectives = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or bool(trainer.state.best_global_step)
    return in_collectives and trainer.accelerator.num_processes > 1 and not isinstance(error, CheckpointError)


def _agreed(error: Exception) -> str:
    """The failure that all ranks know of; an error of this rank alone is told to the others, which wait for it."""
    if not isinstance(error, CheckpointError):
        try:
            _agree(f"{type(error).__name__}: {error}")
        except CheckpointError as agreed:
            return str(agreed)
    return str(error)


def _is_write_error(error: Exception) -> bool:
    # torch's writer has no exception of its own
    from_torch = isinstance(error, RuntimeError) and any(x in str(error) for x in ("inline_container", "PytorchStream"))
    return isinstance(error, OSError | SafetensorError | CheckpointError) or from_torch


def _report(trainer: Any, folder: Path, failure: str) -> None:
    disk = shutil.disk_usage(next(parent for parent in folder.absolute().parents if parent.is_dir()))
    message = (
        f"{folder} could not be written: {failure}. {disk.free:,} of {disk.total:,} bytes are free there. What "
        "had been written of it was removed; earlier checkpoints, weights, optimizer and rollouts are intact."
    )
    if trainer.args.should_save:
        shutil.rmtree(folder, ignore_errors=True)
    allowed = trainer.args.max_failed_saves
    if trainer.control.should_training_stop:
        raise CheckpointError(
            f"{message} No later save will come: free space, then call `trainer.save_model()`, or pass it a folder on "
            "another disk."
        )
    if trainer._failed_saves >= allowed:
        raise CheckpointError(
            f"{message} Training stops after {trainer._failed_saves} failed saves in a row "
            f"(max_failed_saves={allowed}). Free space, or lower save_total_limit, and resume from the last checkpoint."
        )
    logger.error(
        f"{message} Training goes on and saves again at the next save; it stops at {allowed} failed saves in a row "
        f"(max_failed_saves), this is number {trainer._failed_saves}. Free space, or lower save_total_limit."
    )


# Progress within a generation batch


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

    A save inside an optimizer step, as `enable_jit_checkpoint` may make it on SIGTERM, has that step repeated; what it
    had done counts twice in the next log, and if it had begun with sampling, the samples are other ones.

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
        logger.warning(
            f"{folder} has no {path.name}: completions of the current generation batch are sampled anew and metrics "
            "not logged yet are lost, so the run is not repeated exactly. It was saved by another trainer, by another "
            "number of processes, or with save_only_model=True.",
            main_process_only=False,
        )
        return
    progress = torch.load(path, map_location="cpu", weights_only=True)
    geometry = _geometry(trainer)
    if progress["geometry"] != geometry:
        changed = ", ".join(f"{k} from {progress['geometry'].get(k)} to {v}" for k, v in geometry.items())
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
