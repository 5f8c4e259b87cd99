"""What goes wrong in runs of days, handled on all ranks alike: numbers, reward functions, a vLLM server, collapse."""

import math
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list, gather, gather_object
from packaging.version import Version
from torch import Tensor, nn
from transformers import TrainerCallback

from .vllm_server import server_info

logger = get_logger(__name__)


# Updates

_DROPS_BAD_GRADIENTS = "0.19.8"


def poison_if_not_finite(loss: Tensor) -> Tensor:
    """
    Gives a loss that is not finite a gradient that is not either.

    Averaged over ranks the gradient then is not finite anywhere, so that every rank sees at its norm, without a
    collective of its own, that the update must not be made.

    Args:
        loss (`Tensor`): Scalar loss of a micro-batch.

    Returns:
        `Tensor`: The same value, and the same gradient where it is finite.

    Example:

    ```python
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> poison_if_not_finite(3 * x + torch.inf).backward()
    >>> x.grad
    tensor(nan)

    ```
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def check_deepspeed_version(trainer: Any) -> None:
    """
    Checks that DeepSpeed drops gradients that are not finite, in the precision and at the ZeRO stage of a run.

    Up to 0.19.7, ZeRO-3 looks for them in float16 only and ZeRO-1 and ZeRO-2 not in float32. They make the update and
    report a norm that is finite, so that nothing would notice before every weight is NaN.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.

    Raises:
        ValueError: If it does not.
    """
    if not trainer.is_deepspeed_enabled:
        return
    installed, args = version("deepspeed"), trainer.args
    stage = trainer.accelerator.state.deepspeed_plugin.zero_stage
    is_looked_for = args.fp16 or (args.bf16 and stage < 3)
    if Version(installed) < Version(_DROPS_BAD_GRADIENTS) and not is_looked_for:
        raise ValueError(
            f"deepspeed=={installed} with ZeRO-{stage} in {'bfloat16' if args.bf16 else 'float32'} makes updates with "
            "gradients that are not finite: one bad loss would ruin the weights, unnoticed. Install "
            f"deepspeed>={_DROPS_BAD_GRADIENTS}{', or use ZeRO-2 in bfloat16' if args.bf16 else ''}."
        )


def guard_update(trainer: Any, model: nn.Module, grad_norm: Tensor | float | None) -> None:
    """
    Drops the gradient of an update if its norm is not finite: parameters without one are left alone by the optimizer.

    DeepSpeed makes its update inside the backward pass and drops such gradients itself, on all ranks; it is asked
    whether it did. Overflows on the way to a fitting loss scale of float16 are its business and do not count.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        model (`nn.Module`): Model as wrapped for training.
        grad_norm (`Tensor` or `float`, *optional*): Norm of the gradient over all ranks.

    Raises:
        FloatingPointError: At the last of `max_skipped_updates` in a row, on all ranks; each writes its rows of the
            batch to `output_dir`. Also if DeepSpeed has made such an update.
    """
    dropped_by_deepspeed = trainer.is_deepspeed_enabled and trainer.accelerator.optimizer_step_was_skipped
    is_finite = grad_norm is None or math.isfinite(float(grad_norm))
    if is_finite and not dropped_by_deepspeed:
        trainer._skipped_in_a_row = 0
    elif not _scales_loss(trainer):
        if trainer.is_deepspeed_enabled and not dropped_by_deepspeed:
            raise FloatingPointError(
                f"DeepSpeed has made an update with gradient norm {float(grad_norm or math.nan)} at step "
                f"{trainer.state.global_step + 1}. The weights in memory are of no use; resume from the last "
                "checkpoint. With ZeRO, `bf16.check_grad_overflow` of its configuration must not be false."
            )
        trainer._skipped_updates += 1
        trainer._skipped_in_a_row += 1
        if not trainer.is_deepspeed_enabled:  # whose engine has dropped it, and takes no such argument
            model.zero_grad(set_to_none=True)
        _report_skipped(trainer, math.nan if grad_norm is None else float(grad_norm))
    trainer._metrics["train"]["archer/skipped_updates"] = [float(trainer._skipped_updates)]


def _scales_loss(trainer: Any) -> bool:
    if trainer.is_deepspeed_enabled:
        return getattr(trainer.deepspeed.optimizer, "loss_scale", 1) > 1
    scaler = trainer.accelerator.scaler
    return scaler is not None and scaler.get_scale() > 1


def _report_skipped(trainer: Any, grad_norm: float) -> None:
    step, limit = trainer.state.global_step + 1, trainer.args.max_skipped_updates
    skipped = f"Step {step}: loss or gradient is not finite (norm {grad_norm}), the update was skipped"
    if trainer._skipped_in_a_row < limit:
        logger.warning(f"{skipped}, {trainer._skipped_in_a_row} in a row; training stops at {limit}.")
        return
    path = Path(trainer.args.output_dir) / "nonfinite" / f"step-{step}-rank-{trainer.accelerator.process_index}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"step": step, "grad_norm": grad_norm, "micro_batches": _last_micro_batches(trainer)}, path)
    raise FloatingPointError(
        f"{skipped}, {limit} in a row (max_skipped_updates={limit}). The weights are those of the last good update. "
        f"This rank's rows of the last batch are in {path}: load them with `torch.load` and look for ratios or rewards "
        "out of bounds. Lower learning_rate or max_grad_norm, or set delta, and resume from a checkpoint before."
    )


def _last_micro_batches(trainer: Any) -> list[dict[str, Any]]:
    """Micro-batches of the optimizer step that ends now; of several generation batches the last one."""
    buffered = trainer._buffered_inputs
    count = min(trainer.current_gradient_accumulation_steps, len(buffered))
    return [buffered[index % len(buffered)] for index in range(trainer._step - count, trainer._step)]


# Rewards


def raise_on_all_ranks(trainer: Any, calculate: Callable[[], Tensor], rows: int) -> Tensor:
    """
    Calculates rewards; where that fails on one rank it fails on all of them, instead of leaving the others to wait.

    No collective is added: a rank that failed takes part in the one that gathers rewards, with infinity for its own,
    which no sound reward is.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        calculate (`Callable`): TRL's calculation, which ends by gathering.
        rows (`int`): Completions of this rank.

    Returns:
        `Tensor` of shape `(N, F)`: Rewards of all ranks.

    Raises:
        RuntimeError: On all ranks, with rank and traceback of those that failed. In one process the error itself.
    """
    if trainer.accelerator.num_processes == 1:
        return calculate()
    failure = None
    try:
        rewards = calculate()
    except Exception as error:
        failure = error
        rewards = gather(torch.full((rows, len(trainer.reward_funcs)), torch.inf, device=trainer.accelerator.device))
    if not rewards.isinf().any():
        return rewards
    text = [] if failure is None else ["".join(traceback.format_exception(failure))]
    texts = gather_object([f"Rank {trainer.accelerator.process_index}:\n{part}" for part in text])
    if texts:
        raise RuntimeError(
            f"Rewards failed on {len(texts)} of {trainer.accelerator.num_processes} ranks, so training stops on all of "
            "them.\n" + "\n".join(texts)
        ) from failure
    return rewards


# Generation


class ServerWatch:
    """
    The main process's view of a vLLM server: whether it answers, and whether it is still the one that has our weights.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with `vllm_mode="server"`. A call of its client that is cut off returns
            no completions from now on, which TRL broadcasts as any others, so that no rank waits for ever.
    """

    _NOTHING: dict[str, list] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "logprob_token_ids": []}

    def __init__(self, trainer: Any):
        self.client = trainer.vllm_generation.vllm_client
        self.device = trainer.accelerator.device
        self.failure: str | None = None
        self.instance = self._instance_id()
        generate = self.client.generate

        def generate_or_nothing(*args: Any, **kwargs: Any) -> dict[str, Any]:
            self.failure = None
            try:
                output = generate(*args, **kwargs)
                # The client repeats a request that was cut off, which a server that was started again would answer
                # from the weights on its disk
                if self._instance_id() == self.instance:
                    return output
                self.failure = "it was started again meanwhile"
            except OSError as error:  # what requests raises
                self.failure = f"{type(error).__name__}: {error}"
            return self._NOTHING

        self.client.generate = generate_or_nothing

    def look(self) -> str:
        """Returns `"up"`, `"restarted"` for a server that needs the weights anew, or what is wrong."""
        try:
            urlopen(f"{self.client.base_url}/health", timeout=10).close()
            instance = self._instance_id()
            # A server that does not tell its id may have been another since it last failed
            if instance == self.instance and (instance is not None or self.failure is None):
                return "up"
            self.client.close_communicator()
            self.client.init_communicator(device=self.device)
            self.instance, self.failure = instance, None
            return "restarted"
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            return self.failure

    def _instance_id(self) -> str | None:
        return (server_info(self.client.base_url) or {}).get("instance_id")


def generate_with_retries(trainer: Any, generate: Callable[[], tuple[list, Any]]) -> tuple[list, Any]:
    """
    Generates on a vLLM server that may go away and come back, on all ranks together.

    A server that was restarted has lost the policy: it is sent the weights again, by all ranks, before it generates.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        generate (`Callable`): TRL's generation, which sends the weights if `_last_loaded_step` is not the current step.

    Returns:
        `tuple`: What it returned.

    Raises:
        ConnectionError: On all ranks, if the server does not answer after `max_generation_retries`.
    """
    retries = trainer.args.max_generation_retries
    is_main = trainer.accelerator.is_main_process
    for attempt in range(retries + 1):
        (state,) = broadcast_object_list([trainer._server.look() if is_main else None])
        if state == "restarted":
            logger.warning("The vLLM server is a new one; it is sent the weights.")
            trainer._last_loaded_step = -1
        if state in ("up", "restarted"):
            output = generate()
            # Not by the completions, of which a rank may have none to make
            (failure,) = broadcast_object_list([trainer._server.failure if is_main else None])
            if failure is None:
                return output
            state = f"cut off, {failure}"
        if attempt < retries:
            delay = min(10 * 2**attempt, 300)
            logger.warning(f"No completions from the vLLM server ({state}). Attempt {attempt + 2} in {delay} seconds.")
            time.sleep(delay)
    raise ConnectionError(
        f"The vLLM server gave no completions in {retries + 1} attempts (max_generation_retries={retries}): {state}. "
        "Start it again and resume from the last checkpoint."
    )


# Collapse


class CollapseAlarm(TrainerCallback):
    """
    Raises the alarm when a policy collapses: hardly any entropy left, or text that repeats itself.

    It reads what is logged and nothing else, so it costs nothing, and continues after a resume where it was.

    Args:
        entropy_floor (`float`, *optional*, defaults to `0.05`):
            Alarm below this mean token entropy, in nats (`entropy`). `None` to leave entropy alone.
        repetition_ceiling (`float`, *optional*, defaults to `0.3`):
            Alarm above this share of repeated 20-grams (`completions/repetition`). `None` to leave it alone.
        patience (`int`, *optional*, defaults to `10`):
            How many logs in a row have to be beyond the limit.
        action (`str`, *optional*, defaults to `"warn"`):
            `"warn"`, once as long as it lasts, or `"stop"`, which ends training without another checkpoint, since one
            of a collapsed policy might push a good one out of `save_total_limit`.

    Raises:
        ValueError: If both limits are `None` or a value is out of its range.

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
            raise ValueError(f"patience={patience!r} is not a whole number from 1 up. The default is 10.")
        if action not in ("warn", "stop"):
            raise ValueError(f"action={action!r} is not one of 'warn' and 'stop'.")
        self.entropy_floor = entropy_floor
        self.repetition_ceiling = repetition_ceiling
        self.patience = patience
        self.action = action

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, side, limit in (
            ("entropy", "below", self.entropy_floor),
            ("completions/repetition", "above", self.repetition_ceiling),
        ):
            if limit is None or (logs or {}).get(name) is None:
                continue
            count = self._logs_beyond(state.log_history, name, limit, -1 if side == "below" else 1)
            if count < self.patience:
                continue
            control.should_training_stop |= self.action == "stop"
            if count == self.patience:
                logger.warning(
                    f"Collapse: {name} has been {side} {limit} for {count} logs in a row; it is {logs[name]:.3g} at "
                    f"step {state.global_step}.{' Training stops.' if self.action == 'stop' else ''} Resume from an "
                    "earlier checkpoint with a lower learning_rate or a higher beta."
                )
        return control

    @staticmethod
    def _logs_beyond(history: list[dict[str, Any]], name: str, limit: float, sign: int) -> int:
        """Length of the run of values beyond a limit at the end of what was logged."""
        values = (entry[name] for entry in reversed(history) if entry.get(name) is not None)
        return sum(1 for _ in takewhile(lambda value: sign * (value - limit) > 0, values))
