"""
Figures of the method and of runs with it; needs matplotlib, `pip install trl-archer[plots]`.

Every `plot_*` function returns a [`~matplotlib.figure.Figure`] that belongs to no window; [`save`] writes it. What
could not be drawn is told on the figure and in its `notes`.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .accuracy import SampleCounts as SampleCounts
    from .accuracy import plot_accuracy_curves as plot_accuracy_curves
    from .clip_plane import plot_clip_plane as plot_clip_plane
    from .entropy_spread import plot_entropy_spread as plot_entropy_spread
    from .frequent_tokens import plot_frequent_tokens as plot_frequent_tokens
    from .logs import RunLog as RunLog
    from .logs import read_run as read_run
    from .logs import read_runs as read_runs
    from .style import save as save
    from .token_view import write_token_view as write_token_view
    from .training import plot_constraints as plot_constraints
    from .training import plot_training_dynamics as plot_training_dynamics

# Public name -> module. Loaded on first use: logs are read, and the token view is written, without matplotlib.
_PUBLIC = {
    "RunLog": ".logs",
    "SampleCounts": ".accuracy",
    "plot_accuracy_curves": ".accuracy",
    "plot_clip_plane": ".clip_plane",
    "plot_constraints": ".training",
    "plot_entropy_spread": ".entropy_spread",
    "plot_frequent_tokens": ".frequent_tokens",
    "plot_training_dynamics": ".training",
    "read_run": ".logs",
    "read_runs": ".logs",
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
        raise ImportError(f"{name} needs matplotlib; `pip install trl-archer[plots]` to draw.") from error


def __dir__() -> list[str]:
    return sorted(__all__)
