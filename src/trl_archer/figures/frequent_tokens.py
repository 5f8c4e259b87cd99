"""The tokens that are most often reasoning and most often knowledge."""

import unicodedata
from typing import Any, NamedTuple

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..records.parquet import TokenRecords
from .finite_tokens import finite_tokens
from .style import NotedFigure, Theme, add_notes, empty_panel, get_theme, new_figure, own_style, percent, title

_LONGEST = 20  # characters of a label


class TokenShare(NamedTuple):
    """
    One token of the vocabulary.

    Attributes:
        token_id (`int`): Its id.
        text (`str`): Its decoded piece.
        occurrences (`int`): Number of occurrences in the loss.
        reasoning_share (`float`): Its mean gate; with a hard split, the share of its occurrences that are reasoning.
    """

    token_id: int
    text: str
    occurrences: int
    reasoning_share: float


def token_shares(records: TokenRecords) -> list[TokenShare]:
    """
    Counts the tokens in the loss.

    Args:
        records ([`TokenRecords`]): Recorded completions.

    Returns:
        `list[TokenShare]`: One entry per token id, by id.
    """
    texts: dict[int, str] = {}
    ids: list[NDArray[Any]] = [np.empty(0, dtype=np.int32)]
    gates: list[NDArray[Any]] = [np.empty(0)]
    for record in records.completions:
        ids.append(record.token_ids[record.mask])
        gates.append(record.gate[record.mask])
        texts.update(zip(record.token_ids.tolist(), record.tokens, strict=True))
    unique, inverse, counts = np.unique(np.concatenate(ids), return_inverse=True, return_counts=True)
    shares = np.bincount(inverse, weights=np.concatenate(gates), minlength=len(unique)) / counts
    return [
        TokenShare(token, texts[token], count, share)
        for token, count, share in zip(unique.tolist(), counts.tolist(), shares.tolist(), strict=True)
    ]


def ranked_tokens(shares: list[TokenShare], top: int, min_count: int) -> tuple[list[TokenShare], list[TokenShare]]:
    """
    Ranks the tokens of each role.

    A token is listed under reasoning if its share is above the share of all tokens together, else under knowledge.
    Equal shares are ranked by count, then by id.

    Args:
        shares (`list[TokenShare]`): All tokens.
        top (`int`): Maximum length of a list.
        min_count (`int`): Minimum number of occurrences of a token.

    Returns:
        `tuple[list[TokenShare], list[TokenShare]]`: reasoning tokens, highest share first, and knowledge tokens,
        lowest share first.
    """
    overall = overall_share(shares)
    frequent = [token for token in shares if token.occurrences >= min_count]
    reasoning = [token for token in frequent if token.reasoning_share > overall]
    knowledge = [token for token in frequent if token.reasoning_share <= overall]
    reasoning.sort(key=lambda token: (-token.reasoning_share, -token.occurrences, token.token_id))
    knowledge.sort(key=lambda token: (token.reasoning_share, -token.occurrences, token.token_id))
    return reasoning[:top], knowledge[:top]


def overall_share(shares: list[TokenShare]) -> float:
    """Share of reasoning among the occurrences of all tokens; 0 if there are none."""
    return sum(token.occurrences * token.reasoning_share for token in shares) / max(
        sum(t.occurrences for t in shares), 1
    )


