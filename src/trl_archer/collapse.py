"""Warns when a policy collapses, or stops training."""

import math
from itertools import takewhile
from typing import Any

from accelerate.logging import get_logger
from transformers import TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer_utils import SaveStrategy

logger = get_logger(__name__)


class CollapseAlarm(TrainerCallback):
    """
    Warns when a policy collapses: its entropy vanishes, or its text repeats itself.

    The alarm reads only logged values, so it costs nothing, and its count survives a resume. If the rewards of every
    group were equal, all groups were dropped and the log has no entropy. It then counts as entropy 0, because a policy
    that always gives the same answer produces such logs, and the message says that there is no learning signal.

    Args:
        entropy_floor (`float`, *optional*, defaults to `0.05`):
            Alarm below this mean token entropy, in nats (`entropy`). `None` ignores entropy.
        repetition_ceiling (`float`, *optional*, defaults to `0.3`):
            Alarm above this share of repeated 20-grams (`completions/repetition`). `None` ignores repetition.
        patience (`int`, *optional*, defaults to `10`):
            Number of consecutive logs beyond a limit before the alarm is raised.
        action (`str`, *optional*, defaults to `"warn"`):
            `"warn"` warns once per collapse. `"stop"` ends training without another checkpoint, because a checkpoint of
            a collapsed policy could push a good one out of `save_total_limit`. `trainer.save_model()` still works.

    Raises:
        ValueError: If both limits are `None` or a value is out of range.

    Example:

    ```python
    trainer = ArcherGRPOTrainer(..., callbacks=[CollapseAlarm(entropy_floor=0.02, action="stop")])
    ```
    """

    def __init__(
        self,
        entropy_floor: float | None = 0.05,
        repetition_ceiling: float | None = 0.3,
        patience: int = 10,
        action: str = "warn",
    ):
        if entropy_floor is None and repetition_ceiling is None:
            raise ValueError("entropy_floor=None and repetition_ceiling=None leave nothing to watch. Set one of them.")
        if entropy_floor is not None and not entropy_floor > 0:
            raise ValueError(f"entropy_floor={entropy_floor} is not positive. Use nats, such as 0.05, or None.")
        if repetition_ceiling is not None and not 0 <= repetition_ceiling < 1:
            raise ValueError(f"repetition_ceiling={repetition_ceiling} is outside [0, 1). Use a share such as 0.3.")
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"patience={patience!r} is not an integer >= 1. The default is 10.")
        if action not in ("warn", "stop"):
            raise ValueError(f"action={action!r} is not one of 'warn' and 'stop'.")
        self.entropy_floor = entropy_floor
        self.repetition_ceiling = repetition_ceiling
        self.patience = patience
        self.action = action
        self.has_stopped = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.has_stopped = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        last = state.log_history[-1] if state.log_history else {}  # `logs` may lack missing values
        for name, side, limit in (
            ("entropy", "below", self.entropy_floor),
            ("completions/repetition", "above", self.repetition_ceiling),
        ):
            if limit is None or name not in last:
                continue
            count = self._logs_beyond(state.log_history, name, limit, -1 if side == "below" else 1)
            if count < self.patience:
                continue
            if self.action == "stop":
                self.has_stopped = control.should_training_stop = True
                _drop_save(args, control)
            if count == self.patience:
                stops = " Training stops." if self.action == "stop" else ""
                if _is_there(last[name]):
                    text = f"Collapse: {name} has been {side} {limit} for {count} logs in a row; it is {last[name]:.3g}"
                    advice = "Resume from an earlier checkpoint with a lower learning_rate or a higher beta."
                else:
                    text = f"No learning signal: {name} has been {side} {limit} or missing for {count} logs in a row, "
                    text += "and all groups have equal rewards"
                    advice = (
                        "If this began late, the policy may have collapsed. If it was so from the start, the problems "
                        "are too hard or too easy, or the reward does not read the answers: look at some completions."
                    )
                logger.warning(f"{text} at step {state.global_step}.{stops} {advice}")
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.has_stopped:  # the Trainer still ends the epoch after its last step
            _drop_save(args, control)
        return control

    @staticmethod
    def _logs_beyond(history: list[dict[str, Any]], name: str, limit: float, sign: int) -> int:
        """Counts the consecutive values beyond a limit at the end of the log; a missing value counts as 0."""
        logged = (entry[name] for entry in reversed(history) if name in entry)
        values = (value if _is_there(value) else 0.0 for value in logged)
        return sum(1 for _ in takewhile(lambda value: sign * (value - limit) > 0, values))


def _is_there(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _drop_save(args: TrainingArguments, control: TrainerControl) -> None:
    """Cancels a checkpoint that is due, and the evaluation that would trigger one."""
    control.should_save = False
    if args.save_strategy == SaveStrategy.BEST:
        control.should_evaluate = False
