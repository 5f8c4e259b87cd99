"""Clouds of tokens: which are drawn, how large, and that none covers another."""

import math
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from trl_archer.cli import main
from trl_archer.figures import plot_token_clouds, save
from trl_archer.figures.frequent_tokens import TokenShare, token_shares
from trl_archer.figures.style import THEMES, WIDTH
from trl_archer.figures.token_clouds import arrange, extreme_tokens
from trl_archer.records.parquet import TokenRecords, write_token_records

from ..records.test_parquet import SETTINGS, make_completions, make_records

FONT = "DejaVu Sans"
LABELS = {" so": "␣so", "\n": "↵", "中": "\\u4e2d"}
WORDS = [f"{'␣' * (i % 3 == 0)}{'jumping quickly'[: 1 + i * 7 % 15]}{i}" for i in range(100)]
SIZES = [7 + 19 / (1 + i) for i in range(100)]


def test_tokens_of_highest_and_lowest_entropy() -> None:
    table = [(0, 50, 2.0), (1, 200, 2.0), (2, 10, 9.0), (3, 100, 1.0), (4, 500, 0.0), (5, 600, 0.0), (6, 60, 0.1)]
    shares = [TokenShare(token, str(token), count, 0.0, entropy) for token, count, entropy in table]
    high, low = extreme_tokens(shares, top=3, min_count=50)
    assert [share.token_id for share in high] == [1, 0, 3]  # 2 is too rare; equal ones by count
    assert [share.token_id for share in low] == [5, 4, 6]
    assert [share.token_id for share in extreme_tokens(shares, top=1, min_count=1)[0]] == [2]


def test_words_lie_apart_in_a_page() -> None:
    words = arrange(WORDS, SIZES, FONT)
    assert [(word.text, word.size) for word in words] == list(zip(WORDS, SIZES, strict=True))  # largest first
    boxes = [word.box for word in words]
    for (left, bottom, right, top), (left_2, bottom_2, right_2, top_2) in combinations(boxes, 2):
        assert right <= left_2 or right_2 <= left or top <= bottom_2 or top_2 <= bottom
    assert min(box[0] for box in boxes) >= -36 * WIDTH
    assert max(box[2] for box in boxes) <= 36 * WIDTH
    assert min(box[1] for box in boxes) == 0
    assert arrange(WORDS, SIZES, FONT) == words
    shuffled = list(zip(WORDS, SIZES, strict=True))[::-1]
    assert arrange(*zip(*shuffled, strict=True), FONT) == words


def test_dollars_are_not_mathematics() -> None:
    dollars, plain = (word.box[2] - word.box[0] for word in arrange(["$x$", "x"], [9, 9], FONT))
    assert dollars > 2.5 * plain


def test_words_outside_the_spiral_are_placed_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl_archer.figures.token_clouds._spiral", lambda: np.zeros((1, 2)))
    words = arrange(["a" * 200, "b", "c"], [9, 9, 9], FONT)  # the first is wider than a page
    for above, below in pairwise(word.box for word in words):
        assert below[3] < above[1]


def test_clouds_draw_the_tokens_at_their_places() -> None:
    records = make_records()
    figure = plot_token_clouds(records, min_count=1)
    lists = extreme_tokens(token_shares(records), 100, 1)
    counts = [token.occurrences for tokens in lists for token in tokens]
    rarest, commonest = min(counts), max(counts)
    assert len(counts) == 8
    assert rarest < commonest
    for ax, tokens, role in zip(figure.axes, lists, ("reasoning", "knowledge"), strict=True):
        assert {to_hex(patch.get_facecolor()) for patch in ax.patches} == {THEMES["light"].role(role)}
        entropies = [token.mean_entropy for token in tokens]
        assert ax.get_title(loc="left").endswith(f"{min(entropies):.3g} to {max(entropies):.3g} nats on average")
        sizes = [7 + 19 * math.log(t.occurrences / rarest) / math.log(commonest / rarest) for t in tokens]
        words = arrange([LABELS.get(token.text, token.text) for token in tokens], sizes, FONT)
        drawn = {patch.get_label(): patch.get_path().get_extents().extents for patch in ax.patches}
        assert list(drawn) == [word.text for word in words]
        for word in words:
            np.testing.assert_allclose(drawn[word.text], word.box, atol=1e-6)
            assert ax.get_xlim()[0] < word.box[0] < word.box[2] < ax.get_xlim()[1]
            assert word.box[3] <= ax.get_ylim()[1]
    assert f"Size: occurrences, from {rarest} to {commonest}, on a logarithmic scale." in figure.notes


def test_clouds_are_the_same_every_time(tmp_path: Path) -> None:
    records = make_records()
    first, second = (save(plot_token_clouds(records, min_count=1), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_what_clouds_leave_out_is_told() -> None:
    figure = plot_token_clouds(make_records(), min_count=1000, theme="dark")
    assert figure.notes[-1] == "8 of 8 distinct tokens occur fewer than 1000 times and are left out"
    for ax in figure.axes:
        assert [text.get_text() for text in ax.texts] == ["no token of 1000 occurrences or more"]
    assert plot_token_clouds(TokenRecords([], SETTINGS)).notes == ["The records hold no token that counts."]
    with pytest.raises(ValueError, match="min_count=0 must be at least 1"):
        plot_token_clouds(make_records(), min_count=0)
    with pytest.raises(ValueError, match="font='No Such Font' is not installed"):
        plot_token_clouds(make_records(), font="No Such Font")


@pytest.mark.parametrize("clouds", [False, True])
def test_command_draws_clouds_on_request(tmp_path: Path, clouds: bool) -> None:
    write_token_records(tmp_path / "records", make_completions(10), SETTINGS)
    flags = ["--clouds"] if clouds else []
    main(["figures", "records", str(tmp_path / "records"), "--min-count", "1", "--output", str(tmp_path), *flags])
    assert [path.suffix for path in sorted(tmp_path.glob("token_clouds.*"))] == [".png", ".svg"] * clouds
