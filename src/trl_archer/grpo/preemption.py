"""Saves a checkpoint on SIGTERM, after a complete optimizer step, the same one on every rank."""

import signal
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

logger = get_logger(__name__)


class SaveOnSigterm(TrainerCallback):
    """
    Saves and ends training after the optimizer step in which SIGTERM reaches any rank.

    Replaces transformers' callback for `enable_jit_checkpoint`, which saves before the optimizer's step. By then
    DeepSpeed has already applied the update, and a resumed run would apply it twice. That callback also saves on each
    rank when the signal reaches it, possibly in different steps. Not reported upstream yet; the callback was added in
    https://github.com/huggingface/transformers/pull/41723 (5.23 has it unchanged).
    """

    def __init__(self) -> None:
        self.has_stopped = False
        self._is_asked = False
        self._handler: Any = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.has_stopped = self._is_asked = False
        self._handler = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, args, state, control, **kwargs):
        if any(gather_object([self._is_asked])):
            logger.warning(f"SIGTERM: saving checkpoint-{state.global_step}, then training ends.")
            self.has_stopped = control.should_save = control.should_training_stop = True
            control.should_evaluate = False  # it would use up the remaining time
        return control

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGTERM, self._handler or signal.SIG_DFL)  # `None` if it was not set from Python

    def _ask(self, signum: int, frame: Any) -> None:
        self._is_asked = True


def save_on_sigterm(trainer: Trainer) -> None:
    """Makes a trainer save on SIGTERM if `enable_jit_checkpoint` is set."""
    if not trainer.args.enable_jit_checkpoint:
        return
    transformers_own = trainer.pop_callback(JITCheckpointCallback)
    signal.signal(signal.SIGTERM, transformers_own.jit_manager._original_sigterm_handler or signal.SIG_DFL)
    trainer.add_callback(SaveOnSigterm())
