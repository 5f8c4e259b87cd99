"""The file of the token view contains the exact values, and no model output as markup."""

import base64
import gzip
import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trl_archer.figures.token_view import RESOLUTION, token_view_html, write_token_view
from trl_archer.records.parquet import TokenRecords

from ..browser.records import SETTINGS, WORDS, make_groups, make_record, make_records

VALUES = ("entropies", "per_token_logps", "old_per_token_logps", "gate", "ref_per_token_logps")
FLAGS = ("mask", "clipped_low", "clipped_high")


def unpack(html: str, name: str) -> bytes:
    (packed,) = re.findall(f'<script type="application/gzip\\+base64" id="{name}">([^<]*)</script>\n', html)
    return gzip.decompress(base64.b64decode(packed, validate=True))


def read_index(html: str) -> dict[str, Any]:
    return json.loads(unpack(html, "index"))


def read_columns(data: bytes, length: int, count: int) -> list[list[int]]:
    """Integers from their byte planes."""
    planes = [data[i * length : (i + 1) * length] for i in range(4 * count)]
    return [
        [int.from_bytes(value, "little", signed=True) for value in zip(*planes[4 * c : 4 * c + 4], strict=True)]
        for c in range(count)
    ]


def test_values_survive() -> None:
    records = make_records(make_record(seed=1), make_record(WORDS * 9, seed=2, row=1))
    html = token_view_html(records)
    index = read_index(html)
    for number, record in enumerate(records.completions):
        length = len(record.tokens)
        (tokens,) = read_columns(unpack(html, f"tokens-{number}"), length, 1)
        assert [index["vocabulary"]["pieces"][token] for token in tokens] == record.tokens
        assert [index["vocabulary"]["ids"][token] for token in tokens] == record.token_ids.tolist()
        data = unpack(html, f"values-{number}")
        for name, column in zip(VALUES, read_columns(data, length, len(VALUES)), strict=True):
            expected = getattr(record, name).astype(np.float64)
            np.testing.assert_allclose(np.array(column) * RESOLUTION, expected, rtol=0, atol=0.51 * RESOLUTION)
        flags = data[4 * len(VALUES) * length :]
        assert len(flags) == length
        for bit, name in enumerate(FLAGS):
            assert [bool(flag >> bit & 1) for flag in flags] == getattr(record, name).tolist()


def test_non_finite_values_survive() -> None:
    record = make_record()
    record.entropies[:4] = [math.nan, math.inf, -math.inf, 1e12]
    column = read_columns(unpack(token_view_html(make_records(record)), "values-0"), len(WORDS), 1)[0]
    assert column[:4] == [-(2**31), 2**31 - 1, -(2**31) + 1, 2**31 - 2]
    assert column[4] == round(float(record.entropies[4]) / RESOLUTION)


def test_index_describes_each_completion() -> None:
    record = make_record(WORDS * 8, reward=None, advantage=None, reference=False, row=3)
    record.mask[:20] = False
    record.entropies[25] = math.nan
    index = read_index(token_view_html(make_records(make_record(), record)))
    about = index["completions"][1]
    counted = [e for e, m in zip(record.entropies.tolist(), record.mask, strict=True) if m and not math.isnan(e)]
    assert about["mean_entropy"] == pytest.approx(sum(counted) / len(counted))
    assert about["reasoning_share"] == pytest.approx(record.gate[20:].mean())
    assert (about["length"], about["counted"]) == (200, 180)
    assert (about["step"], about["rank"], about["row"]) == (40, 1, 3)
    assert (about["reward"], about["advantage"], about["has_reference"]) == (None, None, False)
    assert about["entropy_threshold"] == record.entropy_threshold
    assert about["clipped_low"] == record.clipped_low.sum()
    assert about["clipped_high"] == record.clipped_high.sum()
    assert about["preview"] == "".join(WORDS * 8)[:80]
    assert [a["reward"] for a in index["completions"]] == [1.0, None]
    assert index["settings"]["knowledge"] == {"epsilon_low": 0.2, "epsilon_high": 0.28, "beta": 0.001}
    assert index["settings"]["reasoning"] == SETTINGS["reasoning"]


def test_completions_are_grouped_by_prompt() -> None:
    index = read_index(token_view_html(make_groups(prompts=2, group=3)))
    assert index["prompts"] == ["Question 0", "Question 1"]
    assert [(a["prompt"], a["member"], a["group"]) for a in index["completions"]] == [
        (prompt, member, 3) for prompt in range(2) for member in range(3)
    ]


