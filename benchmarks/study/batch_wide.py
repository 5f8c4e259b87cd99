"""
Trains Archer with one entropy threshold for the whole micro-batch, the ablation of Wang et al. 2025.

python -m benchmarks.study.batch_wide -m trl_archer.cli train --config RECIPE
"""

import sys

from torch import Tensor

from trl_archer import objective
from trl_archer.cli import main

_per_response = objective._gate_and_threshold


def _batch_wide(entropies: Tensor, mask: Tensor, entropy_quantile: float, gate_width: float) -> tuple[Tensor, Tensor]:
    """All responses `(B, T)` as one response of `B * T` tokens."""
    gate, threshold = _per_response(entropies.reshape(1, -1), mask.reshape(1, -1), entropy_quantile, gate_width)
    return gate.view_as(entropies), threshold.expand(len(entropies))


if __name__ == "__main__":
    objective._gate_and_threshold = _batch_wide
    sys.exit(main(sys.argv[3:]))  # after `-m trl_archer.cli`
