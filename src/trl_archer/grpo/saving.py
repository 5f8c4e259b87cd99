"""Writing a checkpoint to its end, or not at all; a full disk costs a checkpoint and not the run."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import gather_object
from safetensors import SafetensorError

from .._files import whole_file
from .checkpoints import MANIFEST, MARKER, files_of, launch_of, list_checkpoints, why_incomplete

logger = get_logger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; weights, optimizer and rollouts in memory are as before."""


def save_checkpoint(trainer: Any, folder: Path, write: Callable[[], None]) -> None:
    """
    Writes a checkpoint, or takes back what was written of it.

    All ranks agree on the outcome. A save that fails leaves the earlier checkpoints and everything in memory alone;
    training goes on and saves again when the next save is due. It stops after `max_failed_saves` in a row, and when no
    later save will come. It also stops where a rank fails in the middle of what DeepSpeed or FSDP write together.

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
        with failing_together():
            if trainer.args.should_save:
                _make_room(trainer, folder)
        writing = True
        write()
        _agree()
    except Exception as error:
        if not _is_write_error(error):
            raise
        if writing and _others_are_busy(trainer, error):
            raise CheckpointError(
                f"{folder} could not be written: {type(error).__name__}: {error}. The other processes wait for this "
                "one inside DeepSpeed, FSDP or a collective of the Trainer, so the run ends here. Earlier checkpoints "
                "are intact: free space, or lower save_total_limit, and resume from the last one."
            ) from error
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
        trainer ([`ArcherGRPOTrainer`]): Trainer. Of the ranks that call it, those that write checkpoints write it.
        folder (`str` or `Path`): Checkpoint, complete but for the state of the Trainer.
    """
    if not trainer.args.should_save:
        return
    folder = Path(folder)
    files = {str(p.relative_to(folder)): p.stat().st_size for p in files_of(folder) if p.name != MARKER}
    for name in files:
        _flush(folder / name)
    manifest = {"files": files, "parameters": trainer._trainable_shapes, "launch": launch_of(trainer)}
    with whole_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))
        _flush(temporary)
    trainer._checkpoint_bytes = sum(files.values())


def _flush(path: Path) -> None:
    """To the disk, so that no crash of the machine leaves a manifest of files that were never stored."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def failing_together() -> Iterator[None]:
    """
    Waits for all ranks, and makes a write that fails on one of them fail on all.

    Every rank has to come here, with no collective of other code under way.

    Raises:
        CheckpointError: On all ranks, with the failures of each.
    """
    failure = None
    try:
        yield
    except Exception as error:
        if not _is_write_error(error):
            raise
        failure = f"{type(error).__name__}: {error}"
    _agree(failure)


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
