"""Writes a checkpoint completely or not at all; a full disk costs a checkpoint, not the run."""

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
from transformers import TrainerControl, TrainerState

from .._files import whole_file
from .checkpoints import MANIFEST, MARKER, checkpoint_bytes, files_of, list_checkpoints, why_incomplete
from .config import DurableGRPOConfig

logger = get_logger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written. Weights, optimizer and rollouts in memory are unchanged."""


class CheckpointSaver:
    """Writes the checkpoints of a run. All ranks agree on the outcome of each."""

    def __init__(self, args: DurableGRPOConfig, launch: dict[str, Any], shapes: dict[str, list[int]]):
        self._args = args
        self._launch = launch
        self._shapes = shapes
        self._failed_in_a_row = 0
        self._previous_bytes = 0

    def resume(self, checkpoint: Path | None) -> None:
        """Expects the next checkpoint to be as large as the one that the run resumes from."""
        self._previous_bytes = checkpoint_bytes(checkpoint)

    def save(self, folder: Path, write: Callable[[], None], state: TrainerState, control: TrainerControl) -> None:
        """
        Writes a checkpoint, or removes the partial one.

        A failed save leaves earlier checkpoints and everything in memory unchanged; training continues and tries again
        at the next save. Training stops after `max_failed_saves` failures in a row, when no later save is due, or when
        a rank fails while DeepSpeed or FSDP write on all ranks together.

        Raises:
            CheckpointError: If it could not be written and training cannot continue.
        """
        best = state.best_model_checkpoint
        writing = False
        try:
            with failing_together():
                if self._args.should_save:
                    self._make_room(folder)
            writing = True
            write()
            _agree()
        except Exception as error:
            if not _is_write_error(error):
                raise
            if writing and self._others_are_busy(error, bool(state.best_global_step)):
                raise CheckpointError(
                    f"{folder} could not be written: {type(error).__name__}: {error}. The other processes wait for "
                    "this one inside DeepSpeed, FSDP or a collective of the Trainer, so the run ends here. Earlier "
                    "checkpoints are intact: free space, or lower save_total_limit, and resume from the last one."
                ) from error
            state.best_model_checkpoint = best
            self._failed_in_a_row += 1
            self._report(folder, _agreed(error), control)
        else:
            if self._args.should_save:
                (folder / MARKER).unlink(missing_ok=True)
            self._failed_in_a_row = 0

    def write_manifest(self, folder: str | Path) -> None:
        """Lists a checkpoint's files after every rank has written its own. Only ranks that save write this list."""
        if not self._args.should_save:
            return
        folder = Path(folder)
        card = folder.parent / "README.md"
        if card.is_file() and (folder / "README.md").is_file():  # PEFT's, which is an empty template
            shutil.copy(card, folder)
        files = {str(p.relative_to(folder)): p.stat().st_size for p in files_of(folder) if p.name != MARKER}
        for name in files:
            _flush(folder / name)
        manifest = {"files": files, "parameters": self._shapes, "launch": self._launch}
        with whole_file(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))
            _flush(temporary)
        self._previous_bytes = sum(files.values())

    def _make_room(self, folder: Path) -> None:
        """Removes what a killed process left, and marks the folder as incomplete until all of it is written."""
        for path in list_checkpoints(folder.parent).values():
            if (path / MARKER).is_file() and why_incomplete(path):
                shutil.rmtree(path, ignore_errors=True)
        # Assumes the size of the previous one. All ranks can still agree on this failure, even under DeepSpeed and FSDP
        needed = self._previous_bytes
        if folder.parent.is_dir():
            disk = shutil.disk_usage(folder.parent)
            if disk.free < needed and disk.total > 0:  # object stores may report 0 for both
                raise OSError(
                    errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: the previous checkpoint has {needed:,} bytes"
                )
        shutil.rmtree(folder, ignore_errors=True)
        if not self._args.save_only_model:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER).write_text("This checkpoint is incomplete.\n")

    def _others_are_busy(self, error: Exception, tracks_best: bool) -> bool:
        """Whether the other ranks wait for this one in other code's collectives, so that only its exit ends them."""
        sharded = self._launch["backend"] != "no sharding"
        return (sharded or tracks_best) and self._launch["processes"] > 1 and not isinstance(error, CheckpointError)

    def _report(self, folder: Path, failure: str, control: TrainerControl) -> None:
        disk = shutil.disk_usage(next(parent for parent in folder.absolute().parents if parent.is_dir()))
        message = (
            f"{folder} could not be written: {failure}. {disk.free:,} of {disk.total:,} bytes are free there. The "
            "partial checkpoint was removed; earlier checkpoints, weights, optimizer and rollouts are intact."
        )
        if self._args.should_save:
            shutil.rmtree(folder, ignore_errors=True)
        allowed, failed = self._args.max_failed_saves, self._failed_in_a_row
        if control.should_training_stop:
            raise CheckpointError(
                f"{message} No later save is due: free space, then call `trainer.save_model()`, or pass it a folder on "
                "another disk."
            )
        if failed >= allowed:
            raise CheckpointError(
                f"{message} Training stops after {failed} failed saves in a row (max_failed_saves={allowed}). Free "
                "space, or lower save_total_limit, and resume from the last checkpoint."
            )
        logger.error(
            f"{message} Training continues and tries again at the next save; it stops after {allowed} failed saves in "
            f"a row (max_failed_saves), and this is number {failed}. Free space, or lower save_total_limit."
        )


def _flush(path: Path) -> None:
    """Flushes a file to disk, so that no crash leaves a manifest of files that were never stored."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def failing_together() -> Iterator[None]:
    """
    Waits for all ranks, and makes a write that fails on one rank fail on all.

    Every rank must enter, with no collective of other code in progress.

    Raises:
        CheckpointError: On every rank, with the failures of all.
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
    """Waits for all ranks, and raises on every rank if one failed."""
    failures = list(filter(None, gather_object([failure])))
    if failures:
        raise CheckpointError("; ".join(failures))


def _agreed(error: Exception) -> str:
    """Returns the failure that all ranks know, and first shares one that only this rank knows."""
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
