"""Configuration of the Archer trainer."""

import math
from dataclasses import dataclass, field, fields
from numbers import Real

from trl import GRPOConfig

from .options import LOSS_TYPES, REJECTED


@dataclass
class ArcherGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`ArcherGRPOTrainer`].

    It has every parameter of [`~trl.GRPOConfig`]. The inherited clip range and KL weight act on *knowledge* tokens
    (low entropy); the fields below add those of *reasoning* tokens (high entropy) and the split between the two. Split,
    clip ranges, KL weights and the handling of equal rewards default to Wang et al. 2025 (arXiv 2507.15778); batch,
    optimizer and number of passes keep TRL's defaults.

    On-policy, as TRL's defaults are, every ratio is exactly 1 and no clip range can act. The paper passes three times
    over each rollout, `num_iterations=3`; `steps_per_generation` above `gradient_accumulation_steps` has ratios leave
    1 too.

    Parameters:
        > Parameters that control the split

        entropy_quantile (`float`, *optional*, defaults to `0.8`):
            Quantile, in (0, 1), of each response's own token entropies above which a token is reasoning. The paper's
            rho (Eq. 2), 0.8; its ablation has 0.7 close behind and 0.9 behind that.
        gate_width (`float`, *optional*, defaults to `0.0`):
            Width in [0, 1], in quantile units, of a linear ramp between the two roles. The paper's split is the step,
            0.0; it names a continuous gate as future work. Up to `2 * min(entropy_quantile, 1 - entropy_quantile)`,
            0.4 at the default quantile, the ramp fits in and the mean weight stays; beyond it even the token of
            highest entropy is not wholly reasoning.

        > Parameters that control the constraints

        epsilon (`float`, *optional*, defaults to `0.2`):
            Lower clip distance of knowledge tokens, in ratio units, in [0, 1). The paper's eps_k (Eq. 3), 0.2.
        epsilon_high (`float`, *optional*):
            Upper clip distance of knowledge tokens. `None` means `epsilon`, as in the paper.
        epsilon_reasoning (`float`, *optional*, defaults to `0.5`):
            Lower clip distance of reasoning tokens, in [0, 1). The paper's eps_r (Eq. 3), 0.5.
        epsilon_reasoning_high (`float`, *optional*):
            Upper clip distance of reasoning tokens. `None` means `epsilon_reasoning`, as in the paper.
        beta (`float`, *optional*, defaults to `0.001`):
            KL weight of knowledge tokens. The paper's beta_k (Eq. 4), 0.001. Nonzero needs a
            reference: a second copy of the model or, with PEFT, the base model without its adapter.
        beta_reasoning (`float`, *optional*, defaults to `0.0`):
            KL weight of reasoning tokens. The paper's beta_r (Eq. 4), 0.0.
        use_bias_correction_kl (`bool`, *optional*, defaults to `False`):
            Whether to multiply the KL estimate by the ratio. The paper does not.

        > Parameters that control the batch

        mask_zero_std_groups (`bool`, *optional*, defaults to `True`):
            Whether completions of a group whose rewards are all equal leave the loss, its normaliser and the token
            metrics, as in the paper's reference code. In training only; evaluation updates nothing and keeps all.
        remove_padding (`bool`, *optional*, defaults to `True`):
            Whether the micro-batches of an optimizer step hold completions of similar length, trimmed of padding and of
            completions that carry no loss. Same loss and gradient.
            Models with images keep TRL's layout; `loss_type="bnpo"` and mixture-of-experts losses, which depend on
            the split, keep the micro-batches and are only trimmed.

        > Parameters that control logging

        token_records_steps (`int`, *optional*):
            Every how many optimizer steps each token of the update, its entropy, role, log-probabilities and clipping,
            is written to `token_records` in the output directory, for the figures and the token view. `None`: never.

        > Parameters that control long runs

        max_skipped_updates (`int`, *optional*, defaults to `5`):
            How many updates in a row may have a loss or gradient that is not finite. Each is skipped on all ranks and
            counted in `archer/skipped_updates`; at this many, training stops and the batch is written to `output_dir`.
        max_failed_saves (`int`, *optional*, defaults to `3`):
            How many saves in a row may fail, on a full disk say. Training goes on after each and saves again at the
            next; at this many it stops.
        max_generation_retries (`int`, *optional*, defaults to `5`):
            How many times a vLLM server that does not answer is waited for, 10 seconds and then twice as long each
            time, up to 5 minutes. With `vllm_mode="server"` only.

    > [!NOTE]
    > These parameters have default values different from [`~trl.GRPOConfig`]:
    > - `beta`: Defaults to `0.001` instead of `0.0`.
    > - `use_bias_correction_kl`: Defaults to `False` instead of `True`.

    Raises:
        ValueError: If a value is out of its range or a combination cannot be honoured; the message names the field,
            its value and the way out.
    """

    entropy_quantile: float = field(
        default=0.8,
        metadata={
            "help": "Quantile, in (0, 1), of each response's own token entropies above which a token is reasoning. "
            "The paper's rho, 0.8."
        },
    )
    gate_width: float = field(
        default=0.0,
        metadata={
            "help": "Width in [0, 1], in quantile units, of a linear ramp between the two roles. The paper's split is "
            "the step, 0.0."
        },
    )
    epsilon: float = field(
        default=0.2,
        metadata={"help": "Lower clip distance of knowledge tokens, in [0, 1). The paper's eps_k, 0.2."},
    )
    epsilon_high: float | None = field(
        default=None,
        metadata={"help": "Upper clip distance of knowledge tokens. `None` means `epsilon`, as in the paper."},
    )
    epsilon_reasoning: float = field(
        default=0.5,
        metadata={"help": "Lower clip distance of reasoning tokens, in [0, 1). The paper's eps_r, 0.5."},
    )
    epsilon_reasoning_high: float | None = field(
        default=None,
        metadata={"help": "Upper clip distance of reasoning tokens. `None` means `epsilon_reasoning`."},
    )
    beta: float = field(
        default=0.001,
        metadata={
            "help": "KL weight of knowledge tokens. The paper's beta_k, 0.001. Nonzero needs the reference model."
        },
    )
    beta_reasoning: float = field(
        default=0.0,
        metadata={"help": "KL weight of reasoning tokens. The paper's beta_r, 0.0."},
    )
    use_bias_correction_kl: bool = field(
        default=False,
        metadata={"help": "Whether to multiply the KL estimate by the ratio. The paper does not."},
    )
    mask_zero_std_groups: bool = field(
        default=True,
        metadata={
            "help": "Whether completions of a group whose rewards are all equal leave the loss, its normaliser and "
            "the token metrics, as in the paper's reference code."
        },
    )
    remove_padding: bool = field(
        default=True,
        metadata={"help": "Whether micro-batches go by length, trimmed of padding. Same loss and gradient."},
    )
    token_records_steps: int | None = field(
        default=None,
        metadata={"help": "Every how many optimizer steps the tokens of an update are written out. None: never."},
    )
    max_skipped_updates: int = field(
        default=5,
        metadata={
            "help": "How many updates in a row may have a loss or gradient that is not finite before training stops. "
            "Each is skipped on all ranks."
        },
    )
    max_failed_saves: int = field(
        default=3,
        metadata={"help": "How many saves in a row may fail, on a full disk say, before training stops."},
    )
    max_generation_retries: int = field(
        default=5,
        metadata={"help": "How many times a vLLM server that does not answer is waited for, ever longer."},
    )

    def __post_init__(self):
        self._check_ranges()
        self._check_combinations()
        super().__post_init__()

    @property
    def strictly_on_policy(self) -> bool:
        """Whether every update sees fresh samples only, so that all ratios are 1 and no clip range can act."""
        return self.gradient_accumulation_steps % (self.steps_per_generation * self.num_iterations) == 0

    def _check_ranges(self) -> None:
        _check_number("entropy_quantile", self.entropy_quantile)
        if not 0 < self.entropy_quantile < 1:
            raise ValueError(
                f"entropy_quantile={self.entropy_quantile} is not inside (0, 1). Use the paper's 0.8 for 20 % "
                "reasoning tokens; for one constraint on all tokens set the values of both roles equal instead."
            )
        _check_number("gate_width", self.gate_width)
        if not 0 <= self.gate_width <= 1:
            raise ValueError(
                f"gate_width={self.gate_width} is outside [0, 1]. Use 0.0 for the paper's step, or a small width "
                "such as 0.2 for a ramp."
            )
        for name in ("beta", "beta_reasoning", "epsilon", "epsilon_reasoning"):
            _check_not_negative(name, getattr(self, name))
        for name in ("epsilon_high", "epsilon_reasoning_high", "delta"):
            if getattr(self, name) is not None:
                _check_not_negative(name, getattr(self, name))
        if self.token_records_steps is not None and self.token_records_steps < 1:
            raise ValueError(f"token_records_steps={self.token_records_steps} is below 1. Use None to record nothing.")
        for name in ("max_skipped_updates", "max_failed_saves"):
            _check_count(name, getattr(self, name), at_least=1)
        _check_count("max_generation_retries", self.max_generation_retries, at_least=0)
        for name in ("epsilon", "epsilon_reasoning"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not below 1: a ratio is positive, so the lower bound 1 - {name} "
                    f"could never act. Keep {name} below 1 and set {name}_high for a wide upper bound."
                )

    def _check_combinations(self) -> None:
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(
                f"loss_type={self.loss_type!r} has no clip range per token. Use one of {', '.join(LOSS_TYPES)}; the "
                "paper's is 'dapo'."
            )
        defaults = {f.name: f.default for f in fields(GRPOConfig)}
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
        widest = max(
            self.epsilon if self.epsilon_high is None else self.epsilon_high,
            self.epsilon_reasoning if self.epsilon_reasoning_high is None else self.epsilon_reasoning_high,
        )
        if self.delta is not None and self.delta <= 1 + widest:
            raise ValueError(
                f"delta={self.delta} does not lie above the widest clip range, which ends at {1 + widest}, and would "
                "narrow it. Use a larger delta (the paper's reference code has 10) or None."
            )


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        default = ArcherGRPOConfig.__dataclass_fields__[name].default
        raise ValueError(f"{name}={value!r} is not a finite number. The default is {default}.")


def _check_not_negative(name: str, value: object) -> None:
    _check_number(name, value)
    if value < 0:  # type: ignore[operator]
        raise ValueError(f"{name}={value} is negative. Use 0.0 to switch it off, or a positive number.")


def _check_count(name: str, value: object, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        default = ArcherGRPOConfig.__dataclass_fields__[name].default
        raise ValueError(f"{name}={value!r} is not a whole number from {at_least} up. The default is {default}.")
