"""Configuration of the methods of other papers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..grpo.config import DurableGRPOConfig, help_from_docstring
from ..objective import Surrogate, clip
from .ranges import SCHEDULES, ProbabilityRange
from .surrogates import aspo, cispo, dppo
from .weights import ClipCov, Opefo, Probability, Steer, TokenWeights

_CHOICES = {
    "surrogate": ("clip", "aspo", "cispo", "dppo"),
    "clip_range": ("roles", "probability"),
    "token_weights": (None, "opefo", "probability", "steer", "clip_cov"),
    "clip_schedule": SCHEDULES,
}
_INTERVALS: dict[str, tuple[Callable[[float], bool], str]] = {
    "aspo_cap": (lambda x: x >= 1, "[1, ∞)"),
    "probability_alpha": (lambda x: 0 <= x <= 1, "[0, 1]"),
    "steer_min_weight": (lambda x: 0 < x <= 1, "(0, 1]"),
    "clip_cov_ratio": (lambda x: 0 <= x < 1, "[0, 1)"),
}

# Field -> the choice that reads it
_READ_BY = {
    "aspo_cap": ("surrogate", "aspo"),
    "clip_schedule": ("clip_range", "probability"),
    "clip_slope_low": ("clip_range", "probability"),
    "clip_slope_high": ("clip_range", "probability"),
    "clip_offset_low": ("clip_range", "probability"),
    "clip_offset_high": ("clip_range", "probability"),
    "opefo_off_policy": ("token_weights", "opefo"),
    "probability_alpha": ("token_weights", "probability"),
    "steer_min_weight": ("token_weights", "steer"),
    "clip_cov_ratio": ("token_weights", "clip_cov"),
    "clip_cov_low": ("token_weights", "clip_cov"),
    "clip_cov_high": ("token_weights", "clip_cov"),
}


@help_from_docstring
@dataclass
class MethodConfig(DurableGRPOConfig):
    r"""
    The part of [`ArcherGRPOConfig`] that selects methods of other papers. The defaults are Archer.

    Parameters:
        > Parameters that select a method

        surrogate (`str`, *optional*, defaults to `"clip"`):
            How a token's ratio enters the loss: `"clip"` (PPO, Archer), `"aspo"` (Archer2.0, arXiv 2510.06062),
            `"cispo"` (arXiv 2506.13585) or `"dppo"` (arXiv 2602.04879). For `"cispo"`, only the upper clip distances
            act, and `1 + epsilon_high` is the cap. For `"dppo"`, clip distances are differences of probability; the
            paper's are 0.2.
        clip_range (`str`, *optional*, defaults to `"roles"`):
            `"roles"` (Archer) or `"probability"`, which adds a linear function of the token's probability to the clip
            distances of its role (flexible entropy control, arXiv 2602.09782). For the paper's method, give both roles
            `epsilon=0.2`.
        token_weights (`str`, *optional*):
            Weight of each token's surrogate: `None`, `"opefo"` (arXiv 2605.11491), `"probability"` (AR, arXiv
            2505.12929), `"steer"` (arXiv 2510.10150) or `"clip_cov"` (arXiv 2505.22617).

        > Parameters of the methods

        aspo_cap (`float`, *optional*, defaults to `3.0`):
            Largest weight of a token with `surrogate="aspo"`, at least 1. The authors' code has 3.0.
        clip_schedule (`str`, *optional*, defaults to `"constant"`):
            How `clip_range="probability"` changes over a run: `"constant"`, `"increase_decrease"`,
            `"decrease_increase_decrease"` or `"oscillate"`. The schedule spans the run's optimizer steps; a resumed run
            with other `max_steps` has another schedule.
        clip_slope_low (`float`, *optional*, defaults to `-0.13`):
            Slope of the lower clip distance in the token's probability.
        clip_slope_high (`float`, *optional*, defaults to `-0.25`):
            Slope of the upper clip distance in the token's probability.
        clip_offset_low (`float`, *optional*, defaults to `0.1`):
            Added to the lower clip distance at probability 0. The paper's 0.3 is 0.1 above its `epsilon=0.2`.
        clip_offset_high (`float`, *optional*, defaults to `0.3`):
            Added to the upper clip distance at probability 0. The paper's 0.5 is 0.3 above its `epsilon=0.2`.
        opefo_off_policy (`bool`, *optional*, defaults to `False`):
            Whether to allow `token_weights="opefo"` in a run that is not strictly on-policy, which its paper does not
            cover. The lambda is then that of the optimizer step before.
        probability_alpha (`float`, *optional*, defaults to `0.2`):
            Strength of `token_weights="probability"`, in [0, 1]. The paper has 0.2 without its second method, Lopti.
        steer_min_weight (`float`, *optional*, defaults to `0.8`):
            Smallest weight with `token_weights="steer"`, in (0, 1]. The authors' scripts have 0.8.
        clip_cov_ratio (`float`, *optional*, defaults to `0.0002`):
            Expected share of all tokens that `token_weights="clip_cov"` drops, in [0, 1). The paper has 0.0002.
        clip_cov_low (`float`, *optional*, defaults to `1.0`):
            Covariance above which `token_weights="clip_cov"` may drop a token.
        clip_cov_high (`float`, *optional*, defaults to `5.0`):
            Covariance below which `token_weights="clip_cov"` may drop a token.
    """

    surrogate: str = "clip"
    clip_range: str = "roles"
    token_weights: str | None = None
    aspo_cap: float = 3.0
    clip_schedule: str = "constant"
    clip_slope_low: float = -0.13
    clip_slope_high: float = -0.25
    clip_offset_low: float = 0.1
    clip_offset_high: float = 0.3
    opefo_off_policy: bool = False
    probability_alpha: float = 0.2
    steer_min_weight: float = 0.8
    clip_cov_ratio: float = 0.0002
    clip_cov_low: float = 1.0
    clip_cov_high: float = 5.0

    def __post_init__(self):
        super().__post_init__()
        if self.token_weights != "opefo" or self.opefo_off_policy:
            return
        if not self.strictly_on_policy:
            raise ValueError(
                "token_weights='opefo' balances the entropy of an on-policy step, but several updates share a rollout: "
                f"steps_per_generation={self.steps_per_generation}, gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}, num_iterations={self.num_iterations}. Set steps_per_generation "
                "to gradient_accumulation_steps and num_iterations=1, or opefo_off_policy=True."
            )
        if self.steps_per_generation != self.gradient_accumulation_steps:
            raise ValueError(
                f"token_weights='opefo' needs the tokens of an optimizer step before it starts, but "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} spans several rollouts of "
                f"steps_per_generation={self.steps_per_generation}. Set both to the same number."
            )

    def _check(self) -> None:
        super()._check()
        self._check_choices()
        self._check_values()

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is none of {', '.join(map(repr, choices))}.")
        for name, (choice, value) in _READ_BY.items():
            if getattr(self, name) != self._default(name) and getattr(self, choice) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no effect with {choice}={getattr(self, choice)!r}: only "
                    f"{choice}={value!r} reads it. Leave it at {self._default(name)!r}, or set {choice}={value!r}."
                )
        if self.surrogate != "clip" and self.delta is not None:
            raise ValueError(
                f"delta={self.delta} is the dual clip of surrogate='clip', and surrogate={self.surrogate!r} bounds "
                f"weights by itself. Set delta to None{', or change aspo_cap' if self.surrogate == 'aspo' else ''}."
            )
        if self.surrogate in ("cispo", "dppo") and self.clip_range == "probability":
            raise ValueError(
                f"clip_range='probability' bounds the ratio, which surrogate={self.surrogate!r} does not clip. Use "
                "surrogate='clip' or 'aspo', or clip_range='roles'."
            )

    def _check_values(self) -> None:
        for name in _READ_BY:
            if name not in ("clip_schedule", "opefo_off_policy"):
                self._check_number(name)
        for name, (is_inside, interval) in _INTERVALS.items():
            if not is_inside(getattr(self, name)):
                raise ValueError(
                    f"{name}={getattr(self, name)} is outside {interval}. The default is {self._default(name)}."
                )
        if self.clip_cov_low >= self.clip_cov_high:
            raise ValueError(
                f"clip_cov_low={self.clip_cov_low} is not below clip_cov_high={self.clip_cov_high}. Use 1.0 and 5.0."
            )

    def _check_probability_range(self, lows: list[float], highs: list[float]) -> None:
        """Checks the clip distances at probability 0 and 1, where a linear function has its extremes."""
        if self.clip_range != "probability":
            return
        for side, distances in (("low", lows), ("high", highs)):
            offset, slope = getattr(self, f"clip_offset_{side}"), getattr(self, f"clip_slope_{side}")
            for distance in (base + offset + slope * p for base in distances for p in (0, 1)):
                if distance < 0 or (side == "low" and distance >= 1):
                    raise ValueError(
                        f"clip_offset_{side}={offset} and clip_slope_{side}={slope} give a clip distance of "
                        f"{distance:.4g}, outside [0, {'1)' if side == 'low' else '∞)'}. Change them, or the roles' "
                        f"own distances {distances}."
                    )

    def make_surrogate(self) -> Callable[..., Surrogate]:
        """Returns the surrogate."""
        own: dict[str, Callable[..., Surrogate]] = {
            "clip": clip,
            "aspo": partial(aspo, cap=self.aspo_cap),
            "cispo": cispo,
            "dppo": dppo,
        }
        return own[self.surrogate]

    def make_probability_range(self) -> ProbabilityRange | None:
        """Returns the clip range by probability; `None` with `clip_range="roles"`."""
        if self.clip_range == "roles":
            return None
        names = ("slope_low", "slope_high", "offset_low", "offset_high")
        return ProbabilityRange(**{name: getattr(self, f"clip_{name}") for name in names})

    def make_token_weights(self) -> TokenWeights | None:
        """Returns the token weights."""
        match self.token_weights:
            case "opefo":
                return Opefo()
            case "probability":
                return Probability(self.probability_alpha)
            case "steer":
                return Steer(self.steer_min_weight)
            case "clip_cov":
                return ClipCov(self.clip_cov_ratio, self.clip_cov_low, self.clip_cov_high)
        return None
