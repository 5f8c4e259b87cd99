"""Clouds of the tokens whose entropy is highest, and lowest, on average."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .finite_tokens import finite_tokens
from .frequent_tokens import TokenShare, font_glyphs, token_labels, token_shares
from .style import WIDTH, NotedFigure, add_notes, get_theme, new_figure, nothing, own_defaults, title

_WIDEST = 72 * (WIDTH - 0.3)  # points
_SMALLEST, _LARGEST = 7.0, 26.0  # points of type
_GAP = 2.5  # points between two words
_HEADING = 0.4  # inches


class Word(NamedTuple):
    """
    A word and its place.

    Attributes:
        text (`str`): What is drawn.
        size (`float`): Size of its type in points.
        box (`tuple[float, float, float, float]`): Left, bottom, right and top of its ink in points.
    """

    text: str
    size: float
    box: tuple[float, float, float, float]


def extreme_tokens(shares: list[TokenShare], top: int, min_count: int) -> tuple[list[TokenShare], list[TokenShare]]:
    """
    Tokens of highest and of lowest mean entropy.

    A token is high if its mean lies above that of all tokens taken together, low otherwise, so that none is both.

    Args:
        shares (`list[TokenShare]`): The tokens, all of them.
        top (`int`): Longest list.
        min_count (`int`): Fewest occurrences of a token in a list.

    Returns:
        `tuple[list[TokenShare], list[TokenShare]]`: highest first, and lowest first; equal ones by count, then by id.
    """
    overall = overall_entropy(shares)
    frequent = [token for token in shares if token.occurrences >= min_count]
    high = [token for token in frequent if token.mean_entropy > overall]
    low = [token for token in frequent if token.mean_entropy <= overall]
    high.sort(key=lambda token: (-token.mean_entropy, -token.occurrences, token.token_id))
    low.sort(key=lambda token: (token.mean_entropy, -token.occurrences, token.token_id))
    return high[:top], low[:top]


def overall_entropy(shares: list[TokenShare]) -> float:
    """Mean entropy of all occurrences of all tokens in nats; 0 if there are none."""
    return sum(token.occurrences * token.mean_entropy for token in shares) / max(sum(t.occurrences for t in shares), 1)


@own_defaults()
def plot_token_clouds(
    records: TokenRecords, top: int = 100, min_count: int = 100, font: str = "DejaVu Sans", theme: str = "light"
) -> NotedFigure:
    """
    Tokens of highest and of lowest mean entropy, the larger the more often they occur.

    Spaces, line ends and tabs are drawn as symbols, other characters without a glyph in `font` as escapes.

    Args:
        records ([`TokenRecords`]): Recorded completions, best of many steps.
        top (`int`, *optional*, defaults to `100`): Tokens of each cloud, as in the paper.
        min_count (`int`, *optional*, defaults to `100`): Fewest occurrences of a token, as in the paper.
        font (`str`, *optional*, defaults to `"DejaVu Sans"`):
            Installed font for the tokens, such as `"Noto Sans CJK SC"` for Chinese ones.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` tell the scale, and what is missing.

    Raises:
        ValueError: If `top` or `min_count` is below 1 or the font is not installed.
    """
    for name, value in (("top", top), ("min_count", min_count)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    finite, left_out, none = finite_tokens(records)
    colours, glyphs, shares = get_theme(theme), font_glyphs(font), token_shares(finite)
    lists = dict(zip(("highest", "lowest"), extreme_tokens(shares, top, min_count), strict=True))
    drawn = [token.occurrences for tokens in lists.values() for token in tokens]
    clouds = {
        name: arrange(token_labels(tokens, glyphs), _sizes([token.occurrences for token in tokens], drawn), font)
        for name, tokens in lists.items()
    }
    heights = [max((word.box[3] for word in words), default=60.0) / 72 + _HEADING for words in clouds.values()]
    figure, axes = new_figure(colours, 2, 1, height=sum(heights), height_ratios=heights)
    for ax, (name, words), role in zip(axes[:, 0], clouds.items(), ("reasoning", "knowledge"), strict=True):
        ax.set_axis_off()
        colour, entropies = colours.role(role), [token.mean_entropy for token in lists[name]]
        if not words:
            title(ax, f"Tokens of {name} entropy", colour)
            nothing(ax, f"no token of {min_count} occurrences or more", colours)
            continue
        title(ax, f"Tokens of {name} entropy, {min(entropies):.3g} to {max(entropies):.3g} nats on average", colour)
        _draw(ax, words, font, colour)

    notes = [f"The mean over all tokens is {overall_entropy(shares):.3g} nats."]
    if drawn:
        notes.append(f"Size: occurrences, from {min(drawn):,} to {max(drawn):,}, on a logarithmic scale.")
    rare = sum(token.occurrences < min_count for token in shares)
    if rare:
        notes.append(f"{rare:,} of {len(shares):,} distinct tokens occur fewer than {min_count} times and are left out")
    add_notes(figure, left_out + (notes if shares else [f"The records hold {none}."]), colours)
    return figure


def _sizes(counts: Sequence[int], drawn: Sequence[int]) -> list[float]:
    """Sizes of type for counts, between those of the rarest and of the most frequent token that is drawn."""
    low, high = (math.log(bound(drawn, default=1)) for bound in (min, max))
    return [_SMALLEST + (_LARGEST - _SMALLEST) * (math.log(n) - low) / ((high - low) or 1) for n in counts]


def arrange(texts: Sequence[str], sizes: Sequence[float], font: str) -> list[Word]:
    """
    Places words without an overlap: the largest in the middle, each other as near to it as there is room.

    Args:
        texts (`Sequence[str]`): The words.
        sizes (`Sequence[float]`): Size of each in points.
        font (`str`): Name of the font.

    Returns:
        `list[Word]`: Largest first, in a band of a page's width that starts at a height of 0. The same words give the
        same places every time.
    """
    spiral = _spiral()
    order = sorted(range(len(texts)), key=lambda i: -sizes[i])
    boxes = np.empty((0, 4))
    for i in order:
        ink = _outline(texts[i], sizes[i], font).get_extents()
        half = np.array([ink.width, ink.height]) / 2
        inside = spiral[np.abs(spiral[:, 0]) + half[0] <= max(_WIDEST / 2, half[0])]
        centre = _first_free(inside, half, boxes)
        boxes = np.vstack([boxes, [*(centre - half), *(centre + half)]])
    if len(boxes):
        boxes[:, 1::2] -= boxes[:, 1].min()
    return [
        Word(texts[i], sizes[i], (x0, y0, x1, y1)) for i, (x0, y0, x1, y1) in zip(order, boxes.tolist(), strict=True)
    ]


def _outline(text: str, size: float, font: str) -> TextPath:
    return TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=FontProperties(font))  # or it reads mathematics


def _first_free(centres: NDArray[Any], half: NDArray[Any], boxes: NDArray[Any], chunk: int = 500) -> NDArray[Any]:
    for start in range(0, len(centres), chunk):
        few = centres[start : start + chunk]
        low, high = few - half - _GAP, few + half + _GAP
        apart = (low[:, None] >= boxes[:, 2:]) | (high[:, None] <= boxes[:, :2])
        free = few[apart.any(axis=2).all(axis=1)]
        if len(free):
            return free[0]
    return np.array([0.0, boxes[:, 1].min() - half[1] - _GAP])  # the spiral is full: below everything


def _spiral() -> NDArray[np.float64]:
    """Points from the middle outwards, wider than high, about 5 points apart."""
    angle = np.sqrt(np.arange(40_000)) * 0.7
    return np.column_stack([2.2 * angle * np.cos(angle), angle * np.sin(angle)]) * 2.5


def _draw(ax: Axes, words: Sequence[Word], font: str, colour: str) -> None:
    for word in words:
        path = _outline(word.text, word.size, font)
        ink = path.get_extents()
        shift = Affine2D().translate(word.box[0] - ink.x0, word.box[1] - ink.y0)
        ax.add_patch(PathPatch(shift.transform_path(path), color=colour, linewidth=0, label=word.text))
    ax.set_xlim(-_WIDEST / 2, _WIDEST / 2)
    ax.set_ylim(0, max(word.box[3] for word in words))
    ax.set_aspect("equal")