@pytest.mark.parametrize(("highest", "scale"), [(2.31, 2.4), (0.9, 0.9), (0.0312, 0.032), (12.1, 13.0), (0.0, 1.0)])
def test_color_scale_ends_at_the_99th_percentile(highest: float, scale: float) -> None:
    record = make_record(WORDS * 40)
    record.entropies[:] = highest
    record.entropies[-3:] = 50.0  # 3 in 1,000
    record.mask[0], record.entropies[0] = False, 1e6
    assert read_index(token_view_html(make_records(record)))["entropy_scale"] == pytest.approx(scale)


def test_profile_is_relative_to_the_highest_bin() -> None:
    low, high = make_record(WORDS[:4]), make_record(WORDS[:4], row=1)
    low.entropies[:], high.entropies[:] = [0.0, 0.5, 1.0, math.nan], [2.0, 0.0, 0.0, 1.0]
    profiles = [about["profile"] for about in read_index(token_view_html(make_records(low, high)))["completions"]]
    assert profiles == [[0, 64, 128, 0], [255, 0, 0, 128]]


def test_one_id_with_two_pieces_keeps_both() -> None:
    record = replace(make_record(["a", "b", "a"]), token_ids=np.array([7, 7, 7], np.int32))
    assert read_index(token_view_html(make_records(record)))["vocabulary"] == {"ids": [7, 7], "pieces": ["a", "b"]}


def test_policy_allows_exactly_what_is_in_the_file() -> None:
    html = token_view_html(make_groups())

    def digest(tag: str) -> str:
        (text,) = re.findall(f"<{tag}>(.*?)</{tag.split()[0]}>", html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', html)
    directives = dict(directive.split(maxsplit=1) for directive in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": digest('script type="module" async'),
        "style-src": digest("style"),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.search(r"https?://|<link|@import|url\(", html)


def test_records_never_become_markup() -> None:
    hostile = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "\u2028", "\ud800", "\x00"]
    records = make_records(make_record(hostile, prompt="</title><b>prompt</b>\udfff"))
    html = token_view_html(records, title="</title><script>alert(3)</script>\udc00")
    plain = token_view_html(make_records(make_record(["a"] * 5, prompt="p")), title="t")
    tags = re.compile(r"</?[a-z0-9]+", re.IGNORECASE)
    assert tags.findall(html) == tags.findall(plain)
    assert html.count("alert(") == 2  # both in the title, escaped
    html.encode()  # no lone surrogates
    index = read_index(html)
    assert index["vocabulary"]["pieces"] == hostile
    assert index["prompts"] == ["</title><b>prompt</b>\udfff"]


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [write_token_view(make_groups(), tmp_path / "new" / name) for name in ("a.html", "b.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["a.html", "b.html"]


def test_a_failure_keeps_the_existing_file(tmp_path: Path) -> None:
    path = write_token_view(make_groups(), tmp_path / "view.html", "first")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="settings lack"):
        write_token_view(TokenRecords(make_groups().completions, {}), path)
    assert path.read_bytes() == before


def test_no_completions() -> None:
    index = read_index(token_view_html(make_records()))
    assert (index["completions"], index["prompts"], index["entropy_scale"]) == ([], [], 1.0)


def test_completion_without_tokens() -> None:
    about = read_index(token_view_html(make_records(make_record([]))))["completions"][0]
    assert (about["length"], about["mean_entropy"], about["reasoning_share"], about["profile"]) == (0, None, None, [])


@pytest.mark.parametrize("name", ["tokens", *VALUES, *FLAGS])
def test_different_lengths_are_refused(name: str) -> None:
    record = make_record(row=5)
    record = replace(record, **{name: getattr(record, name)[:-1]})
    message = f"step 40, rank 1, row 5 has {len(WORDS)} token_ids but {len(WORDS) - 1} {name}"
    with pytest.raises(ValueError, match=message):
        token_view_html(make_records(make_record(), record))


def test_missing_settings_are_named() -> None:
    settings = {name: value for name, value in SETTINGS.items() if name not in ("knowledge", "gate_width")}
    with pytest.raises(ValueError, match="settings lack knowledge, gate_width, which"):
        token_view_html(TokenRecords([make_record()], settings))
