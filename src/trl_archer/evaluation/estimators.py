"""avg@k and pass@k from a (problems, samples) matrix of 0/1 outcomes."""

import math
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any


def _rows(correct: Any) -> list[list[Any]]:
    """Nested lists from lists, NumPy arrays or torch tensors, without importing either library."""
    outer: Any = correct.tolist() if hasattr(correct, "tolist") else correct
    if not isinstance(outer, Iterable) or isinstance(outer, str | bytes):
        raise ValueError(f"correct must be a (problems, samples) matrix, got {correct!r}")
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in outer]
    for i, row in enumerate(rows):
        if not isinstance(row, list | tuple):
            raise ValueError(f"correct[{i}] must be a row of samples, got {row!r}")
    return rows


def _counts(correct: Any, k: int) -> tuple[int, list[int]]:
    """Checks the matrix and `k`; returns n, the samples per problem, and c, the correct ones of each problem."""
    rows = _rows(correct)
    if not rows or not len(rows[0]):
        raise ValueError(f"correct is empty ({len(rows)} problems); score at least one sample")
    n = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != n:
            raise ValueError(
                f"correct[{i}] has {len(row)} samples but correct[0] has {n}; every problem needs the same number"
            )
        for j, value in enumerate(row):
            if value is None:
                raise ValueError(
                    f"correct[{i}][{j}] is None (not scorable); drop problem {i} or score it again, "
                    "an outcome that is not known does not count as 0"
                )
            if value not in (0, 1):
                raise ValueError(f"correct[{i}][{j}] must be 0 or 1, got {value!r}")
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= n:
        raise ValueError(f"k must be an integer in 1..{n}, the samples per problem, got {k!r}")
    return n, [int(sum(map(int, row))) for row in rows]


def avg_at_k(correct: Any, k: int) -> float:
    r"""
    Expected accuracy of one sample, averaged over problems (avg@k).

    It is the mean over all n samples, which is the average of the k-sample mean over all k-subsets of the n
    samples; the value therefore does not depend on `k`, its standard error depends on n.

    $$ \text{avg@k} = \frac{1}{P} \sum_{p=1}^{P} \frac{c_p}{n} $$

    Args:
        correct (matrix of shape `(P, n)`: nested lists, NumPy array or torch tensor):
            Outcomes 0/1 or bool of n samples for each of P problems.
        k (`int`):
            Samples the score is named after, `1 <= k <= n`.

    Returns:
        `float`: probability in [0, 1].

    Raises:
        `ValueError`: on an empty or ragged matrix, a value other than 0/1, `None`, or `k` outside 1..n.

    Example:

    ```python
    >>> avg_at_k([[1, 0, 0, 0], [1, 1, 1, 0]], k=4)
    0.5

    ```
    """
    n, counts = _counts(correct, k)
    return sum(counts) / (n * len(counts))


def pass_at_k(correct: Any, k: int) -> float:
    r"""
    Unbiased estimate of the probability that at least one of k samples is correct (pass@k).

    $$ \text{pass@k} = \frac{1}{P} \sum_{p=1}^{P} \left( 1 - \frac{\binom{n - c_p}{k}}{\binom{n}{k}} \right) $$

    Computed in whole numbers with one correctly rounded division per problem, so no n or k overflows.

    Args:
        correct (matrix of shape `(P, n)`: nested lists, NumPy array or torch tensor):
            Outcomes 0/1 or bool of n samples for each of P problems.
        k (`int`):
            Samples drawn, `1 <= k <= n`.

    Returns:
        `float`: probability in [0, 1].

    Raises:
        `ValueError`: on an empty or ragged matrix, a value other than 0/1, `None`, or `k` outside 1..n.

    Source:
        Chen et al., Evaluating Large Language Models Trained on Code, https://huggingface.co/papers/2107.03374,
        equation (1).

    Example:

    ```python
    >>> pass_at_k([[1, 0, 0, 0], [1, 1, 1, 0]], k=2)
    0.75

    ```
    """
    n, counts = _counts(correct, k)
    subsets = math.comb(n, k)
    return math.fsum(
        problems * ((subsets - math.comb(n - c, k)) / subsets) for c, problems in Counter(counts).items()
    ) / len(counts)
