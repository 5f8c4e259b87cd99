"""Curves equal the estimators; an unknown outcome does not count as wrong."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from trl_archer.evaluation import avg_at_k, pass_at_k
from trl_archer.figures import SampleCounts, plot_accuracy_curves
from trl_archer.figures.accuracy import pass_curve
from trl_archer.figures.style import THEMES

BASE = SampleCounts([0, 1, 3, 12, 0, 5, 7, 2], 12)
BETTER = SampleCounts([4, 6, 9, 12, 0, 11, 12, 8], 12)


def outcomes(counts: SampleCounts) -> list[list[int]]:
    return [[1] * c + [0] * (counts.samples - c) for c in counts.correct]


def test_curve_equals_the_estimators() -> None:
    ks, values, (low, high) = pass_curve(BASE)
    assert ks == [1, 2, 4, 8, 12]
    np.testing.assert_allclose(values, [pass_at_k(outcomes(BASE), k) for k in ks], rtol=1e-12)
    assert values[0] == pytest.approx(avg_at_k(outcomes(BASE)))
    assert (low < values).all()
    assert (values < high).all()


def test_interval_is_that_of_a_mean_over_problems() -> None:
    """With many problems the bootstrap percentiles approach those of the normal distribution."""
    counts = SampleCounts([0, 1] * 200, 1)
    _, values, (low, high) = pass_curve(counts)
    error = 1.96 * 0.5 / np.sqrt(400)
    np.testing.assert_allclose([low[0], high[0]], [values[0] - error, values[0] + error], atol=0.006)


def test_figure_draws_curve_and_mean() -> None:
    figure = plot_accuracy_curves({"base": BASE, "better": tuple(BETTER)})
    curve, means = figure.axes
    for place, counts in enumerate((BASE, BETTER)):
        ks, values, (low, high) = pass_curve(counts)
        line = curve.lines[place]
        assert line.get_xdata().tolist() == ks
        assert line.get_ydata().tolist() == values.tolist()
        assert line.get_color() == THEMES["light"].runs[place]
        vertices = curve.collections[place].get_paths()[0].vertices
        for k, bottom, top in zip(ks, low, high, strict=True):
            assert set(vertices[vertices[:, 0] == k, 1]) == {bottom, top}
        (dot, _, (bar,)) = means.containers[place]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (values[0], place)
        np.testing.assert_allclose(bar.get_segments()[0][:, 0], [low[0], high[0]])
    assert curve.get_xlabel() == "k, samples per problem"
    assert [label.get_text() for label in means.get_yticklabels()] == ["base\nK = 12", "better\nK = 12"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", "better"]
    assert figure.notes == ["Bands and bars: 95% intervals, bootstrap over problems. Problems: 8."]


def test_legend_and_labels_do_not_cover_the_data() -> None:
    long = "Qwen3-4B-Instruct-2507 + Archer, epsilon 0.5, no KL on reasoning tokens, 64 samples, third seed"
    figure = plot_accuracy_curves({"perfect": ([12] * 8, 12), "zero": ([0] * 8, 12), long: BASE, "better": BETTER})
    figure.draw_without_rendering()
    curve, means = figure.axes
    assert figure.legends[0].get_window_extent().y0 > max(ax.get_tightbbox().y1 for ax in figure.axes)
    assert figure.legends[0].get_window_extent().x1 < figure.bbox.x1
    assert means.get_window_extent().width > 0.5 * curve.get_window_extent().width
    labels = [label.get_window_extent() for label in means.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(labels))
    assert min(text.get_window_extent().x0 for text in means.texts) > means.get_window_extent().x0


def test_results_on_other_problems_are_noted() -> None:
    figure = plot_accuracy_curves({"base": BASE, "part": SampleCounts([1, 2], 4)})
    assert figure.notes[1] == "The results have different numbers of problems and cannot be compared: base 8, part 2."
    assert figure.axes[0].lines[1].get_xdata().tolist() == [1, 2, 4]


def test_counts_may_be_arrays_and_samples_one() -> None:
    figure = plot_accuracy_curves({"a": SampleCounts(np.array([0, 1, 1, 1]), 1)})  # type: ignore[arg-type]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.75]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "results is empty"),
        ({"a": ([], 4)}, "'a' has no problems"),
        ({"a": ([1, None], 4)}, r"'a' has None \(not scorable\) for problem 1"),
        ({"a": ([5], 4)}, r"'a' has 5 correct samples for problem 0; it must be an integer in 0\.\.4"),
        ({"a": ([0.5], 4)}, r"'a' has 0\.5 correct samples"),
        ({"a": ([True], 4)}, r"'a' has True correct samples"),
        ({"a": ([0], 0)}, "'a' has samples=0"),
    ],
)
def test_bad_results_are_named(results: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_accuracy_curves(results)
