"""Spread of the mean entropy over batches, prompts and responses, and its effect on a threshold per batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..records.parquet import CompletionRecord, TokenRecords
from .finite_tokens import finite_tokens
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

Floats = NDArray[np.float64]


class EntropySpread(NamedTuple):
    """
    Mean entropy by level and share of reasoning tokens by response.

    Attributes:
        batches (`np.ndarray`): Mean entropy in nats over the tokens of each recorded step.
        prompts (`np.ndarray`): Mean entropy over the responses to one prompt in one step.
        responses (`np.ndarray` of shape `(R,)`): Mean entropy of each response.
        batch_share (`np.ndarray` of shape `(R,)`):
            Share of each response's tokens above the entropy quantile of all tokens of its step.
        response_share (`np.ndarray` of shape `(R,)`): Mean gate of each response, the share in training.
    """

    batches: Floats
    prompts: Floats
    responses: Floats
    batch_share: Floats
    response_share: Floats


def entropy_spread(records: TokenRecords) -> EntropySpread:
    """
    Computes the data of [`plot_entropy_spread`] from the tokens in the loss.

    Args:
        records ([`TokenRecords`]): Recorded completions. Those of dropped groups have no token in the loss.

    Returns:
        [`EntropySpread`]: means and shares.

    Raises:
        ValueError: If the settings lack `entropy_quantile`.
    """
    quantile = records.settings.get("entropy_quantile")
    if quantile is None:
        raise ValueError("The settings of the records have no entropy_quantile; record the tokens again.")
    by_step: dict[int, list[CompletionRecord]] = {}
    for record in records.completions:
        if record.mask.any():
            by_step.setdefault(record.step, []).append(record)

    batches, prompts, responses, batch_share, response_share = [], [], [], [], []
    for step in by_step.values():
        threshold = np.quantile(_entropies(step), quantile)
        batches.append(_entropies(step).mean())
        by_prompt: dict[str, list[CompletionRecord]] = {}
        for record in step:
            by_prompt.setdefault(record.prompt, []).append(record)
            entropies = _entropies([record])
            responses.append(entropies.mean())
            batch_share.append((entropies > threshold).mean())
            response_share.append(record.gate[record.mask].mean(dtype=np.float64))
        prompts += [_entropies(group).mean() for group in by_prompt.values()]
    return EntropySpread(*map(np.array, (batches, prompts, responses, batch_share, response_share)))


def _entropies(records: Sequence[CompletionRecord]) -> Floats:
    return np.concatenate([record.entropies[record.mask] for record in records]).astype(np.float64)


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
    finite, notes, none = finite_tokens(records)
    colors, spread = get_theme(theme), entropy_spread(finite)
    figure, axes = new_figure(colors, 1, 2, height=3.1, width_ratios=(1, 1.25))
    means, shares = axes[0]
    title(means, "Mean entropy", colors.ink)
    means.set_ylabel("nats per token")
    title(shares, "Reasoning tokens per response", colors.ink)
    shares.set_xlabel("mean entropy of the response, nats per token")
    shares.set_ylabel("share of reasoning tokens")
    without = len(records.completions) - len(spread.responses)
    if without:
        notes.append(f"{without} of {len(records.completions)} completions have {none} and are left out")
    if len(spread.responses):
        _draw_means(means, spread, colors)
        _draw_shares(shares, spread, records.settings["entropy_quantile"], colors)
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
    for name, values, place in (("batch", spread.batch_share, 2), ("response", spread.response_share, 1)):
        points = ax.scatter(
            spread.responses, values, s=11, color=colors.runs[place], alpha=0.6, linewidth=0, rasterized=True
        )
        handles.append(points)
        labels.append(f"one threshold per {name}: {values.min():.2%} to {values.max():.2%}")
    nominal = 1 - quantile
    handles.append(ax.axhline(nominal, color=colors.muted, zorder=1, **NOMINAL))
    labels.append(nominal_share(quantile))
    percent(ax)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
    highest = max(spread.batch_share.max(), spread.response_share.max(), nominal)
    ax.set_ylim(-0.03 * highest, 1.5 * highest)  # room for the legend above all points
    legend(ax, handles, labels, colors, loc="upper left", handletextpad=0.2, borderpad=0.2)
