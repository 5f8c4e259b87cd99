"""Lengths of the completions of a rollout, and what sorting and padding make of them."""

import math
import random
import statistics
from collections.abc import Sequence

SPREAD = 0.75  # of the logarithm of the lengths, as in benchmarks/update_phase.py


def draw_lengths(count: int, mean: float, longest: int, seed: int = 0) -> list[int]:
    """
    Log-normal lengths, cut at the longest: the quantiles of the distribution, in random order.

    Args:
        count (`int`): Completions.
        mean (`float`): Mean length after the cut, in tokens.
        longest (`int`): Limit, in tokens.
        seed (`int`, *optional*, defaults to 0): Seed of the order.

    Returns:
        `list[int]`: Lengths.

    Raises:
        ValueError: If the mean is not below the limit.

    Example:

    ```python
    >>> lengths = draw_lengths(1024, mean=8000, longest=32768)
    >>> round(sum(lengths) / 1024, -1), max(lengths)
    (8000.0, 32768)

    ```
    """
    if not 1 < mean < longest:
        raise ValueError(f"mean={mean} is not between 1 and longest={longest}. Lower it or raise the limit.")
    normal = statistics.NormalDist()
    shape = [math.exp(SPREAD * normal.inv_cdf((i + 0.5) / count)) for i in range(count)]
    low, high = 0.0, 1e3 * longest
    for _ in range(60):  # the scale whose cut mean is the one asked for
        scale = (low + high) / 2
        cut = sum(min(longest, scale * x) for x in shape) / count
        low, high = (scale, high) if cut < mean else (low, scale)
    lengths = [max(1, round(min(longest, scale * x))) for x in shape]
    random.Random(seed).shuffle(lengths)
    return lengths


def micro_batches(lengths: Sequence[int], size: int, removes_padding: bool = True) -> list[tuple[int, int]]:
    """
    Rows and padded length of each micro-batch of one rank's share of an update.

    Args:
        lengths (`Sequence[int]`): Lengths of the completions.
        size (`int`): Completions of a micro-batch.
        removes_padding (`bool`, *optional*, defaults to `True`): Whether they are grouped by length and trimmed;
            otherwise all are as wide as the longest.

    Returns:
        `list[tuple[int, int]]`: Rows and length.

    Example:

    ```python
    >>> micro_batches([30, 100, 10, 90], size=2)
    [(2, 100), (2, 30)]
    >>> micro_batches([30, 100, 10, 90], size=2, removes_padding=False)
    [(2, 100), (2, 100)]

    ```
    """
    ordered = sorted(lengths, reverse=True)
    chunks = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [(len(chunk), chunk[0] if removes_padding else ordered[0]) for chunk in chunks]
