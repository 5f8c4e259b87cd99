"""avg@k and pass@k from a (problems, samples) matrix of 0/1 outcomes."""

import math
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any


def _rows(correct: Any) -> list[list[Any]]:
    """Converts lists, NumPy arrays or torch tensors to nested lists, without importing either library."""
    outer: Any = correct.tolist() if hasattr(correct, "tolist") else correct
    if not isinstance(outer, Iterable) or isinstance(outer, str | bytes):
        raise ValueError(f"correct={correct!r} is not a matrix. Pass one row of samples per problem.")
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in outer]
    for i, row in enumerate(rows):
        if not isinstance(row, list | tuple):
            raise ValueError(f"correct[{i}]={row!r} is not a row of samples. Pass a list of 0 and 1.")
    return rows


def _counts(correct: Any) -> tuple[int, list[int]]:
    """Checks the matrix; returns n, the samples per problem, and the correct samples of each problem."""
    rows = _rows(correct)
    if not rows or not len(rows[0]):
        raise ValueError(f"correct is empty ({len(rows)} problems). Score at least one sample.")
    n = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != n:
            raise ValueError(
                f"correct[{i}] has {len(row)} samples but correct[0] has {n}. Use the same number for every problem."
            )
        for j, value in enumerate(row):
            if value is None:
                raise ValueError(
                    f"correct[{i}][{j}]=None is not scorable. Drop problem {i} or score it again; an unknown outcome "
                    "does not count as 0."
                )
            if value not in (0, 1):
                raise ValueError(f"correct[{i}][{j}]={value!r} is neither 0 nor 1. Use 1 for a correct sample.")
    return n, [int(sum(map(int, row))) for row in rows]


def pass_probability(samples: int, correct: int, k: int) -> float:
    """
    Probability that at least one of k of a problem's samples, drawn without replacement, is correct.

    Uses integers and one correctly rounded division, so no `samples` or `k` overflows.
    """
    subsets = math.comb(samples, k)
    return (subsets - math.comb(samples - correct, k)) / subsets


def avg_at_k(correct: Any) -> float:
    r"""
    Estimates the accuracy of one sample, averaged over problems (avg@k).

    It averages over all n samples. This equals the average of the k-sample mean over all k-subsets, so the value does
    not depend on k; its standard error depends on n.

    $$ \text{avg@k} = \frac{1}{P} \sum_{p=1}^{P} \frac{c_p}{n} $$

    Args:
        correct (matrix of shape `(P, n)`: nested lists, NumPy array or torch tensor):
            Outcomes 0/1 or bool of n samples for each of P problems.

    Returns:
        `float`: probability in [0, 1].

    Raises:
        ValueError: If the matrix is empty or ragged, or a value is `None` or neither 0 nor 1.

    Example:

    ```python
    >>> avg_at_k([[1, 0, 0, 0], [1, 1, 1, 0]])
    0.5

    ```
    """
    n, counts = _counts(correct)
    return sum(counts) / (n * len(counts))


def pass_at_k(correct: Any, k: int) -> float:
    r"""
    Unbiased estimate of the probability that at least one of k samples is correct (pass@k).

    $$ \text{pass@k} = \frac{1}{P} \sum_{p=1}^{P} \left( 1 - \frac{\binom{n - c_p}{k}}{\binom{n}{k}} \right) $$

    Args:
        correct (matrix of shape `(P, n)`: nested lists, NumPy array or torch tensor):
            Outcomes 0/1 or bool of n samples for each of P problems.
        k (`int`):
            Samples drawn, `1 <= k <= n`.

    Returns:
        `float`: probability in [0, 1].

    Raises:
        ValueError: If the matrix is empty or ragged, a value is `None` or neither 0 nor 1, or `k` is outside 1..n.

    Source:
        Chen et al., Evaluating Large Language Models Trained on Code, https://huggingface.co/papers/2107.03374,
        equation (1).

    Example:

    ```python
    >>> pass_at_k([[1, 0, 0, 0], [1, 1, 1, 0]], k=2)
    0.75

    ```
    """
    n, counts = _counts(correct)
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= n:
        raise ValueError(f"k={k!r} is not an integer in 1..{n}, the samples per problem. Lower k or draw more samples.")
    return math.fsum(problems * pass_probability(n, c, k) for c, problems in Counter(counts).items()) / len(counts)
