"""
Draws the figure of README from committed results.

python -m benchmarks.figures
"""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trl_archer.figures.style import get_theme, new_figure, own_defaults, percent, title

from .environment import load

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
METHODS = {"archer": "Archer", "grpo": "TRL's GRPO"}
MEASURES = {"avg_at_k": "avg@8: share of samples that are right", "pass_at_k": "pass@8: share of problems solved"}


def playground_data() -> dict[str, Any]:
    """What the figure shows: each measure before training and, for each method, after it, one value per seed."""
    runs = load("playground")["runs"]
    return {
        measure: {
            "before": runs[0]["before"][measure],
            **{method: [run["after"][measure] for run in runs if run["method"] == method] for method in METHODS},
        }
        for measure in MEASURES
    }


@own_defaults()
def plot_playground(data: dict[str, Any], theme: str = "light") -> Figure:
    """
    Accuracy on the playground before and after training, one dot per seed.

    Args:
        data (`dict`): What [`playground_data`] returns.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure.
    """
    colours = get_theme(theme)
    figure, axes = new_figure(colours, 1, 2, height=1.45, sharey=True)
    for ax, (measure, text) in zip(axes[0], MEASURES.items(), strict=True):
        before, after = data[measure]["before"], [data[measure][method] for method in METHODS]
        title(ax, text, colours.ink)
        ax.axvline(before, color=colours.muted, linewidth=1, linestyle=(0, (4, 2)))
        on_left = before < (min(map(min, after)) + max(map(max, after))) / 2
        ax.annotate(
            "before training",
            (before, 0.5),
            xytext=(4 if on_left else -4, 0),
            textcoords="offset points",
            ha="left" if on_left else "right",
            va="center",
            fontsize=7,
            color=colours.muted,
        )
        for row, values in enumerate(after):
            colour = colours.run(row)["color"]
            ax.scatter(values, [row] * len(values), s=22, color=colour, alpha=0.85, linewidths=0, zorder=3)
            ax.vlines(sum(values) / len(values), row - 0.22, row + 0.22, color=colour, linewidth=1.6, zorder=3)
        percent(ax, "x")
        ax.margins(x=0.12)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        ax.set_ylim(len(METHODS) - 0.5, -0.5)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(METHODS)), METHODS.values(), parse_math=False)
    return figure


@own_defaults()
def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    data = playground_data()
    for theme in ("light", "dark"):
        path = FOLDER / f"playground_{theme}.svg"
        # The data stand in the file, so that a test sees whether they are those of the results
        plot_playground(data, theme).savefig(path, metadata={"Date": None, "Description": json.dumps(data)})
        print(path)


if __name__ == "__main__":
    main()
