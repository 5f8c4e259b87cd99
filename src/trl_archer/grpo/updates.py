"""What goes wrong in runs of days, handled on all ranks alike: numbers and reward functions."""

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from packaging.version import Version
from torch import Tensor, nn

logger = get_logger(__name__)


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


def check_deepspeed_version(args: Any) -> None:
    """
    Checks that DeepSpeed drops gradients that are not finite, in the precision and at the ZeRO stage of a run.

    Up to 0.19.7, ZeRO-3 looks for them in float16 only and ZeRO-1 and ZeRO-2 not in float32. They make the update and
    report a norm that is finite, so that nothing would notice before every weight is NaN.

    Args:
        args ([`ArcherGRPOConfig`]): Configuration.

    Raises:
        ValueError: If it does not.
    """
    if args.deepspeed_plugin is None:
        return
    installed, stage = version("deepspeed"), args.deepspeed_plugin.zero_stage
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
