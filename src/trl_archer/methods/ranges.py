"""Clip ranges that depend on a token's probability, and how they change over a run.

Chen et al. 2026, "Flexible Entropy Control in RLVR with a Gradient-Preserving Perspective" (arXiv 2602.09782).
"""

from dataclasses import dataclass, field

from torch import Tensor

from ..objective import Constraints, Tokens, role_range

SCHEDULES = ("constant", "increase_decrease", "decrease_increase_decrease", "oscillate")
_FLOOR = 0.2  # of the first step's entropy, at which "oscillate" starts to raise the entropy


@dataclass(frozen=True, kw_only=True)
class ProbabilityRange:
    r"""
    Widens the clip range of each token by a linear function of its probability.

    $$ \epsilon^{high}_{i,t} = \epsilon^{high} + m^{high} (o^{high} + s^{high} \pi_{i,t}) $$

    and likewise for the lower end, with $\epsilon^{high}$ of the token's role. At equal roles with $\epsilon = 0.2$,
    the defaults are the paper's bounds, $0.5 - 0.25 \pi$ above and $0.3 - 0.13 \pi$ below. A wide upper end for
    unlikely tokens raises the entropy. A wide lower end lowers it.

    Attributes:
        slope_low (`float`): Slope of the lower end.
        slope_high (`float`): Slope of the upper end.
        offset_low (`float`): Offset of the lower end at probability 0.
        offset_high (`float`): Offset of the upper end at probability 0.
        share_low (`float`): Share `m` of the lower term that acts; see [`ClipSchedule`].
        share_high (`float`): Share `m` of the upper term that acts.
    """

    slope_low: float = -0.13
    slope_high: float = -0.25
    offset_low: float = 0.1
    offset_high: float = 0.3
    share_low: float = 1.0
    share_high: float = 1.0

    def __call__(self, tokens: Tokens, constraints: Constraints) -> tuple[Tensor, Tensor]:
        low, high = role_range(tokens, constraints)
        probability = tokens.logps.detach().exp()
        return (
            low + self.share_low * (self.offset_low + self.slope_low * probability),
            high + self.share_high * (self.offset_high + self.slope_high * probability),
        )


@dataclass
class ClipSchedule:
    """
    Shares of the lower and upper term of a [`ProbabilityRange`] over a run.

    - `"constant"`: both act in full.
    - `"increase_decrease"`: the upper share falls from 1 to 0 in the first half, then the lower one does.
    - `"decrease_increase_decrease"`: the upper share rises from 0 to 1 in the first half and stays. In the second half,
      the lower share falls from 1 to 0.
    - `"oscillate"`: only the upper end is widened while the entropy is to rise, only the lower end while it is to fall.
      The entropy is to rise once it is down to a fifth of the first step's, until it exceeds a level that falls from
      the first step's entropy to a fifth of it over the run.

    Attributes:
        name (`str`): One of the four.
        state (`dict[str, float]`): Entropy of the first step in nats, and whether the entropy is to rise (1 or 0).
    """

    name: str = "constant"
    state: dict[str, float] = field(default_factory=dict)

    def shares(self, progress: float) -> tuple[float, float]:
        """
        Returns the lower and the upper share.

        Args:
            progress (`float`): Share of the run's optimizer steps that are done, from 0 to 1.
        """
        falling = 1 - 2 * progress if progress < 0.5 else 2 - 2 * progress  # from 1 to 0 in each half
        match self.name, progress < 0.5:
            case "increase_decrease", True:
                return 0.0, falling
            case "increase_decrease", False:
                return falling, 0.0
            case "decrease_increase_decrease", True:
                return 0.0, 1 - falling
            case "decrease_increase_decrease", False:
                return falling, 1.0
            case "oscillate", _:
                return (0.0, 1.0) if self.state.get("rises") else (1.0, 0.0)
        return 1.0, 1.0

    def update(self, entropy: float, progress: float) -> None:
        """
        Reads the mean token entropy of an optimizer step, over all ranks.

        Args:
            entropy (`float`): In nats.
            progress (`float`): Share of the run's optimizer steps that were done before this one.
        """
        if self.name != "oscillate":
            return
        first = self.state.setdefault("first_entropy", entropy)
        low = _FLOOR * first
        high = low + (first - low) * (1 - progress)
        if entropy <= low:
            self.state["rises"] = 1.0
        elif entropy > high:
            self.state["rises"] = 0.0
