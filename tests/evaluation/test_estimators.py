"""avg@k and pass@k against enumeration of every subset."""

import itertools
import random
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_archer.evaluation import avg_at_k, pass_at_k

# Error of a mean of correctly rounded terms.
ROUNDING = 1e-15

matrices = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=1, max_size=4), st.integers(1, n)
    )
)


def over_subsets(correct, k, score):
    """Mean over problems of the mean of `score` over all k-subsets of a problem's samples, as a fraction."""
    per_problem = []
    for row in correct:
        subsets = list(itertools.combinations(row, k))
        per_problem.append(sum(Fraction(score(subset)) for subset in subsets) / len(subsets))
    return sum(per_problem) / len(per_problem)


@given(matrices)
def test_pass_at_k_is_the_mean_over_all_subsets(case):
    correct, k = case
    assert pass_at_k(correct, k) == pytest.approx(float(over_subsets(correct, k, any)), abs=ROUNDING)


@given(matrices)
def test_avg_at_k_is_the_mean_over_all_subsets(case):
    correct, k = case
    expected = over_subsets(correct, k, lambda subset: Fraction(sum(subset), k))
    assert avg_at_k(correct) == pytest.approx(float(expected), abs=ROUNDING)


def test_every_count_of_eight_samples():
    for c, k in itertools.product(range(9), range(1, 9)):
        row = [1] * c + [0] * (8 - c)
        random.Random(c).shuffle(row)
        assert pass_at_k([row], k) == pytest.approx(float(over_subsets([row], k, any)), abs=ROUNDING)


def test_unbiased():
    # The expectation over n = 5 draws with success probability 3/10 is that of k draws.
    p, n = Fraction(3, 10), 5
    for k in range(1, n + 1):
        expectation = 0.0
        for row in itertools.product((0, 1), repeat=n):
            expectation += float(p ** sum(row) * (1 - p) ** (n - sum(row))) * pass_at_k([row], k)
        assert expectation == pytest.approx(float(1 - (1 - p) ** k), abs=1e-14)


@pytest.mark.parametrize("k", [1, 2, 8, 5000, 9999, 10_000])
def test_ten_thousand_samples(k):
    n = 10_000
    row = [1] + [0] * (n - 1)
    assert pass_at_k([row], k) == k / n
    assert pass_at_k([[0] * n], k) == 0.0
    assert pass_at_k([[1] * n], k) == 1.0
    assert avg_at_k([row]) == 1 / n


def test_extremes_and_identities():
    correct = [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert pass_at_k(correct, 1) == pytest.approx(avg_at_k(correct), abs=ROUNDING)
    assert pass_at_k(correct, 4) == pytest.approx(2 / 3, abs=ROUNDING)
    assert pass_at_k([[1, 0]], 1) == 0.5


@pytest.mark.parametrize(
    "convert",
    [
        tuple,
        lambda rows: [[bool(value) for value in row] for row in rows],
        lambda rows: [[float(value) for value in row] for row in rows],
        lambda rows: np.array(rows),
        lambda rows: np.array(rows, dtype=bool),
        lambda rows: np.array(rows, dtype=object),
        lambda rows: [np.array(row) for row in rows],
        lambda rows: torch.tensor(rows),
        lambda rows: torch.tensor(rows).bool(),
        lambda rows: torch.tensor(rows, dtype=torch.bfloat16),
        lambda rows: [torch.tensor(row) for row in rows],
    ],
)
def test_every_kind_of_matrix(convert):
    rows = [[1, 0, 0, 1], [0, 0, 0, 1]]
    assert avg_at_k(convert(rows)) == 0.375
    assert pass_at_k(convert(rows), 2) == pytest.approx((5 / 6 + 1 / 2) / 2, abs=ROUNDING)


BAD_MATRICES = [
    ([], "correct is empty"),
    ([[]], "correct is empty"),
    (np.zeros((0, 4)), "correct is empty"),
    ([[1, 0], [1]], r"correct\[1\] has 1 samples but correct\[0\] has 2"),
    ([[1, 0], [0, 2]], r"correct\[1\]\[1\]=2 is neither 0 nor 1"),
    ([[1, 0.5]], r"correct\[0\]\[1\]=0.5 is neither 0 nor 1"),
    ([[-1, 0]], "=-1 is neither"),
    ([["1", 0]], "='1' is neither"),
    ([[float("nan"), 0]], "=nan is neither"),
    (torch.tensor([[1.0, float("nan")]]), r"correct\[0\]\[1\]=nan"),
    ([[1, None]], r"correct\[0\]\[1\]=None is not scorable\. Drop problem 0 or score it again"),
    ([[0, 0], None], r"correct\[1\]=None is not a row of samples"),
    ([1, 0], r"correct\[0\]=1 is not a row of samples"),
    (["10"], r"correct\[0\]='10' is not a row of samples"),
    ("10", "correct='10' is not a matrix"),
    (1, "correct=1 is not a matrix"),
    (np.zeros((2, 2, 2)), r"correct\[0\]\[0\]=\[0.0, 0.0\] is neither 0 nor 1"),
]


@pytest.mark.parametrize(("correct", "message"), BAD_MATRICES)
def test_invalid_matrices_are_named(correct, message):
    with pytest.raises(ValueError, match=message):
        avg_at_k(correct)
    with pytest.raises(ValueError, match=message):
        pass_at_k(correct, 1)


@pytest.mark.parametrize("k", [3, 0, -1, 1.5, True, "1", None])
def test_invalid_k_is_named(k):
    with pytest.raises(ValueError, match=rf"k={k!r} is not an integer in 1\.\.2"):
        pass_at_k([[1, 0]], k)


def test_importing_the_estimators_does_not_import_torch():
    code = "import sys; from trl_archer.evaluation import avg_at_k; print({'torch', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