@own_style
def plot_frequent_tokens(
    records: TokenRecords, top: int = 20, min_count: int = 100, font: str = "DejaVu Sans", theme: str = "light"
) -> NotedFigure:
    """
    Tokens ranked by the share of their occurrences that are reasoning, and that are knowledge.

    Spaces, line breaks and tabs are drawn as symbols. Other characters without a glyph in `font` are escaped.

    Args:
        records ([`TokenRecords`]): Recorded completions, preferably from many steps.
        top (`int`, *optional*, defaults to `20`): Number of tokens of each role.
        min_count (`int`, *optional*, defaults to `100`): Minimum number of occurrences of a token, as in the paper.
        font (`str`, *optional*, defaults to `"DejaVu Sans"`):
            Installed font for the tokens, for example `"Noto Sans CJK SC"` for Chinese.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure; its `notes` list what is missing.

    Raises:
        ValueError: If `top` or `min_count` is below 1 or the font is not installed.
    """
    for name, value in (("top", top), ("min_count", min_count)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    finite, left_out, none = finite_tokens(records)
    colors, glyphs, shares = get_theme(theme), font_glyphs(font), token_shares(finite)
    lists = dict(zip(("reasoning", "knowledge"), ranked_tokens(shares, top, min_count), strict=True))
    longest = max(len(tokens) for tokens in lists.values())
    figure, axes = new_figure(colors, 1, 2, height=1.1 + 0.165 * max(longest, 5))
    overall = overall_share(shares)
    for ax, (role, tokens) in zip(axes[0], lists.items(), strict=True):
        title(ax, f"{role.capitalize()} tokens", colors.role(role))
        ax.set_xlabel(f"share of occurrences that are {role}")
        if not tokens:
            empty_panel(ax, f"no token with {min_count} or more occurrences", colors)
            continue
        values = [t.reasoning_share if role == "reasoning" else 1 - t.reasoning_share for t in tokens]
        _draw_bars(ax, tokens, values, longest, colors.role(role), colors)
        ax.axvline(
            overall if role == "reasoning" else 1 - overall, color=colors.ink, linewidth=0.9, linestyle=(0, (1, 2))
        )
        ax.set_yticks(range(len(tokens)), token_labels(tokens, glyphs), parse_math=False, fontfamily=font)

    notes = [f"Numbers at the bars: occurrences. Dotted line: all tokens, {overall:.1%} reasoning."]
    rare = sum(token.occurrences < min_count for token in shares)
    if rare:
        notes.append(f"{rare:,} of {len(shares):,} distinct tokens occur fewer than {min_count} times and are left out")
    add_notes(figure, left_out + (notes if shares else [f"The records hold {none}."]), colors)
    return figure


def _draw_bars(ax: Axes, tokens: list[TokenShare], values: list[float], places: int, color: str, colors: Theme) -> None:
    ax.barh(range(len(tokens)), values, height=0.72, color=color, alpha=0.85)
    for place, (token, value) in enumerate(zip(tokens, values, strict=True)):
        ax.text(value + 0.01, place, _short(token.occurrences), va="center", fontsize=6, color=colors.muted)
    ax.set_ylim(places - 0.4, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    percent(ax, "x")


def _short(count: int) -> str:
    """A count in about four characters."""
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1_000_000 if unit == 'M' else 1000):.3g}{unit}"
    return f"{count:,}"


def font_glyphs(font: str) -> set[int]:
    """Code points in an installed font."""
    try:
        return set(font_manager.get_font(font_manager.findfont(font, fallback_to_default=False)).get_charmap())
    except ValueError as error:
        raise ValueError(f"font={font!r} is not installed; install it or pass another font.") from error


def token_labels(tokens: list[TokenShare], glyphs: set[int]) -> list[str]:
    """Visible text of each token. Tokens that look the same get their ids."""
    labels = [visible(token.text, glyphs) for token in tokens]
    return [
        label if labels.count(label) == 1 else f"{label} #{token.token_id}"
        for label, token in zip(labels, tokens, strict=True)
    ]


def visible(text: str, glyphs: set[int]) -> str:
    """
    A token with all characters visible, truncated if it is long.

    Args:
        text (`str`): The token.
        glyphs (`set[int]`): Code points in the font.

    Returns:
        `str`: the token with symbols for space, line break and tab, and escapes for other invisible characters.

    Example:

    ```python
    >>> visible(" so\\n\\x07", set(range(128)))
    '␣so↵\\\\x07'

    ```
    """
    symbols = {" ": "␣", "\n": "↵", "\t": "⇥"}
    shown = "".join(symbols.get(c) or (c if _is_visible(c, glyphs) else _escape(c)) for c in text) or "(empty)"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _is_visible(character: str, glyphs: set[int]) -> bool:
    return ord(character) in glyphs and unicodedata.category(character)[0] not in "CZM"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
