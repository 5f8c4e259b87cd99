"""The method of a run: its schedule, and the statistics of the last optimizer step."""

import dataclasses
from typing import Any

from accelerate.logging import get_logger
from torch import Tensor

from ..objective import ArcherTokenLoss, Method, Surrogate, role_range
from .config import MethodConfig
from .ranges import ClipSchedule
from .weights import ClipCov, Opefo, uniform_by_token

logger = get_logger(__name__)

LAMBDA = "entropy_balance"  # of the optimizer step, in its micro-batches


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
        return self.weights is not None or self._schedule.name == "oscillate"

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
            self.weights.exact = inputs.get(LAMBDA)
        if isinstance(self.weights, ClipCov):
            seed = self._seed * 1_000_003 + step
            self.weights.uniform = uniform_by_token(inputs["completion_ids"], inputs["completion_mask"], seed)
        return Method(clip_range=clip_range, surrogate=self._surrogate, token_weights=self.weights)

    def measure(self, pieces: ArcherTokenLoss) -> Tensor:
        """Returns the statistics of a micro-batch, `(K,)`, for [`update`]."""
        if self.weights is None:
            return pieces.loss.new_zeros(0)
        surrogate = Surrogate(pieces.loss, pieces.clipped_low, pieces.clipped_high, pieces.capped)
        return self.weights.measure(pieces.tokens, surrogate).detach().float()

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


def _progress(step: int, steps: int) -> float:
    return step / steps if steps else 0.0
