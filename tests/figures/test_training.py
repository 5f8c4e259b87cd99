"""Lines show the logged values; gaps, seeds and missing metrics are visible or noted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex

from trl_archer.figures import RunLog, plot_constraints, plot_training_dynamics
from trl_archer.figures.lines import mean_and_range, smooth
from trl_archer.figures.style import THEMES

NAN = float("nan")
STEPS = [1, 2, 3, 4, 5]
DYNAMICS = {
    "Reward": ("reward", "mean reward"),
    "Response length": ("completions/mean_length", "tokens per completion"),
    "Repetition": ("completions/repetition", "repeated 20-grams"),
    "Entropy, all tokens": ("entropy", "nats per token"),
    "Entropy, reasoning": ("entropy/reasoning", "nats per token"),
    "Entropy, knowledge": ("entropy/knowledge", "nats per token"),
}
CONSTRAINTS = {
    "Clipped at the lower end": (["clip_ratio/{}/low_mean"], "share of role's tokens"),
    "Clipped at the upper end": (["clip_ratio/{}/high_mean"], "share of role's tokens"),
    "KL from the reference": (["kl/{}"], "nats per token"),
    "Entropy threshold": (["archer/entropy_threshold"], "nats, mean"),
    "Reasoning tokens": (["archer/reasoning_fraction"], "share of all tokens"),
    "Dropped groups": (["archer/dropped_groups"], "groups per rollout"),
}
METRICS = [metric for metric, _ in DYNAMICS.values()] + [
    name.format(role) for names, _ in CONSTRAINTS.values() for name in names for role in ("reasoning", "knowledge")
]


def make_run(
    name: str = "archer",
    steps: Sequence[int] = STEPS,
    metrics: Mapping[str, Sequence[float | None]] | None = None,
    **options: Any,
) -> RunLog:
    """A run that by default logged everything at every step, with different values for each metric."""
    if metrics is None:
        metrics = {m: [0.01 * (i + 1) * step for step in steps] for i, m in enumerate(dict.fromkeys(METRICS))}
    logged = {metric: dict(zip(steps, values, strict=True)) for metric, values in metrics.items()}
    return RunLog(name, logged, **options)


def panels(figure: Any) -> dict[str, Axes]:
    return {ax.get_title(loc="left"): ax for ax in figure.axes}


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_dynamics_are_what_was_logged() -> None:
    run = make_run()
    axes = panels(plot_training_dynamics(run, smoothing=0))
    assert axes.keys() == DYNAMICS.keys()
    for title, (metric, unit) in DYNAMICS.items():
        (line,) = axes[title].lines
        assert line.get_xdata().tolist() == STEPS
        assert line.get_ydata().tolist() == list(run.metrics[metric].values())
        assert axes[title].get_ylabel() == unit
        assert axes[title].get_xlabel() == "optimizer step"


def test_constraints_are_what_was_logged() -> None:
    run = make_run()
    figure = plot_constraints(run, entropy_quantile=0.75, smoothing=0)
    axes = panels(figure)
    assert axes.keys() == CONSTRAINTS.keys()
    for title, ((name,), unit) in CONSTRAINTS.items():
        lines = [line for line in axes[title].lines if len(line.get_xdata()) == len(STEPS)]
        assert axes[title].get_ylabel() == unit
        for line, role in zip(lines, ("reasoning", "knowledge") if "{}" in name else ("",), strict=True):
            assert line.get_ydata().tolist() == list(run.metrics[name.format(role)].values())
            assert line.get_color() == (THEMES["light"].role(role) if role else THEMES["light"].ink)
            assert line.get_marker() == ("s" if role == "knowledge" else "None")  # for print without color
    assert axes["Reasoning tokens"].lines[0].get_ydata() == [0.25, 0.25]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["reasoning tokens", "knowledge tokens", "nominal, 1 - rho: 25%"]
    assert [line.get_marker() for line in figure.legends[0].get_lines()] == ["None", "s", "None"]
    assert axes["KL from the reference"].get_yscale() == "log"


def test_shares_are_labeled_in_percent() -> None:
    figure = plot_training_dynamics(make_run(metrics={"completions/repetition": [0.0, 0.1, 0.2, 0.3, 0.4]}))
    figure.draw_without_rendering()
    labels = [tick.get_text() for tick in panels(figure)["Repetition"].get_yticklabels()]
    assert {"0%", "20%", "40%"} <= set(labels)


def test_smoothed_line_lies_over_raw_values() -> None:
    values = [0.0, 1.0, 0.0, 1.0, 0.0]
    (raw, line) = panels(plot_training_dynamics(make_run(metrics={"reward": values}), smoothing=1.0))["Reward"].lines
    assert raw.get_ydata().tolist() == values
    weights = np.exp(-0.5 * np.subtract.outer(STEPS, STEPS) ** 2.0)
    weights[np.abs(np.subtract.outer(STEPS, STEPS)) > 3] = 0
    np.testing.assert_allclose(line.get_ydata(), weights @ values / weights.sum(axis=1))
    assert raw.get_alpha() < 0.5
    assert line.get_alpha() is None


def test_smoothing_goes_by_steps_and_keeps_gaps() -> None:
    steps, values = np.array([0, 1, 100, 101]), np.array([1.0, 3.0, NAN, 7.0])
    weight = np.exp(-0.5)
    expected = [(1 + 3 * weight) / (1 + weight), (3 + weight) / (1 + weight), NAN, 7.0]
    np.testing.assert_allclose(smooth(steps, values, 1.0), expected)
    np.testing.assert_array_equal(smooth(steps, values, 0.0), values)


def test_default_smoothing_follows_the_length_of_the_run() -> None:
    assert len(panels(plot_training_dynamics(make_run()))["Reward"].lines) == 1
    figure = plot_training_dynamics(make_run(steps=range(0, 201)))
    assert len(panels(figure)["Reward"].lines) == 2
    assert figure.notes == ["Lines: Gaussian mean, sigma 4 steps. Pale: raw values."]


def test_logs_far_apart_are_not_smoothed() -> None:
    """A Gaussian that reaches no neighbor would change nothing, and the note would be wrong."""
    figure = plot_training_dynamics(make_run(steps=range(0, 151, 10)))
    assert len(panels(figure)["Reward"].lines) == 1
    assert figure.notes == []


def test_pale_lines_are_what_the_note_says() -> None:
    long, other = (make_run(name, steps=range(201)) for name in ("archer", "grpo"))
    assert plot_training_dynamics([long, long]).notes[0].endswith("Pale: seeds.")
    assert plot_training_dynamics([long, long, other]).notes[0].endswith("Pale: seeds or raw values.")


def test_small_changes_of_length_look_small() -> None:
    lengths = [28.0, 27.9, 28.03, 28.0, 28.0]
    low, high = panels(plot_training_dynamics(make_run(metrics={"completions/mean_length": lengths})))[
        "Response length"
    ].get_ylim()
    assert low < 27.9
    assert high > 28.03
    assert high - low > 2.8


def test_gaps_stay_open_and_are_noted() -> None:
    run = make_run(metrics={"reward": [1.0, None, float("inf"), 4.0, 5.0]})
    figure = plot_training_dynamics(run, smoothing=0)
    (line,) = panels(figure)["Reward"].lines
    np.testing.assert_array_equal(line.get_ydata(), [1.0, NAN, NAN, 4.0, 5.0])
    assert "archer: non-finite values, shown as gaps: 1 in reward" in figure.notes


def test_gaps_of_a_run_are_one_note() -> None:
    """One note per metric would crowd out the notes of other runs."""
    metrics = {"reward": [1.0, 2.0, NAN, 4.0, 5.0], "entropy": [NAN] * 5}
    figure = plot_training_dynamics(make_run(metrics=metrics), smoothing=0)
    (note,) = (note for note in figure.notes if "non-finite" in note)
    assert note.endswith("shown as gaps: 1 in reward, 5 in entropy")
    (missing,) = (note for note in figure.notes if note.startswith("archer: no "))
    assert "entropy/reasoning" in missing
    assert " entropy," not in missing  # it was logged
    assert texts(panels(figure)["Entropy, all tokens"]) == ["no finite value"]
    assert texts(panels(figure)["Entropy, reasoning"]) == ["not logged"]


def test_the_steps_of_a_short_run_are_whole() -> None:
    for steps in ([7], [7, 8]):
        figure = plot_training_dynamics(make_run(steps=steps))
        figure.draw_without_rendering()
        ticks = [tick for tick in figure.axes[0].get_xticks() if steps[0] - 0.5 <= tick <= steps[-1] + 0.5]
        assert ticks == steps


def test_a_value_between_gaps_is_a_dot() -> None:
    run = make_run(metrics={"reward": [1.0, NAN, 3.0, NAN, 5.0]})
    (line,) = panels(plot_training_dynamics(run, smoothing=0))["Reward"].lines
    assert line.get_marker() == "."
    assert line.get_markevery() == [0, 2, 4]


def test_steps_of_other_metrics_are_not_gaps() -> None:
    run = RunLog("archer", {"reward": {1: 1.0, 3: 3.0, 5: 5.0}, "eval_reward": {2: 0.5}})
    (line,) = panels(plot_training_dynamics(run, smoothing=0))["Reward"].lines
    assert line.get_xdata().tolist() == [1, 3, 5]
    assert line.get_ydata().tolist() == [1.0, 3.0, 5.0]


def test_missing_metrics_are_noted() -> None:
    run = make_run("grpo", metrics={"reward": [1.0] * 5, "entropy": [1.0] * 5, "completions/mean_length": [9.0] * 5})
    figure = plot_training_dynamics(run)
    missing = ["completions/repetition", "entropy/reasoning", "entropy/knowledge"]
    assert figure.notes == [f"grpo: no {', '.join(missing)}"]
    for title, (metric, _) in DYNAMICS.items():
        assert texts(panels(figure)[title]) == (["not logged"] if metric in missing else [])
    assert plot_constraints(run).notes == ["grpo: no metric of this figure"]


def test_an_empty_run_is_noted() -> None:
    run = make_run("new", steps=[], metrics={}, notes=("new: no metrics in trainer_state.json yet",))
    figure = plot_training_dynamics([run, make_run()], smoothing=0)
    assert figure.notes == ["new: no metrics in trainer_state.json yet"]
    assert len(panels(figure)["Reward"].lines) == 1
    assert texts(panels(plot_training_dynamics(run))["Reward"]) == ["not logged"]


def test_runs_have_their_colors_and_names() -> None:
    runs = [make_run("archer"), make_run("_base $"), make_run("grpo", steps=[1, 2, 3])]
    figure = plot_training_dynamics(runs, smoothing=0, theme="dark")
    for ax in figure.axes:
        assert [line.get_color() for line in ax.lines] == list(THEMES["dark"].runs[:3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["archer", "_base $", "grpo"]
    assert panels(figure)["Reward"].lines[2].get_xdata().tolist() == [1, 2, 3]
    assert plot_training_dynamics(runs[0]).legends == []


def test_legends_do_not_shrink_the_panels() -> None:
    heights = []
    for count in (2, 16):
        figure = plot_training_dynamics([make_run(f"run {i} of a rather long name") for i in range(count)], smoothing=0)
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
        bottom = figure.legends[0].get_window_extent().y0
        assert bottom > max(ax.get_tightbbox().y1 for ax in figure.axes)
    assert heights[1] == pytest.approx(heights[0], rel=0.05)


def test_constraints_show_runs_by_line_style() -> None:
    figure = plot_constraints([make_run("a"), make_run("b")], smoothing=0)
    lines = panels(figure)["KL from the reference"].lines
    assert [line.get_color() for line in lines] == [THEMES["light"].role(r) for r in ("reasoning", "knowledge")] * 2
    assert len({str(line.get_linestyle()) for line in lines}) == 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["reasoning tokens", "knowledge tokens", "a", "b"]
    with pytest.raises(ValueError, match="up to 4 runs, got 5"):
        plot_constraints([make_run(str(index)) for index in range(5)])


def test_seeds_are_mean_and_range() -> None:
    seeds = [make_run(metrics={"reward": [step * factor for step in STEPS]}) for factor in (1.0, 2.0, 6.0)]
    figure = plot_training_dynamics(seeds, smoothing=0)
    ax = panels(figure)["Reward"]
    assert ax.lines[-1].get_ydata().tolist() == [3.0 * step for step in STEPS]
    (band,) = ax.collections
    assert isinstance(band, FillBetweenPolyCollection)
    vertices = band.get_paths()[0].vertices
    for step in STEPS:
        assert set(vertices[vertices[:, 0] == step, 1]) == {1.0 * step, 6.0 * step}
    assert "archer: mean of 3 seeds, band from minimum to maximum" in figure.notes


def test_the_mean_of_seeds_covers_their_common_steps() -> None:
    long = make_run(steps=[0, 2, 4, 6, 8], metrics={"reward": [0.0, 2.0, 4.0, 6.0, 8.0]})
    short = make_run(steps=[1, 3, 5], metrics={"reward": [3.0, 5.0, 7.0]})
    figure = plot_training_dynamics([long, short], smoothing=0)
    mean = panels(figure)["Reward"].lines[-1]
    assert mean.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert mean.get_ydata().tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    (note,) = (note for note in figure.notes if "seeds" in note)
    assert note.endswith("they end at steps 5, 8, the mean at the first")


def test_a_gap_in_one_seed_is_a_gap_in_the_mean() -> None:
    steps = np.array([1, 2, 3])
    grid, table = mean_and_range([(steps, np.array([1.0, NAN, 3.0])), (steps, np.array([1.0, 2.0, 5.0]))])
    assert grid.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(table, [[1.0, NAN, 4.0], [1.0, NAN, 3.0], [1.0, NAN, 5.0]])


def test_seeds_without_a_metric_are_noted() -> None:
    seeds = [make_run(metrics={"reward": [1.0] * 5}), make_run(metrics={"entropy": [2.0] * 5})]
    figure = plot_training_dynamics(seeds, smoothing=0)
    assert "archer: of 2 seeds, reward in 1, entropy in 1" in figure.notes
    assert panels(figure)["Reward"].lines[-1].get_ydata().tolist() == [1.0] * 5


def test_zero_kl_is_off_the_axis_and_noted() -> None:
    run = make_run(metrics={"kl/reasoning": [0.0, 0.1, 0.2, 0.3, 0.4], "kl/knowledge": [0.0, 0.01, 0.02, 0.03, 0.04]})
    assert "KL: 2 of 10 values are 0 or below and off the logarithmic axis" in plot_constraints(run).notes
    all_zero = make_run(metrics={"kl/reasoning": [0.0] * 5, "kl/knowledge": [0.0] * 5})
    assert panels(plot_constraints(all_zero))["KL from the reference"].get_yscale() == "linear"


def test_panels_of_roles_have_their_colors() -> None:
    axes = panels(plot_training_dynamics(make_run(), theme="dark"))
    for role in ("reasoning", "knowledge"):
        title = axes[f"Entropy, {role}"]._left_title  # type: ignore[attr-defined]
        assert to_hex(title.get_color()) == THEMES["dark"].role(role)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        plot_training_dynamics([])
    with pytest.raises(ValueError, match="smoothing=-1 must be 0"):
        plot_constraints(make_run(), smoothing=-1)
    with pytest.raises(ValueError, match=r"entropy_quantile=1\.0 is outside \(0, 1\)"):
        plot_constraints(make_run(), entropy_quantile=1.0)
