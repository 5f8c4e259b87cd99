"""
Draws the real model's runs for docs/gpu.md: curves of both methods, and the tokens that the objective saw.

python -m benchmarks.real_model.figures
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.environment import RESULTS
from trl_archer.figures import plot_entropy_spread, plot_frequent_tokens, write_token_view
from trl_archer.figures.style import Theme, add_notes, get_theme, new_figure, own_style, title
from trl_archer.records import read_token_records

FOLDER = Path(__file__).parents[2] / "docs" / "figures"
THEMES = ("light", "dark")
TITLES = {"archer": "Archer", "grpo": "GRPO"}
# Panels: a curve of the trainer's log, or a measure between updates
PANELS = {
    "reward": "reward of the rollout",
    "avg_at_k": "avg@8, held out",
    "entropy/reasoning": "entropy of reasoning tokens, nats",
    "kl/reasoning": "KL of reasoning tokens, nats",
    "kl/knowledge": "KL of knowledge tokens, nats",
    "facts: nats": "surprise at other facts, nats",
}


def curve(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """Points of a panel: the log's for the reward, otherwise the measurements before, during and after training."""
    if name == "reward":
        return [(step, value) for step, value in run["curves"]["reward"]]
    points = [(0, run["before"]), *((found["step"], found) for found in run["during"]), (run["updates"], run["after"])]
    return [(step, found[name]) for step, found in points if name in found]


@own_style
def plot_runs(runs: list[dict[str, Any]], theme: str = "light") -> Figure:
    """
    Curves of both methods; a line per method is the mean of its seeds, pale lines are the seeds.

    Args:
        runs (`list[dict]`): Finished runs of one scale, from `results/real_model.json`.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.
    """
    colors = get_theme(theme)
    figure, axes = new_figure(colors, 2, 3, height=4.2)
    for ax, (name, text) in zip(axes.flat, PANELS.items(), strict=True):
        title(ax, text, colors.ink)
        for row, method in enumerate(TITLES):
            _draw(ax, [curve(run, name) for run in runs if run["method"] == method], method, row, colors)
    axes.flat[0].legend(frameon=False, fontsize=7)
    for ax in axes[1]:
        ax.set_xlabel("updates")
    seeds = {run["seed"] for run in runs}
    add_notes(figure, [f"{len(seeds)} seed{'s' * (len(seeds) > 1)} per method."], colors)
    return figure


def _draw(ax: Axes, seeds: list[list[tuple[int, float]]], method: str, row: int, colors: Theme) -> None:
    color = colors.run(row)["color"]
    for points in seeds:
        ax.plot(*zip(*points, strict=True), color=color, alpha=0.35 if len(seeds) > 1 else 1.0, linewidth=1.2)
    common = sorted(set.intersection(*({step for step, _ in points} for points in seeds))) if seeds else []
    means = [np.mean([dict(points)[step] for points in seeds]) for step in common]
    ax.plot(common, means, color=color, linewidth=1.6, label=TITLES[method])


def draw(scale: str) -> None:
    """Draws everything that there is of a scale."""
    runs = json.loads((RESULTS / "real_model.json").read_text())["runs"]
    finished = [run for run in runs if run["scale"]["name"] == scale and "after" in run]
    records = RESULTS / "real_model" / scale
    for theme in THEMES:
        if finished:
            plot_runs(finished, theme).savefig(FOLDER / f"real_model_{scale}_{theme}.svg", metadata={"Date": None})
        if records.exists():
            tokens = read_token_records(records)
            spread, frequent = plot_entropy_spread(tokens, theme), plot_frequent_tokens(tokens, 15, 20, theme=theme)
            spread.savefig(FOLDER / f"real_model_{scale}_spread_{theme}.svg", metadata={"Date": None})
            frequent.savefig(FOLDER / f"real_model_{scale}_tokens_{theme}.svg", metadata={"Date": None})
    if records.exists():
        write_token_view(read_token_records(records), f"runs/real_model_{scale}.html", title="Leg counting")


def main() -> None:
    if not (RESULTS / "real_model.json").exists():
        print("There are no results of the real model. Run `make bench-real`.")
        return
    for scale in ("gpu", "cpu"):
        draw(scale)


if __name__ == "__main__":
    main()
