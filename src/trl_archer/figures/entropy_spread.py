"""Spread of the mean entropy over batches, prompts and responses, and its effect on a threshold per batch."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .style import (
    NOMINAL,
    NotedFigure,
    Theme,
    add_notes,
    empty_panel,
    get_theme,
    legend,
    new_figure,
    nominal_share,
    own_style,
    percent,
    title,
)
from .token_table import token_table

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = NDArray[np.float64]


class EntropySpread(NamedTuple):
    """Mean entropies in nats, and shares of reasoning tokens by response. Those in training are `response_share`."""

    batches: Floats
    prompts: Floats  # over the responses to one prompt in one step
    responses: Floats
    batch_share: Floats  # above the entropy quantile of all tokens of the step
    response_share: Floats


def entropy_spread(tokens: "DataFrame", quantile: float) -> EntropySpread:
    steps, responses = tokens.groupby("step"), tokens.groupby("completion")
    above = tokens.entropies > steps.entropies.transform("quantile", quantile)
    means = (
        steps.entropies.mean(),
        tokens.groupby(["step", "prompt"], sort=False).entropies.mean(),
        responses.entropies.mean(),
        above.groupby(tokens.completion).mean(),
        responses.gate.mean(),
    )
    return EntropySpread(*(values.to_numpy(np.float64) for values in means))


@own_style
def plot_entropy_spread(records: TokenRecords, theme: str = "light") -> NotedFigure:
    """
    Mean entropy per batch, prompt and response, and the share of reasoning tokens in each response with one threshold
    per batch and with one threshold per response.

    Args:
        records ([`TokenRecords`]): Recorded completions, preferably from several steps.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If the settings lack `entropy_quantile`.
    """
    quantile = records.settings.get("entropy_quantile")
    if quantile is None:
        raise ValueError("The settings of the records have no entropy_quantile; record the tokens again.")
    colors, (tokens, notes, none) = get_theme(theme), token_table(records)
    figure, axes = new_figure(colors, 1, 2, height=3.1, width_ratios=(1, 1.25))
    means, shares = axes[0]
    title(means, "Mean entropy", colors.ink)
    means.set_ylabel("nats per token")
    title(shares, "Reasoning tokens per response", colors.ink)
    shares.set_xlabel("mean entropy of the response, nats per token")
    shares.set_ylabel("share of reasoning tokens")
    without = len(records.completions) - tokens.completion.nunique()
    if without:
        notes.append(f"{without} of {len(records.completions)} completions have {none} and are left out")
    if len(tokens):
        spread = entropy_spread(tokens, quantile)
        _draw_means(means, spread, colors)
        _draw_shares(shares, spread, quantile, colors)
    else:
        for ax in (means, shares):
            empty_panel(ax, none, colors)
    add_notes(figure, notes, colors)
    return figure


def _draw_means(ax: Axes, spread: EntropySpread, colors: Theme) -> None:
    generator = np.random.default_rng(0)
    names = []
    for place, level in enumerate(("batches", "prompts", "responses")):
        values = getattr(spread, level)
        names.append(f"{level}\n(n = {len(values):,})")
        jitter = generator.uniform(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
        ax.scatter(place + jitter, values, s=7, color=colors.muted, alpha=0.55, linewidth=0, rasterized=True)
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
        ax.plot([place + 0.32] * 2, [low, high], color=colors.ink, linewidth=1.2, solid_capstyle="butt")
        ax.plot(place + 0.32, middle, marker="o", markersize=4, color=colors.ink)
    ax.set_xticks(range(3), names)
    ax.set_xlim(-0.5, 2.6)
    ax.set_ylim(bottom=0)
    ax.grid(False, axis="x")
    ax.set_xlabel("bars: 5th to 95th percentile, dot: median", color=colors.muted, fontsize=7)


def _draw_shares(ax: Axes, spread: EntropySpread, quantile: float, colors: Theme) -> None:
    handles: list[Artist] = []
    labels = []
    for name, values, color in (
        ("batch", spread.batch_share, colors.runs[2]),
        ("response", spread.response_share, colors.runs[1]),
    ):
        handles.append(ax.scatter(spread.responses, values, s=11, color=color, alpha=0.6, linewidth=0, rasterized=True))
        labels.append(f"one threshold per {name}: {values.min():.2%} to {values.max():.2%}")
    nominal = 1 - quantile
    handles.append(ax.axhline(nominal, color=colors.muted, zorder=1, **NOMINAL))
    labels.append(nominal_share(quantile))
    percent(ax)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
    highest = max(spread.batch_share.max(), spread.response_share.max(), nominal)
    ax.set_ylim(-0.03 * highest, 1.5 * highest)  # room for the legend above all points
    legend(ax, handles, labels, colors, loc="upper left", handletextpad=0.2, borderpad=0.2)
