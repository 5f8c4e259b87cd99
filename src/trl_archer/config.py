"""Configuration of the Archer trainer."""

from dataclasses import MISSING, dataclass, fields

from trl import GRPOConfig

from .grpo.config import help_from_docstring
from .methods.config import MethodConfig
from .objective import Constraint, Constraints
from .options import LOSS_TYPES, REJECTED


@help_from_docstring
@dataclass
class ArcherGRPOConfig(MethodConfig):
    r"""
    Configuration class for the [`ArcherGRPOTrainer`].

    It has every parameter of [`~trl.GRPOConfig`] and of [`~grpo.DurableGRPOConfig`]. The inherited clip range and KL
    weight apply to *knowledge* tokens (low entropy). The fields below add the ones for *reasoning* tokens (high
    entropy) and the split between the two. The split, clip ranges, KL weights and the handling of equal rewards default
    to Wang et al. 2025 (arXiv 2507.15778). Batch, optimizer and number of passes keep TRL's defaults.

    TRL's defaults are on-policy: every ratio is exactly 1, and the clip ranges have no effect. The paper makes three
    passes over each rollout (`num_iterations=3`). Setting `steps_per_generation` above `gradient_accumulation_steps`
    also moves ratios away from 1.

    The fields of [`~methods.MethodConfig`] replace parts of Archer by methods of other papers.

    Parameters:
        > Parameters that control the split

        entropy_quantile (`float`, *optional*, defaults to `0.8`):
            Quantile, in (0, 1), of each response's own token entropies above which a token counts as reasoning. The
            paper's rho (Eq. 2) is 0.8. In the paper's ablation, 0.7 is slightly worse and 0.9 worse still.
        gate_width (`float`, *optional*, defaults to `0.0`):
            Width in [0, 1], in quantile units, of a linear ramp between the two roles. The paper uses a step, 0.0, and
            names a continuous gate as future work. Up to `2 * min(entropy_quantile, 1 - entropy_quantile)`, 0.4 at the
            default quantile, the mean weight stays the same. Beyond that the ramp is cut off, and even the token with
            the highest entropy is not fully a reasoning token.

        > Parameters that control the constraints

        epsilon (`float`, *optional*, defaults to `0.2`):
            Lower clip distance of knowledge tokens, in ratio units, in [0, 1). The paper's eps_k (Eq. 3) is 0.2.
        epsilon_high (`float`, *optional*):
            Upper clip distance of knowledge tokens. `None` means `epsilon`, as in the paper.
        epsilon_reasoning (`float`, *optional*, defaults to `0.5`):
            Lower clip distance of reasoning tokens, in [0, 1). The paper's eps_r (Eq. 3) is 0.5.
        epsilon_reasoning_high (`float`, *optional*):
            Upper clip distance of reasoning tokens. `None` means `epsilon_reasoning`, as in the paper.
        beta (`float`, *optional*, defaults to `0.001`):
            KL weight of knowledge tokens. The paper's beta_k (Eq. 4) is 0.001. A nonzero value needs a reference: a
            second copy of the model or, with PEFT, the base model without its adapter.
        beta_reasoning (`float`, *optional*, defaults to `0.0`):
            KL weight of reasoning tokens. The paper's beta_r (Eq. 4) is 0.0.
        use_bias_correction_kl (`bool`, *optional*, defaults to `False`):
            Whether to multiply the KL estimate by the ratio. The paper does not.

        > Parameters that control the batch

        mask_zero_std_groups (`bool`, *optional*, defaults to `True`):
            Whether to leave groups whose rewards are all equal out of the loss, its normalizer and the token metrics,
            as in the paper's reference code. This applies to training only; evaluation keeps all groups. An update must
            lie within one rollout: `steps_per_generation` is a multiple of `gradient_accumulation_steps`.

        > Parameters that control logging

        token_records_steps (`int`, *optional*):
            Interval, in optimizer steps, at which the tokens of an update (entropy, role, log-probabilities, clipping)
            are written to `token_records` in `output_dir`, for the figures and the token view. `None` disables this.

    > [!NOTE]
    > These parameters have default values different from [`~trl.GRPOConfig`]:
    > - `beta`: Defaults to `0.001` instead of `0.0`.
    > - `use_bias_correction_kl`: Defaults to `False` instead of `True`.

    Raises:
        ValueError: If a value is out of range or a combination cannot be honored; the message names the field, its
            value and the fix.
    """

    entropy_quantile: float = 0.8
    gate_width: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    epsilon_reasoning: float = 0.5
    epsilon_reasoning_high: float | None = None
    beta: float = 0.001
    beta_reasoning: float = 0.0
    use_bias_correction_kl: bool = False
    mask_zero_std_groups: bool = True
    token_records_steps: int | None = None

    @property
    def constraints(self) -> Constraints:
        """The settings of the objective, with each `None` resolved."""

        def constraint(low: float, high: float | None, beta: float) -> Constraint:
            return Constraint(low, low if high is None else high, beta)

        return Constraints(
            knowledge=constraint(self.epsilon, self.epsilon_high, self.beta),
            reasoning=constraint(self.epsilon_reasoning, self.epsilon_reasoning_high, self.beta_reasoning),
            entropy_quantile=self.entropy_quantile,
            gate_width=self.gate_width,
            delta=self.delta,
            use_bias_correction_kl=self.use_bias_correction_kl,
        )

    def __post_init__(self):
        super().__post_init__()
        spans_rollouts = self.steps_per_generation % self.gradient_accumulation_steps != 0
        if self.mask_zero_std_groups and spans_rollouts:
            raise ValueError(
                f"steps_per_generation={self.steps_per_generation} is not a multiple of gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}: an update would span several rollouts, each with a normalizer "
                "of its own that depends on the groups left out (Eq. 5 has one). Set steps_per_generation to a "
                "multiple, or mask_zero_std_groups=False."
            )

    def _check(self) -> None:
        super()._check()
        self._check_ranges()
        self._check_combinations()

    def _check_ranges(self) -> None:
        self._check_number("entropy_quantile")
        if not 0 < self.entropy_quantile < 1:
            raise ValueError(
                f"entropy_quantile={self.entropy_quantile} is not inside (0, 1). Use the paper's 0.8 for 20% "
                "reasoning tokens. To constrain all tokens alike, give both roles equal values instead."
            )
        self._check_number("gate_width")
        if not 0 <= self.gate_width <= 1:
            raise ValueError(
                f"gate_width={self.gate_width} is outside [0, 1]. Use 0.0 for the paper's step, or a small width "
                "such as 0.2 for a ramp."
            )
        for name in ("beta", "beta_reasoning", "epsilon", "epsilon_reasoning"):
            self._check_not_negative(name)
        for name in ("epsilon_high", "epsilon_reasoning_high", "delta"):
            if getattr(self, name) is not None:
                self._check_not_negative(name)
        if self.token_records_steps is not None and self.token_records_steps < 1:
            raise ValueError(f"token_records_steps={self.token_records_steps} is below 1. Use None to record nothing.")
        for name in ("epsilon", "epsilon_reasoning"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not below 1: a ratio is positive, so the lower bound 1 - {name} "
                    f"could never take effect. Keep {name} below 1 and set {name}_high for a wide upper bound."
                )

    def _check_combinations(self) -> None:
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(
                f"loss_type={self.loss_type!r} has no clip range per token. Use one of {', '.join(LOSS_TYPES)}; the "
                "paper's is 'dapo'. DurableGRPOTrainer runs all of TRL's loss types."
            )
        defaults = {
            field.name: field.default if field.default_factory is MISSING else field.default_factory()
            for field in fields(GRPOConfig)
        }
        for name, reason in REJECTED.items():
            value = getattr(self, name)
            if value != defaults[name]:
                raise ValueError(
                    f"{name}={value!r} is not supported by Archer. {reason} Leave it at {defaults[name]!r}."
                )
        if self.beta == 0 and self.beta_reasoning != 0:
            raise ValueError(
                f"beta_reasoning={self.beta_reasoning} needs a reference model, which beta=0.0 does not load. Set beta "
                "to a small positive value, such as 1e-6, or beta_reasoning to 0.0."
            )
        roles = (self.constraints.knowledge, self.constraints.reasoning)
        self._check_probability_range([role.epsilon_low for role in roles], [role.epsilon_high for role in roles])
        widest = max(self.constraints.knowledge.epsilon_high, self.constraints.reasoning.epsilon_high)
        if self.delta is not None and self.delta <= 1 + widest:
            raise ValueError(
                f"delta={self.delta} is not above the widest clip range, which ends at {1 + widest}, and would "
                "narrow it. Use a larger delta (the paper's reference code has 10) or None."
            )
