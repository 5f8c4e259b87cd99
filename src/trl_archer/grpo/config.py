"""Configuration of the durable GRPO trainer."""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from trl import GRPOConfig

T = TypeVar("T", bound=type)


class Parameter(NamedTuple):
    """An entry of a docstring in TRL's format: its group, name, type and text, on one line."""

    group: str
    name: str
    kind: str
    text: str


def documented_parameters(docstring: str) -> Iterator[Parameter]:
    """
    Reads the parameters of a dataclass from its docstring.

    Args:
        docstring (`str`): Docstring in TRL's format; `> Parameters that control ...` begins a group.

    Returns:
        `Iterator[Parameter]`: Its parameters, in order.

    Example:

    ```python
    >>> docstring = '''
    ...     Args:
    ...         rho (`float`, *optional*, defaults to `0.8`):
    ...             Quantile, in
    ...             (0, 1).
    ... '''
    >>> list(documented_parameters(docstring))
    [Parameter(group='', name='rho', kind='`float`', text='Quantile, in (0, 1).')]

    ```
    """
    (block,) = re.findall(r"^    (?:Args|Parameters):\n(.*?)(?=^    \S|\Z)", docstring, re.M | re.S)
    group = ""
    for part in re.split(r"\n(?= {8}\S)", "\n" + block):
        head, _, text = part.strip().partition("\n")
        if head.startswith("> "):
            group = head.removeprefix("> Parameters that control ")
        elif head:
            names, kind = re.fullmatch(r"(.+?) \((.*)\):", head).groups()  # type: ignore[union-attr]
            kind = re.sub(r"(, )?\*optional\*.*", "", kind)
            yield from (Parameter(group, name, kind, " ".join(text.split())) for name in names.split(", "))


def help_from_docstring(cls: T) -> T:
    """Sets the `help` of each field that a dataclass declares, for argument parsers, from its docstring."""
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    for parameter in documented_parameters(str(cls.__doc__)):
        if parameter.name in cls.__annotations__:  # other fields belong to a base class
            field = fields[parameter.name]
            field.metadata = MappingProxyType({**field.metadata, "help": parameter.text})
    return cls


@help_from_docstring
@dataclass
class DurableGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`~grpo.DurableGRPOTrainer`].

    It has every parameter of [`~trl.GRPOConfig`], with TRL's defaults, and the ones below.

    Parameters:
        > Parameters that control the batch

        remove_padding (`bool`, *optional*, defaults to `True`):
            Whether to trim each micro-batch to its own longest prompt and completion, and to group completions of
            similar length. The loss and its gradient stay the same. Micro-batches are trimmed but not regrouped if the
            loss depends on how a step is split into them (`"bnpo"`, load balancing of mixture-of-experts models,
            `top_entropy_quantile`, the entropy bonus). Models with images keep TRL's layout.

        > Parameters that control long runs

        max_skipped_updates (`int`, *optional*, defaults to `5`):
            Number of consecutive updates with a non-finite loss or gradient after which training stops. Each is
            skipped on every rank and counted in `skipped_updates`. The last batch is written to `output_dir`.
        max_failed_saves (`int`, *optional*, defaults to `3`):
            Number of consecutive failed saves, for example on a full disk, after which training stops. Until then,
            training continues and the next save tries again.
        max_generation_retries (`int`, *optional*, defaults to `5`):
            Maximum number of retries when the vLLM server does not respond. The first retry waits 10 seconds, and each
            later one waits twice as long as the one before, up to 5 minutes. Only used with `vllm_mode="server"`.

    Raises:
        ValueError: If a value is out of range; the message names the field, its value and the fix.
    """

    remove_padding: bool = True
    max_skipped_updates: int = 5
    max_failed_saves: int = 3
    max_generation_retries: int = 5

    @property
    def strictly_on_policy(self) -> bool:
        """Whether every update sees only fresh samples, so that all ratios are 1 and clip ranges have no effect."""
        return self.gradient_accumulation_steps % (self.steps_per_generation * self.num_iterations) == 0

    def __post_init__(self):
        self._check()  # before TRL computes anything from the values
        super().__post_init__()
        if (self.metric_for_best_model or "").removeprefix("eval_") == "loss":  # the Trainer's default
            raise ValueError(
                f"metric_for_best_model={self.metric_for_best_model!r}: the loss of a policy gradient does not measure "
                "quality. It is near 0 whatever the policy solves, because advantages are centered in each group. It "
                "is the default with load_best_model_at_end=True and lr_scheduler_type='reduce_lr_on_plateau'. Use "
                "'eval_reward', or the metric of a benchmark, such as 'aime24/avg@64'."
            )
        if self.use_transformers_continuous_batching and (self.bf16 or self.fp16):
            raise ValueError(
                "use_transformers_continuous_batching=True with bf16 or fp16: TRL casts the trained weights themselves "
                "to 16 bits, where most updates round to zero. Set it to False, generate with vLLM, or train in "
                "float32."
            )

    def _check(self) -> None:
        self._check_count("max_skipped_updates", at_least=1)
        self._check_count("max_failed_saves", at_least=1)
        self._check_count("max_generation_retries", at_least=0)

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"{name}={value!r} is not a finite number. The default is {self._default(name)}.")

    def _check_not_negative(self, name: str) -> None:
        self._check_number(name)
        if getattr(self, name) < 0:
            raise ValueError(f"{name}={getattr(self, name)} is negative. Use 0.0 to disable it, or a positive number.")

    def _check_count(self, name: str, at_least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise ValueError(f"{name}={value!r} is not an integer >= {at_least}. The default is {self._default(name)}.")

    @classmethod
    def _default(cls, name: str) -> Any:
        return next(field.default for field in dataclasses.fields(cls) if field.name == name)
