"""Tolerances of the numeric comparisons, by the precision that a value was computed in.

There is none for bfloat16: the objective computes in float32 whatever it is given, so low-precision input
is compared to the oracle on the rounded numbers, at the float32 tolerance.
"""

from typing import TypedDict

import torch


class Tolerance(TypedDict):
    """Keyword arguments of `torch.testing.assert_close` and of `numpy.testing.assert_allclose`."""

    rtol: float
    atol: float


# Some ten roundings of a value near 1 (2^-53 and 2^-24 each).
FLOAT64 = Tolerance(rtol=1e-13, atol=1e-14)
FLOAT32 = Tolerance(rtol=2e-6, atol=5e-7)
BY_DTYPE: dict[torch.dtype, Tolerance] = {torch.float64: FLOAT64, torch.float32: FLOAT32}

# Central differences in float64: truncation is of the order step^2, cancellation of the order 2^-53 / step.
FINITE_DIFFERENCE_STEP = 1e-5
FINITE_DIFFERENCE = Tolerance(rtol=1e-7, atol=1e-9)

# exp(d) - d - 1 cancels two numbers near 1, so its error is absolute: a unit in the last place of 1, twice.
K3_FLOOR: dict[torch.dtype, float] = {torch.float64: -(2.0**-51), torch.float32: -(2.0**-22)}

# A float32 forward pass over padded rows against float64 arithmetic on unpadded ones.
TRAINER_LOSS = Tolerance(rtol=1e-5, atol=1e-7)
# Relative, of loss and gradient: the same float32 operations in another order.
SAME_AS_TRL = 1e-6
# Relative, of loss and gradient: other padding, hence other sums inside attention and its backward pass.
OTHER_LAYOUT = 5e-6
# Relative, of weights after three SGD steps: two ranks average what one process sums.
RANK_SPLIT = 5e-6
# Relative, of loss and gradient: trimmed and regrouped micro-batches.
REMOVE_PADDING = 1e-5
# What is logged, of two ranks and of one process.
FLOAT32_LOGS: dict[str, float] = {"rel": 1e-4, "abs": 1e-6}
