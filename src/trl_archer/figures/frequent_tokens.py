"""The tokens that are most often reasoning and most often knowledge."""

import unicodedata
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.axes import Axes

from ..records.parquet import TokenRecords
from .style import NOMINAL, NotedFigure, Theme, add_notes, empty_panel, get_theme, new_figure, own_style, percent, title
from .token_table import token_table

if TYPE_CHECKING:
    from pandas import DataFrame

_LONGEST = 20  # characters of a label
_SYMBOLS = {" ": "␣", "\n": "↵", "\t": "⇥"}


def token_shares(tokens: "DataFrame") -> "DataFrame":
    """
    One row per token id, with its `text`, `occurrences` and `reasoning`: its mean gate. With a hard split that is the
    share of its occurrences that are reasoning.
    """
    return tokens.groupby("token_ids").agg(
        text=("tokens", "last"), occurrences=("gate", "size"), reasoning=("gate", "mean")
    )


def ranked_tokens(shares: "DataFrame", overall: float, top: int, min_count: int) -> dict[str, "DataFrame"]:
    """
    The `top` tokens of each role, highest share first. A token is reasoning if its share is above that of all tokens,
    `overall`, else knowledge. Equal shares are ranked by count, then by id.
    """
    frequent = shares[shares.occurrences >= min_count]
    above, order = frequent.reasoning > overall, ["reasoning", "occurrences", "token_ids"]
    return {
        "reasoning": frequent[above].sort_values(order, ascending=[False, False, True]).head(top),
        "knowledge": frequent[~above].sort_values(order, ascending=[True, False, True]).head(top),
    }


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
    colors, glyphs = get_theme(theme), _glyphs(font)
    tokens, notes, none = token_table(records)
    shares, overall = token_shares(tokens), tokens.gate.mean()
    ranked = ranked_tokens(shares, overall, top, min_count)
    places = max(map(len, ranked.values()))
    figure, axes = new_figure(colors, 1, 2, height=1.1 + 0.165 * max(places, 5))
    for ax, (role, chosen) in zip(axes[0], ranked.items(), strict=True):
        title(ax, f"{role.capitalize()} tokens", colors.role(role))
        ax.set_xlabel(f"share of occurrences that are {role}")
        if chosen.empty:
            empty_panel(ax, f"no token with {min_count} or more occurrences", colors)
            continue
        is_role = chosen.reasoning if role == "reasoning" else 1 - chosen.reasoning
        _draw_bars(ax, is_role.tolist(), chosen.occurrences.tolist(), places, colors.role(role), colors)
        ax.axvline(overall if role == "reasoning" else 1 - overall, color=colors.ink, **NOMINAL | {"linewidth": 0.9})
        ax.set_yticks(range(len(chosen)), _labels(chosen, glyphs), parse_math=False, fontfamily=font)

    if shares.empty:
        notes.append(f"The records hold {none}.")
    else:
        notes.append(f"Numbers at the bars: occurrences. Dotted line: all tokens, {overall:.1%} reasoning.")
    rare = (shares.occurrences < min_count).sum()
    if rare:
        notes.append(f"{rare:,} of {len(shares):,} distinct tokens occur fewer than {min_count} times and are left out")
    add_notes(figure, notes, colors)
    return figure


def _draw_bars(ax: Axes, shares: list[float], counts: list[int], places: int, color: str, colors: Theme) -> None:
    ax.barh(range(len(shares)), shares, height=0.72, color=color, alpha=0.85)
    for place, (share, count) in enumerate(zip(shares, counts, strict=True)):
        ax.text(share + 0.01, place, _short(count), va="center", fontsize=6, color=colors.muted)
    ax.set_ylim(places - 0.4, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    percent(ax, "x")


def _short(count: int) -> str:
    """A count in about four characters."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.3g}k" if count < 1_000_000 else f"{count / 1_000_000:.3g}M"


def _glyphs(font: str) -> set[int]:
    """Code points in an installed font."""
    try:
        return set(font_manager.get_font(font_manager.findfont(font, fallback_to_default=False)).get_charmap())
    except ValueError as error:
        raise ValueError(f"font={font!r} is not installed; install it or pass another font.") from error


def _labels(tokens: "DataFrame", glyphs: set[int]) -> list[str]:
    """Visible text of each token. Tokens that look the same get their ids."""
    labels = [visible(text, glyphs) for text in tokens.text]
    return [
        label if labels.count(label) == 1 else f"{label} #{token}"
        for label, token in zip(labels, tokens.index, strict=True)
    ]


def visible(text: str, glyphs: set[int]) -> str:
    """
    A token with symbols for space, line break and tab, and escapes for other invisible characters and those without a
    glyph, truncated if it is long.

    Example:

    ```python
    >>> visible(" so\\n\\x07", set(range(128)))
    '␣so↵\\\\x07'

    ```
    """
    shown = ""
    for character in text:
        has_shape = ord(character) in glyphs and unicodedata.category(character)[0] not in "CZM"
        escaped = character if has_shape else character.encode("unicode_escape").decode()
        shown += _SYMBOLS.get(character, escaped)
    shown = shown or "(empty)"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
