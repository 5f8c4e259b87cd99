"""Figures of token records: ratios, thresholds and ranks equal a recomputation from the tokens."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from trl_archer import ArcherGRPOConfig
from trl_archer.figures import plot_clip_plane, plot_entropy_spread, plot_frequent_tokens
from trl_archer.figures.entropy_spread import entropy_spread
from trl_archer.figures.frequent_tokens import ranked_tokens, token_shares, visible
from trl_archer.figures.style import THEMES
from trl_archer.figures.token_table import token_table
from trl_archer.records.parquet import TokenRecords

from ..helpers.records import SETTINGS, WORDS, make_records
from ..helpers.settings import record_settings

LIGHT = THEMES["light"]


def ratios(ax: Axes, color: str) -> list[float]:
    """Ratio at both ends of each line of a color."""
    lines = [line for line in ax.lines if line.get_color() == color]
    ends = [y / x for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True) if x > 0]
    return sorted(set(np.round(ends, 12).tolist()))


def points_of(scatter: Any, role: str) -> list[tuple[float, float]]:
    """Points of a scatter in the color of a role."""
    faces = map(to_hex, scatter.get_facecolors())
    points = zip(scatter.get_offsets().tolist(), faces, strict=True)
    return [(x, y) for (x, y), face in points if face == LIGHT.role(role)]


def poisoned(records: TokenRecords) -> TokenRecords:
    """The first completion has one NaN entropy and one infinite log-probability in the loss."""
    first, *others = records.completions
    places = np.arange(len(first.mask))
    first = replace(
        first,
        entropies=np.where(places == 5, np.nan, first.entropies),
        per_token_logps=np.where(places == 6, -np.inf, first.per_token_logps),
    )
    return TokenRecords([first, *others], records.settings)


def without_poison(records: TokenRecords) -> TokenRecords:
    """The same records with the two tokens masked."""
    first, *others = records.completions
    mask = first.mask & ~np.isin(np.arange(len(first.mask)), (5, 6))
    return TokenRecords([replace(first, mask=mask), *others], records.settings)


PLOTS: dict[str, Any] = {
    "entropy_spread": plot_entropy_spread,
    "clip_plane": lambda records: plot_clip_plane(records.settings, records),
    "frequent_tokens": lambda records: plot_frequent_tokens(records, min_count=1),
}


def drawn_data(figure: Any) -> list[Any]:
    """Points, lines, bars, outlines and text of a figure without its notes."""
    data: list[Any] = []
    for ax in figure.axes:
        data += [scatter.get_offsets().tolist() for scatter in ax.collections]
        data += [line.get_xydata().tolist() for line in ax.lines]
        data += [patch.get_path().vertices.tolist() for patch in ax.patches]
        data += [ax.get_title(loc="left"), *(text.get_text() for text in ax.texts)]
        data += [label.get_text() for label in ax.get_yticklabels()]
    legends = [*figure.legends, *(box for ax in figure.axes if (box := ax.get_legend()))]
    return data + [text.get_text() for box in legends for text in box.get_texts()]


@pytest.mark.parametrize("plot", PLOTS)
def test_non_finite_tokens_are_left_out_and_noted(plot: str) -> None:
    """A skipped non-finite update is recorded. Its finite tokens are drawn as if the others were masked."""
    records = make_records()
    figure, expected = (PLOTS[plot](some) for some in (poisoned(records), without_poison(records)))
    assert drawn_data(figure) == drawn_data(expected)
    assert drawn_data(figure) != drawn_data(PLOTS[plot](records))
    note = "2 of 456 tokens are not finite and are left out"
    assert [n for n in figure.notes if n != note] == expected.notes
    assert note in figure.notes


@pytest.mark.parametrize("plot", PLOTS)
def test_records_without_a_finite_token_are_noted(plot: str) -> None:
    first = make_records().completions[0]
    records = TokenRecords([replace(first, entropies=np.full(40, np.nan))], SETTINGS)
    figure = PLOTS[plot](records)
    assert "38 of 38 tokens are not finite and are left out" in figure.notes
    assert "nan" not in " ".join(map(str, drawn_data(figure)))
    if plot == "clip_plane":
        assert ratios(figure.axes[1], LIGHT.reasoning) == [0.5, 1.5]
    elif plot == "entropy_spread":
        assert [text.get_text() for text in figure.axes[1].texts] == ["no finite token in the loss"]
    else:
        assert figure.notes[-1] == "The records hold no finite token in the loss."


@pytest.mark.parametrize(
    ("settings", "reasoning", "knowledge"),
    [
        (SETTINGS, [0.5, 1.5], [0.8, 1.2]),
        (record_settings(epsilon_high=0.28, epsilon_reasoning_high=0.6), [0.5, 1.6], [0.8, 1.28]),
    ],
)
def test_lines_lie_at_the_configured_ratios(
    settings: dict[str, Any], reasoning: list[float], knowledge: list[float]
) -> None:
    figure = plot_clip_plane(settings)
    assert [ax.get_xscale() for ax in figure.axes] == ["linear", "log"]
    for ax in figure.axes:
        assert ratios(ax, LIGHT.reasoning) == reasoning
        assert ratios(ax, LIGHT.knowledge) == knowledge
        assert ratios(ax, LIGHT.muted) == [1.0]
        assert ax.get_xlabel().startswith("old token probability")
        assert ax.get_ylabel().startswith("new token probability")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == f"reasoning: ratio {reasoning[0]} to {reasoning[1]}"
    assert labels[-1] == "ratio 1"  # the dotted line


def test_settings_may_be_a_config(tmp_path: Any) -> None:
    config = ArcherGRPOConfig(str(tmp_path), use_cpu=True, bf16=False, epsilon=0.1, epsilon_high=0.3, delta=4.0)
    ax = plot_clip_plane(config).axes[0]
    assert ratios(ax, LIGHT.knowledge) == [0.9, 1.3]
    assert ratios(ax, LIGHT.muted) == [1.0, 4.0]
    with pytest.raises(ValueError, match="settings have no 'reasoning'; pass an ArcherGRPOConfig"):
        plot_clip_plane({"knowledge": SETTINGS["knowledge"]})


def test_tokens_lie_at_their_probabilities() -> None:
    records = make_records()
    figure = plot_clip_plane(records.settings, records)
    drawn = {
        (role, clipped): points_of(scatter, role)
        for clipped, scatter in zip((False, True), figure.axes[1].collections[-2:], strict=True)
        for role in ("reasoning", "knowledge")
    }
    for role, reasoning in (("reasoning", True), ("knowledge", False)):
        for clipped in (True, False):
            expected = []
            for record in records.completions:
                chosen = record.mask & ((record.gate > 0.5) == reasoning)
                chosen = chosen & ((record.clipped_low | record.clipped_high) == clipped)
                old, new = (
                    np.exp(logps[chosen].astype(np.float64))
                    for logps in (record.old_per_token_logps, record.per_token_logps)
                )
                expected += list(zip(old.tolist(), new.tolist(), strict=True))
            assert len(expected) > 5
            np.testing.assert_allclose(sorted(drawn[role, clipped]), sorted(expected))


def test_clipped_tokens_lie_outside_their_range() -> None:
    """The drawn flags of the objective agree with the lines."""
    records = make_records()
    clipped = plot_clip_plane(records.settings, records).axes[1].collections[-1]
    for role, (low, high) in {"reasoning": (0.5, 1.5), "knowledge": (0.8, 1.2)}.items():
        ratio = np.array([new / old for old, new in points_of(clipped, role)])
        assert ((ratio < low) | (ratio > high)).all()


def test_both_planes_show_the_same_tokens() -> None:
    records = make_records()
    linear, logarithmic = plot_clip_plane(records.settings, records).axes
    for left, right in zip(linear.collections[-2:], logarithmic.collections[-2:], strict=True):
        assert len(left.get_offsets()) > 0
        np.testing.assert_array_equal(left.get_offsets(), right.get_offsets())


def test_neither_role_hides_the_other() -> None:
    """Drawn one after the other, the second role would cover the first."""
    records = make_records()
    for scatter in plot_clip_plane(records.settings, records).axes[1].collections[-2:]:
        reasoning = [to_hex(face) == LIGHT.reasoning for face in scatter.get_facecolors()]
        changes = sum(before != after for before, after in pairwise(reasoning))
        assert changes > sum(reasoning) * reasoning.count(False) / len(reasoning)  # half the changes expected by chance


def test_tokens_that_are_not_drawn_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl_archer.figures.clip_plane._MOST_TOKENS", 10)
    records = make_records(gate_width=0.4)
    first = records.completions[0]
    rare = replace(first, per_token_logps=np.where(np.arange(40) == 5, -30, first.per_token_logps))
    figure = plot_clip_plane(records.settings, TokenRecords([rare, *records.completions[1:]], records.settings))
    notes = "\n".join(figure.notes)
    assert "1 of 456 tokens have a probability below 0.001 and are off the logarithmic axes" in notes
    assert "The gate is graded" in notes
    assert "10 of " in notes
    others, stopped = figure.axes[1].collections[-2:]
    assert [len(points_of(others, role)) for role in ("reasoning", "knowledge")] == [10, 10]
    clipped = sum(int((r.mask & (r.clipped_low | r.clipped_high)).sum()) for r in records.completions)
    assert clipped > 20
    assert len(stopped.get_offsets()) == clipped  # all of them; only the others are sampled
    assert f"{clipped} clipped tokens" in [text.get_text() for text in figure.legends[0].get_texts()]
    monkeypatch.setattr("trl_archer.figures.clip_plane._MOST_CLIPPED", 20)
    figure = plot_clip_plane(records.settings, records)
    assert len(figure.axes[1].collections[-1].get_offsets()) == 20
    assert f"{clipped} clipped tokens, 20 drawn" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_records_without_tokens_draw_the_plane() -> None:
    figure = plot_clip_plane(SETTINGS, TokenRecords([], SETTINGS))
    assert ratios(figure.axes[1], LIGHT.reasoning) == [0.5, 1.5]
    assert "0 reasoning tokens" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_spread_equals_a_recomputation() -> None:
    records = make_records()
    spread = entropy_spread(token_table(records)[0], 0.8)
    tokens = [r.entropies[r.mask].astype(np.float64) for r in records.completions]
    per_step, per_prompt = 6, 2
    by_step = [np.concatenate(tokens[i : i + per_step]) for i in range(0, 12, per_step)]
    # records are ordered by step and row, with two rows per prompt
    by_prompt = [np.concatenate(tokens[i : i + per_prompt]) for i in range(0, 12, per_prompt)]
    np.testing.assert_allclose(spread.batches, [t.mean() for t in by_step])
    np.testing.assert_allclose(spread.prompts, [t.mean() for t in by_prompt])
    np.testing.assert_allclose(spread.responses, [t.mean() for t in tokens])
    common = [sum(t > np.quantile(by_step[i // per_step], 0.8)) / len(t) for i, t in enumerate(tokens)]
    np.testing.assert_allclose(spread.batch_share, common)
    np.testing.assert_allclose(spread.response_share, [8 / 38] * 12)  # ranks 30 to 37 lie above 0.8 * 37
    assert spread.batch_share.min() == 0
    assert spread.batch_share.max() > 0.4


def test_spread_draws_what_it_computes() -> None:
    records = make_records()
    spread, figure = entropy_spread(token_table(records)[0], 0.8), plot_entropy_spread(records)
    means, shares = figure.axes
    for place, (scatter, values) in enumerate(zip(means.collections, spread[:3], strict=True)):
        assert scatter.get_offsets()[:, 1].tolist() == values.tolist()
        assert np.abs(scatter.get_offsets()[:, 0] - place).max() < 0.3
    for scatter, values in zip(shares.collections, spread[3:], strict=True):
        assert scatter.get_offsets().tolist() == np.column_stack([spread.responses, values]).tolist()
    np.testing.assert_allclose(shares.lines[0].get_ydata(), 0.2)
    assert means.get_ylabel() == "nats per token"
    assert shares.get_xlabel().endswith("nats per token")
    assert [t.get_text() for t in means.get_xticklabels()] == [
        "batches\n(n = 2)",
        "prompts\n(n = 6)",
        "responses\n(n = 12)",
    ]
    labels = [text.get_text() for text in shares.get_legend().get_texts()]
    assert labels[1:] == ["one threshold per response: 21.05% to 21.05%", "nominal, 1 - rho: 20%"]


def test_responses_of_dropped_groups_are_left_out_and_noted() -> None:
    records = make_records()
    dropped = replace(records.completions[0], mask=np.zeros(40, dtype=bool))
    records = TokenRecords([dropped, *records.completions[1:]], records.settings)
    figure = plot_entropy_spread(records)
    assert figure.notes == ["1 of 12 completions have no token in the loss and are left out"]
    assert len(figure.axes[0].collections[2].get_offsets()) == 11
    empty = plot_entropy_spread(TokenRecords([dropped], records.settings))
    assert [text.get_text() for text in empty.axes[0].texts] == ["no token in the loss"]
    with pytest.raises(ValueError, match="have no entropy_quantile"):
        plot_entropy_spread(TokenRecords(records.completions, {}))


def test_token_shares_equal_a_recomputation() -> None:
    records = make_records()
    pairs = [(int(i), w) for r in records.completions for i, w in zip(r.token_ids[r.mask], r.gate[r.mask], strict=True)]
    shares = token_shares(token_table(records)[0])
    assert shares.index.tolist() == list(range(len(WORDS)))
    for share in shares.itertuples():
        gates = [gate for token, gate in pairs if token == share.Index]
        assert share.text == WORDS[share.Index]
        assert share.occurrences == len(gates)
        assert share.reasoning == pytest.approx(sum(gates) / len(gates))


def test_ranks() -> None:
    table = [(0, 50, 0.9), (1, 200, 0.9), (2, 10, 1.0), (3, 100, 0.6), (4, 500, 0.0), (5, 600, 0.0), (6, 60, 0.1)]
    shares = pandas.DataFrame(table, columns=["token_ids", "occurrences", "reasoning"]).set_index("token_ids")
    ranked = ranked_tokens(shares, overall=0.2, top=3, min_count=50)
    assert ranked["reasoning"].index.tolist() == [1, 0, 3]  # 2 is too rare; equal shares by count
    assert ranked["knowledge"].index.tolist() == [5, 4, 6]
    assert ranked_tokens(shares, overall=0.2, top=1, min_count=1)["reasoning"].index.tolist() == [2]


def test_bars_are_in_rank_order() -> None:
    records = make_records()
    figure = plot_frequent_tokens(records, top=3, min_count=1)
    tokens = token_table(records)[0]
    reasoning, knowledge = ranked_tokens(token_shares(tokens), tokens.gate.mean(), 3, 1).values()
    expected = (reasoning.reasoning.tolist(), (1 - knowledge.reasoning).tolist())
    for ax, values, role in zip(figure.axes, expected, ("reasoning", "knowledge"), strict=True):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx(values)
        assert values == sorted(values, reverse=True)
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first rank is on top
        assert {to_hex(bar.get_facecolor()) for bar in ax.patches} == {LIGHT.role(role)}
        assert ax.get_xlabel() == f"share of occurrences that are {role}"
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == [str(count) for count in reasoning.occurrences]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [visible(text, set(range(0x3000))) for text in reasoning.text]


def test_invisible_tokens_are_made_visible() -> None:
    glyphs = {ord(c) for c in "abc$ é"}
    cases = {" a": "␣a", "\n\n": "↵↵", "\t": "⇥", "": "(empty)", "\x00": "\\x00", "中": "\\u4e2d", "$a$": "$a$"}
    for text, shown in cases.items():
        assert visible(text, glyphs) == shown
    assert visible("\u200b", glyphs | {0x200B}) == "\\u200b"
    assert visible("a" * 50, glyphs) == "a" * 19 + "…"


def test_tokens_that_look_the_same_have_their_ids() -> None:
    records = make_records()
    alike = [replace(c, tokens=["x" if t in ("7", "<eos>") else t for t in c.tokens]) for c in records.completions]
    figure = plot_frequent_tokens(TokenRecords(alike, records.settings), min_count=1)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"x #6", "x #7"} <= set(labels)
    assert "x" not in labels


def test_rare_tokens_are_left_out_and_noted() -> None:
    figure = plot_frequent_tokens(make_records(), min_count=1000)
    assert figure.notes[1] == "8 of 8 distinct tokens occur fewer than 1000 times and are left out"
    for ax in figure.axes:
        assert [text.get_text() for text in ax.texts] == ["no token with 1000 or more occurrences"]
    assert plot_frequent_tokens(TokenRecords([], SETTINGS)).notes == ["The records hold no token in the loss."]


def test_bad_arguments_of_frequent_tokens() -> None:
    with pytest.raises(ValueError, match="top=0 must be at least 1"):
        plot_frequent_tokens(make_records(), top=0)
    with pytest.raises(ValueError, match="font='No Such Font' is not installed"):
        plot_frequent_tokens(make_records(), font="No Such Font")
