"""
Draws the figures of docs/evidence.md from results/study.json.

python -m benchmarks.study.figures
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trl_archer.evaluation.comparison import t_interval
from trl_archer.figures.style import add_notes, get_theme, legend_above, new_figure, own_style, percent, title

from ..figures import FOLDER, THEMES
from .methods import MAIN
from .tables import Row, compared_tasks, last, runs_of
from .tasks import K

PANELS = {
    "countdown": {"avg": f"avg@{K}", f"pass@{K}": f"pass@{K}", "entropy": "entropy (nats)"},
    "shop": {"avg": f"avg@{K}", "facts-unused": "prices of unused goods", "entropy": "entropy (nats)"},
    "search": {"avg": f"avg@{K}", "completions/mean_length": "tokens per response", "entropy": "entropy (nats)"},
}
SHARES = ("avg", f"pass@{K}", "facts-unused")


@own_style
def plot_task(task: str, theme: str = "light") -> Figure:
    """Learning curves of the main methods on a task: mean over seeds, with its 95% interval."""
    colors = get_theme(theme)
    runs = {method: own for method, own in runs_of(task, "comparison").items() if method in MAIN}
    start = runs_of(task, "warm-start")["warm-start"][0]
    figure, axes = new_figure(colors, 1, 3, height=2.3)
    handles: list = []
    for ax, (name, text) in zip(axes[0], PANELS[task].items(), strict=True):
        title(ax, text, colors.ink)
        lines = [_curve(ax, own, name, last(start, name), colors.run(index)) for index, own in enumerate(runs.values())]
        handles = handles or lines
        ax.set_xlabel("optimizer step")
        if name in SHARES:
            percent(ax)
    legend_above(figure, handles, list(runs), colors)
    seeds = min(map(len, runs.values()))
    add_notes(figure, [f"Mean over {seeds} training seeds; bands: 95% t interval of the mean."], colors)
    return figure


def _curve(ax: Axes, own: dict[int, Row], name: str, start: float | None, line: dict) -> object:
    """Draws the mean over seeds, from the warm start on where it has been measured."""
    rows = [row for row in own.values() if name in row["curves"]]
    steps, values = rows[0]["steps"], np.array([row["curves"][name] for row in rows], dtype=float)
    if start is not None and name in SHARES:
        steps, values = [0, *steps], np.hstack([np.full((len(rows), 1), start), values])
    (drawn,) = ax.plot(steps, values.mean(0), linewidth=1.4, **line)
    if len(rows) > 1:
        ends = np.array([t_interval(column) for column in values.T.tolist()])
        ax.fill_between(
            steps, *(np.clip(ends, 0, 1) if name in SHARES else ends).T, color=line["color"], alpha=0.1, linewidth=0
        )
    return drawn


@own_style
def main() -> None:
    for task in compared_tasks():
        for theme in THEMES:
            path = FOLDER / f"study_{task}_{theme}.svg"
            plot_task(task, theme).savefig(path, metadata={"Date": None})
            print(path)


if __name__ == "__main__":
    main()
