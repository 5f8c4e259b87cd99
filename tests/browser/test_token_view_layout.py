"""The token view in a real browser: long records, lines, narrow windows and colors."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .page import press, wait_for_open
from .records import WORDS, make_groups, make_large, make_record, make_records

pytestmark = pytest.mark.browser
View = Callable[..., Any]


def test_many_long_completions(view: View, tmp_path: Path) -> None:
    records = make_large(500, 8000)
    start = time.perf_counter()
    page = view(records)
    opened = time.perf_counter() - start
    size = (tmp_path / "view.html").stat().st_size

    def nodes() -> int:
        return page.evaluate("() => document.querySelectorAll('*:not(script)').length")

    assert opened < 60  # including writing the file
    assert size < 120e6
    assert nodes() < 3000
    page.evaluate("() => { const t = document.getElementById('tokens'); t.scrollTop = t.scrollHeight }")
    page.wait_for_selector("#tokens [data-token='7999']")
    assert page.locator("#tokens [data-token='0']").count() == 0
    assert nodes() < 3000
    page.evaluate("() => { const t = document.getElementById('list'); t.scrollTop = t.scrollHeight }")
    page.wait_for_selector("#item-499")
    assert nodes() < 3000
    page.locator("#item-499").click()
    wait_for_open(page, 499)
    slowest = page.evaluate(
        """async () => {
          const tokens = document.getElementById("tokens");
          let [slowest, last] = [0, performance.now()];
          for (let i = 0; i < 60; i++) {
            tokens.scrollTop = (i * 997) % tokens.scrollHeight;
            await new Promise(requestAnimationFrame);
            slowest = Math.max(slowest, performance.now() - last);
            last = performance.now();
          }
          return slowest;
        }"""
    )
    assert slowest < 1000  # ms for the frame after a jump
    page.fill("#search", "answer is 7")
    page.wait_for_function("() => document.getElementById('found').textContent.includes('hits')", timeout=60_000)
    expected = 500 * "".join(records.completions[0].tokens).count("answer is 7")
    assert page.text_content("#found") == f"500 completions · {expected:,} hits"


def test_lines_contain_every_token_once_and_fit(view: View) -> None:
    long = ["=" * 300, "\n\n  ", " x" * 200, "\n", "漢字かな交じり文", "👩‍🚀", "a\nb\nc", " the", "ِعربي"]
    tokens = [*WORDS * 3, *long, *WORDS * 3]
    page = view(make_records(make_record(tokens)), height=5000)
    for width in (1280, 900, 390):
        page.set_viewport_size({"width": width, "height": 5000})
        page.wait_for_timeout(150)
        spans = page.evaluate(
            "() => [...document.querySelectorAll('#tokens .token')].map((n) => [+n.dataset.token, n.textContent])"
        )
        order = [token for token, _ in spans]
        assert order == sorted(order)
        assert sorted(set(order)) == list(range(len(tokens)))
        parts = [("".join(text for token, text in spans if token == i)) for i in range(len(tokens))]
        plain = [i for i, token in enumerate(tokens) if token.isascii()]
        assert [parts[i] for i in plain] == [tokens[i].replace("\n", "↵") for i in plain]
        overflow = page.evaluate(
            "() => { const pane = document.getElementById('tokens').getBoundingClientRect();"
            " return Math.max(...[...document.querySelectorAll('#tokens .token')]"
            ".map((n) => n.getBoundingClientRect().right - pane.right)) }"
        )
        assert overflow <= 4
        ends = page.evaluate("() => [...document.querySelectorAll('#tokens .line')].map((n) => n.textContent)")
        assert sum("↵" in line for line in ends) == sum(token.count("\n") for token in tokens)
        assert all(line.index("↵") == len(line) - 1 for line in ends if "↵" in line)


def test_narrow_window(view: View) -> None:
    page = view(make_groups(), width=390, height=844)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.locator("#list").is_hidden()
    page.click("#open-list")
    page.locator("#list .item").nth(2).click()
    wait_for_open(page, 2)
    page.wait_for_function("() => getComputedStyle(document.getElementById('rail')).visibility === 'hidden'")
    press(page, "r")
    box = page.locator("#card").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    token = page.locator("#tokens .cursor").first.bounding_box()
    assert token["y"] >= 0
    assert token["y"] + token["height"] <= box["y"] or token["y"] >= box["y"] + box["height"]  # not hidden


@pytest.mark.parametrize("width", [1280, 940, 390])
def test_marks_of_the_legend_do_not_overlap(view: View, width: int) -> None:
    record = make_record()
    record.entropies[3] = np.nan
    page = view(make_records(record), width=width)
    boxes = [page.locator(f"#marks .{kind}").bounding_box() for kind in ("clipped-low", "unknown")]
    triangle_end = (
        boxes[0]["y"]
        + boxes[0]["height"]
        - float(
            page.evaluate(
                "() => getComputedStyle(document.querySelector('#marks .clipped-low'), '::before').bottom"
            ).rstrip("px")
        )
    )
    assert boxes[1]["y"] > triangle_end


def test_tokens_fit_the_frame_of_a_notebook(view: View) -> None:
    page = view(make_groups(), width=940, height=720)
    assert page.locator("#list").is_visible()
    assert page.locator("#tokens").bounding_box()["y"] < 0.65 * 720


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_text_is_legible_on_every_color(view: View, color_scheme: str) -> None:
    page = view(make_records(make_record(WORDS * 10)), color_scheme=color_scheme)

    def luminance(color: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shades = page.evaluate(
        """() => {
          const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
          const rgb = (color) => {
            context.fillStyle = color;
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
          };
          const ink = rgb(getComputedStyle(document.body).color);
          const bars = [...document.querySelectorAll("#bars i")];
          return [ink, bars.map((bar) => rgb(getComputedStyle(bar, "::after").backgroundColor))];
        }"""
    )
    ink, colors = luminance(shades[0]), [luminance(color) for color in shades[1]]
    assert (ink < 0.05) == (color_scheme == "light")
    for color in colors:
        assert (max(ink, color) + 0.05) / (min(ink, color) + 0.05) >= 4.5
    steps = np.diff(colors)  # lightness alone gives the order, for any color vision
    assert (steps < 0).all() if color_scheme == "light" else (steps > 0).all()
