"""Skips updates whose loss or gradient is not finite, identically on every rank."""

import math
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import DistributedType
from packaging.version import Version
from torch import Tensor, nn

from .config import DurableGRPOConfig

logger = get_logger(__name__)

_DROPS_BAD_GRADIENTS = "0.19.8"


def poison_if_not_finite(loss: Tensor) -> Tensor:
    """
    Makes the gradient of a non-finite loss non-finite, too.

    Gradients are averaged over ranks, so the norm is then non-finite on every rank, and each can skip the update
    without another collective.

    Example:

    ```python
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> poison_if_not_finite(3 * x + torch.inf).backward()
    >>> x.grad
    tensor(nan)

    ```
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def poison_backward(accelerator: Accelerator, is_empty_update: Callable[[], bool]) -> None:
    """
    Applies [`poison_if_not_finite`] to every loss that an accelerator differentiates, regardless of its source.

    DeepSpeed updates inside the backward pass, so an update in which nothing counts is made non-finite there.
    """
    backward = accelerator.backward

    @wraps(backward)
    def poisoned(loss: Tensor, **kwargs: Any) -> None:
        loss = poison_if_not_finite(loss)
        is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        if is_deepspeed and accelerator.sync_gradients and is_empty_update():
            loss = loss * torch.nan
        backward(loss, **kwargs)

    accelerator.backward = poisoned


def check_deepspeed_version(args: DurableGRPOConfig) -> None:
    """
    Checks that DeepSpeed skips non-finite gradients in the precision and ZeRO stage of a run.

    Up to 0.19.7, ZeRO-3 checks for them only in float16, and ZeRO-1 and ZeRO-2 not in float32. DeepSpeed then applies
    the update and reports a finite norm, so the problem goes unnoticed until every weight is NaN.

    Upstream: https://github.com/deepspeedai/DeepSpeed/pull/8035 and its successors, complete in 0.19.8.

    Raises:
        ValueError: If it does not.
    """
    if args.deepspeed_plugin is None:
        return
    installed, stage = version("deepspeed"), args.deepspeed_plugin.zero_stage
    is_checked = args.fp16 or (args.bf16 and stage < 3)
    if Version(installed) < Version(_DROPS_BAD_GRADIENTS) and not is_checked:
        raise ValueError(
            f"deepspeed=={installed} with ZeRO-{stage} in {'bfloat16' if args.bf16 else 'float32'} applies updates "
            "with non-finite gradients, so one bad loss would silently ruin the weights. Install "
            f"deepspeed>={_DROPS_BAD_GRADIENTS}{', or use ZeRO-2 in bfloat16' if args.bf16 else ''}."
        )


class UpdateGuard:
    """
    Drops the gradient of an update whose norm is not finite, and stops training after too many in a row.

    Attributes:
        skipped (`int`): Updates skipped in the run.
        in_a_row (`int`): Updates skipped since the last good one.
        empty (`int`): Updates left out because no token counted.
    """

    def __init__(self, args: DurableGRPOConfig):
        self.skipped = self.in_a_row = self.empty = 0
        self._limit = args.max_skipped_updates
        self._folder = Path(args.output_dir) / "nonfinite"

    def skip_empty(self, model: nn.Module, deepspeed: Any) -> None:
        """Leaves out an update in which nothing counts. Momentum and weight decay would move the weights."""
        self.empty += 1
        if deepspeed is None:
            model.zero_grad(set_to_none=True)  # the optimizer skips parameters without a gradient

    def check(
        self,
        grad_norm: Tensor | float | None,
        model: nn.Module,
        accelerator: Accelerator,
        deepspeed: Any,
        step: int,
        micro_batches: Callable[[], list[dict[str, Any]]],
    ) -> None:
        """
        Checks an update just before it is applied.

        DeepSpeed applies its update inside the backward pass and skips non-finite gradients itself, on every rank. Its
        engine, `deepspeed`, is asked whether it did. Overflows during the search for a loss scale do not count.

        Raises:
            FloatingPointError: On every rank, at the last of `max_skipped_updates` in a row; each rank writes its
                micro-batches to `output_dir`. Also if DeepSpeed has applied such an update.
        """
        dropped_by_deepspeed = deepspeed is not None and accelerator.optimizer_step_was_skipped
        is_finite = grad_norm is None or math.isfinite(float(grad_norm))
        if is_finite and not dropped_by_deepspeed:
            self.in_a_row = 0
            return
        if _scales_loss(accelerator, deepspeed):
            return
        norm = math.nan if grad_norm is None else float(grad_norm)
        if deepspeed is None:
            model.zero_grad(set_to_none=True)  # the optimizer skips parameters without a gradient
        elif not dropped_by_deepspeed:
            raise FloatingPointError(
                f"DeepSpeed has applied an update with gradient norm {norm} at step {step}. The weights in memory are "
                "unusable; resume from the last checkpoint. With ZeRO, `bf16.check_grad_overflow` in DeepSpeed's "
                "configuration must not be false."
            )
        self.skipped += 1
        self.in_a_row += 1
        message = f"Step {step}: the update was skipped because its loss or gradient is not finite (norm {norm})"
        if self.in_a_row < self._limit:
            logger.warning(f"{message}, {self.in_a_row} in a row; training stops at {self._limit}.")
            return
        path = self._folder / f"step-{step}-rank-{accelerator.process_index}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"step": step, "grad_norm": norm, "micro_batches": micro_batches()}, path)
        raise FloatingPointError(
            f"{message}, {self._limit} in a row (max_skipped_updates={self._limit}). The weights are those of the last "
            f"good update. This rank's part of the last batch is in {path}: load it with `torch.load` and look for "
            "extreme ratios or rewards. Lower learning_rate or max_grad_norm, or set delta, and resume from an earlier "
            "checkpoint."
        )


def _scales_loss(accelerator: Accelerator, deepspeed: Any) -> bool:
    if deepspeed is not None:
        return getattr(deepspeed.optimizer, "loss_scale", 1) > 1
    scaler = accelerator.scaler
    return scaler is not None and scaler.get_scale() > 1
