"""The method of a run: its schedule, and the statistics of the last optimizer step."""

import dataclasses
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from torch import Tensor

from ..grpo.padding import loss_mask
from ..objective import ArcherTokenLoss, Method, role_range
from .config import MethodConfig
from .flow import entropy_balance, raised_and_lowered
from .ranges import ClipSchedule
from .weights import ClipCov, Opefo, uniform_by_token

logger = get_logger(__name__)

_LAMBDA = "entropy_balance"  # of the optimizer step, in its micro-batches


class RunningMethod:
    """
    Makes the [`Method`] of each micro-batch, and learns from each optimizer step.

    Args:
        args ([`MethodConfig`]): Selects the method.
    """

    def __init__(self, args: MethodConfig):
        self._seed = args.seed
        self._surrogate = args.make_surrogate()
        self._range = args.make_probability_range()
        self._schedule = ClipSchedule(args.clip_schedule)
        self.weights = args.make_token_weights()
        self.needs_old_entropies = args.token_weights == "opefo" and not args.opefo_off_policy

    @property
    def learns(self) -> bool:
        """Whether the method uses a statistic of optimizer steps."""
        return self._schedule.name == "oscillate" or (self.weights is not None and self.weights.learns)

    def balance(self, micro_batches: list[dict[str, Any]], per_step: int, accelerator: Accelerator) -> None:
        """
        Adds OPEFO's lambda to scored micro-batches, in place of the scores of the old policy.

        Args:
            micro_batches (`list[dict]`): Micro-batches of a rollout, with `old_per_token_logps` and `old_entropies`.
            per_step (`int`): Consecutive micro-batches of the same optimizer step, which share a lambda.
            accelerator (`Accelerator`): Sums over ranks.
        """
        sums = torch.stack([_raised_and_lowered(batch) for batch in micro_batches])
        sums = accelerator.reduce(sums, reduction="sum").double()
        for start in range(0, len(micro_batches), per_step):
            step = slice(start, start + per_step)
            balance = entropy_balance(*sums[step].sum(dim=0).tolist())
            for batch in micro_batches[step]:
                batch[_LAMBDA] = balance

    def of(self, inputs: dict[str, Any], step: int, steps: int) -> Method:
        """
        Returns the method of a micro-batch.

        Args:
            inputs (`dict`): The micro-batch.
            step (`int`): Optimizer steps that are done.
            steps (`int`): Optimizer steps of the run; 0 outside of training.
        """
        clip_range = role_range
        if self._range is not None:
            low, high = self._schedule.shares(_progress(step, steps))
            clip_range = dataclasses.replace(self._range, share_low=low, share_high=high)
        if isinstance(self.weights, Opefo):
            self.weights.exact = inputs.get(_LAMBDA)
        if isinstance(self.weights, ClipCov):
            seed = self._seed * 1_000_003 + step
            self.weights.uniform = uniform_by_token(inputs["completion_ids"], inputs["completion_mask"], seed)
        return Method(clip_range=clip_range, surrogate=self._surrogate, token_weights=self.weights)

    def measure(self, pieces: ArcherTokenLoss) -> Tensor:
        """Returns the statistics of a micro-batch, `(K,)`, for [`update`]."""
        if self.weights is None:
            return pieces.loss.new_zeros(0)
        return self.weights.measure(pieces.tokens, pieces.clipped_low | pieces.clipped_high).float()

    def update(self, table: Tensor, entropy: float, step: int, steps: int) -> None:
        """
        Learns from an optimizer step.

        Args:
            table (`Tensor` of shape `(N, K)`): Results of [`measure`], of each micro-batch and rank. Finite.
            entropy (`float`): Mean token entropy in nats, over all ranks.
            step (`int`): Optimizer steps that were done before this one.
            steps (`int`): Optimizer steps of the run.
        """
        if self.weights is not None:
            self.weights.update(table.double())
        self._schedule.update(entropy, _progress(step, steps))

    def metrics(self) -> dict[str, float]:
        """Returns what the method did in the last optimizer step, for the log."""
        state = {} if self.weights is None else self.weights.state
        names = {"lambda": "opefo/lambda", "largest": "steer/largest_change", "rate": "clip_cov/rate"}
        metrics = {names[name]: value for name, value in state.items() if name in names}
        if self._schedule.name == "oscillate" and "rises" in self._schedule.state:
            metrics["clip_schedule/rises"] = self._schedule.state["rises"]
        return metrics

    def state(self, steps: int) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        weights = {} if self.weights is None else dict(self.weights.state)
        return {"weights": weights, "schedule": dict(self._schedule.state), "steps": steps}

    def restore(self, state: dict[str, Any], steps: int) -> None:
        """Restores what [`state`] returned."""
        if self.weights is not None:
            self.weights.state = dict(state["weights"])
        self._schedule.state = dict(state["schedule"])
        if self._schedule.name != "constant" and state["steps"] != steps:
            logger.warning(
                f"The run now has {steps} optimizer steps instead of {state['steps']}: clip_schedule="
                f"{self._schedule.name!r} continues on the new schedule."
            )


def _raised_and_lowered(batch: dict[str, Any]) -> Tensor:
    mask, advantages = loss_mask(batch).bool(), batch["advantages"]
    logps, entropies = (
        torch.where(mask, batch.pop(name), 0.0).float() for name in ("old_per_token_logps", "old_entropies")
    )
    return raised_and_lowered(logps, entropies, advantages.view(len(advantages), -1))


def _progress(step: int, steps: int) -> float:
    return step / steps if steps else 0.0
