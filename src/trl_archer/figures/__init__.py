"""
Figures of training runs, token records and evaluations. Needs matplotlib: `pip install 'trl-archer[plots]'`.

Every `plot_*` function returns a [`~matplotlib.figure.Figure`]; [`save`] writes it. The figure and its `notes` list
what could not be drawn.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .accuracy import SampleCounts, plot_accuracy_curves
    from .clip_plane import plot_clip_plane
    from .entropy_spread import plot_entropy_spread
    from .frequent_tokens import plot_frequent_tokens
    from .logs import RunLog, read_run, read_runs
    from .style import save
    from .token_view import write_token_view
    from .training import plot_constraints, plot_training_dynamics

# Public name -> module. Loaded on first use: reading logs and writing the token view need no matplotlib.
_PUBLIC = {
    **dict.fromkeys(("RunLog", "read_run", "read_runs"), ".logs"),
    **dict.fromkeys(("SampleCounts", "plot_accuracy_curves"), ".accuracy"),
    **dict.fromkeys(("plot_constraints", "plot_training_dynamics"), ".training"),
    **{f"plot_{name}": f".{name}" for name in ("clip_plane", "entropy_spread", "frequent_tokens")},
    "save": ".style",
    "write_token_view": ".token_view",
}
__all__ = [
    "RunLog",
    "SampleCounts",
    "plot_accuracy_curves",
    "plot_clip_plane",
    "plot_constraints",
    "plot_entropy_spread",
    "plot_frequent_tokens",
    "plot_training_dynamics",
    "read_run",
    "read_runs",
    "save",
    "write_token_view",
]


def __getattr__(name: str) -> Any:
    try:
        return load_public(__name__, _PUBLIC, name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError(f"{name} needs matplotlib. Run `pip install 'trl-archer[plots]'`.") from error


def __dir__() -> list[str]:
    return sorted(__all__)
