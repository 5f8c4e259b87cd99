"""A checkpoint on SIGTERM: of a whole optimizer step, and of the same one on all ranks."""

import signal
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

logger = get_logger(__name__)


class SaveOnSigterm(TrainerCallback):
    """
    Saves and ends training after the optimizer step in which SIGTERM reaches any of the ranks.

    Takes the place of transformers' own callback for `enable_jit_checkpoint`. That one saves before the optimizer's
    step, when DeepSpeed has made the update already, so that a resumed run would make it twice; and each rank saves
    when the signal reaches it, which may be in another step than on the others.
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
            control.should_evaluate = False  # would take of the time that is left
        return control

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGTERM, self._handler or signal.SIG_DFL)  # none if it was not set from Python

    def _ask(self, signum: int, frame: Any) -> None:
        self._is_asked = True


def save_on_sigterm(trainer: Trainer) -> None:
    """
    Has a trainer save on SIGTERM, if it is configured so (`enable_jit_checkpoint`).

    Args:
        trainer (`Trainer`): Trainer, before it trains.
    """
    if not trainer.args.enable_jit_checkpoint:
        return
    transformers_own = trainer.pop_callback(JITCheckpointCallback)
    signal.signal(signal.SIGTERM, transformers_own.jit_manager._original_sigterm_handler or signal.SIG_DFL)
    trainer.add_callback(SaveOnSigterm())
