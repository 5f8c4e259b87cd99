# ruff: noqa: RUF001  (the page uses typographic characters)
"""The token view in a real browser shows the values of the records."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trl_archer.figures.token_view import RESOLUTION
from trl_archer.records.parquet import CompletionRecord

from .page import card, current, cursor, definitions, hover, listed, number, press, wait_for_open
from .records import SETTINGS, TEXT, WORDS, make_groups, make_record, make_records

pytestmark = pytest.mark.browser
View = Callable[..., Any]
SHOWN = 0.5e-4 + RESOLUTION  # four decimals


@pytest.mark.parametrize("gate_width", [0.0, 0.5])
@pytest.mark.parametrize("advantage", [0.75, -0.75])
def test_card_shows_the_values_of_the_record(view: View, gate_width: float, advantage: float) -> None:
    record = make_record(gate_width=gate_width, advantage=advantage, seed=3)
    page = view(make_records(record, gate_width=gate_width))
    clips = set()
    for i in range(len(record.tokens)):
        shown = hover(page, i)
        gate = float(record.gate[i])
        assert shown["text"] == record.tokens[i].replace(" ", "␣")
        assert shown["where"] == f"id {record.token_ids[i]} · position {i} of {len(record.tokens)}, from 0"
        if gate in (0.0, 1.0):
            assert shown["role"] == ("reasoning" if gate else "knowledge")
        else:
            assert shown["role"] == f"graded: {100 * gate:.1f} % reasoning"
        assert shown["rank"] == f"{1 + int((record.entropies > record.entropies[i]).sum())} of {len(record.tokens)}"
        now, old, ref = (
            float(values[i])
            for values in (record.per_token_logps, record.old_per_token_logps, record.ref_per_token_logps)
        )
        expected = {
            "entropy": float(record.entropies[i]),
            "threshold": record.entropy_threshold,
            "logp": now,
            "old": old,
            "reference": ref,
            "ratio": math.exp(now - old),
            "kl-weight": 0.001 * (1 - gate),
            "kl": math.exp(ref - now) - (ref - now) - 1,
            "advantage": advantage,
        }
        for name, value in expected.items():
            assert number(shown[name]) == pytest.approx(value, abs=SHOWN, rel=3 * RESOLUTION), name
        low, high = (number(end) for end in shown["range"].split(" to "))
        assert low == pytest.approx(1 - (0.2 + gate * 0.3), abs=1e-5)
        assert high == pytest.approx(1 + (0.28 + gate * 0.22), abs=1e-5)
        clips.add(shown["clip"])
        assert shown["clip"] == (
            "yes, upper end" if record.clipped_high[i] else "yes, lower end" if record.clipped_low[i] else "no"
        )
    assert clips == {"no", "yes, upper end" if advantage > 0 else "yes, lower end"}


@pytest.mark.parametrize("gate_width", [0.0, 0.5])
def test_tokens_are_shaded_and_marked(view: View, gate_width: float) -> None:
    record = make_record(gate_width=gate_width)
    page = view(make_records(record, gate_width=gate_width))
    scale = number(page.locator("#ticks span").last.text_content().removeprefix("≥ "))
    tokens = page.evaluate(
        "() => [...document.querySelectorAll('#tokens .token')].map((node) => "
        "[node.textContent, ...['--shade', '--gate'].map((name) => node.style.getPropertyValue(name)), "
        "[...node.classList]])"
    )
    assert [token[0] for token in tokens] == list(record.tokens)
    for i, (_, shade, gate, classes) in enumerate(tokens):
        assert float(shade) == pytest.approx(min(1.0, record.entropies[i] / scale), abs=1e-3)
        assert float(gate) == pytest.approx(record.gate[i], abs=0.006)
        assert ("reasoning" in classes) == (record.gate[i] >= 0.5)
        assert ("gated" in classes) == (record.gate[i] > 0)  # underlined, with the strength of the gate
        assert ("clipped-high" in classes) == bool(record.clipped_high[i])
        assert ("clipped-low" in classes) == bool(record.clipped_low[i])


def test_facts_of_a_completion(view: View) -> None:
    record = make_record(row=7)
    page = view(make_records(record))
    facts = definitions(page, "facts")
    assert facts["reward"] == "1"
    assert facts["advantage"] == "+0.7500"
    assert facts["tokens"] == str(len(WORDS))
    assert number(facts["mean entropy"].removesuffix(" nats")) == pytest.approx(record.entropies.mean(), abs=SHOWN)
    assert facts["reasoning"] == f"{100 * record.gate.mean():.1f} %"
    assert facts["clipped high, low"] == f"{record.clipped_high.sum()}, {record.clipped_low.sum()}"
    assert facts["rank, row"] == "1, 7"
    settings = definitions(page, "settings")
    assert settings["clip, knowledge"] == "0.8–1.28"
    assert settings["clip, reasoning"] == "0.5–1.5"
    assert page.text_content("#summary") == f"1 completion · 1 prompt · {len(WORDS)} tokens · step 40"


def test_role_filter_dims_the_other_role(view: View) -> None:
    page = view(make_records(make_record()))

    def shaded(role: str) -> set[bool]:
        colors = page.evaluate(
            f"() => [...document.querySelectorAll('#tokens .{role}')].map((n) => getComputedStyle(n).backgroundColor)"
        )
        return {color != "rgba(0, 0, 0, 0)" for color in colors}

    assert (shaded("reasoning"), shaded("knowledge")) == ({True}, {True})
    page.get_by_text("reasoning", exact=True).and_(page.locator("#roles span")).click()
    assert (shaded("reasoning"), shaded("knowledge")) == ({True}, {False})
    press(page, "f")
    assert (shaded("reasoning"), shaded("knowledge")) == ({False}, {True})
    press(page, "f")
    assert (shaded("reasoning"), shaded("knowledge")) == ({True}, {True})


def test_reward_filter_keeps_unscorable_apart_from_wrong(view: View) -> None:
    page = view(make_groups(prompts=2))
    assert page.locator("#rewards .chip").all_text_contents() == ["04", "12", "none2"]
    assert listed(page) == ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4"]
    box = page.locator("#rewards input")
    box.nth(1).uncheck(force=True)
    assert listed(page) == ["1.2", "1.3", "1.4", "2.2", "2.3", "2.4"]
    wait_for_open(page, 1)  # the open one is no longer listed
    box.nth(0).uncheck(force=True)
    assert listed(page) == ["1.3", "2.3"]
    assert page.text_content("#found") == "2 of 8 completions"
    box.nth(2).uncheck(force=True)
    assert page.locator("#message").is_visible()
    assert page.text_content("#message").strip() == "No completion passes the filters."
    press(page, "r c ArrowRight j k n")
    box.nth(2).check(force=True)
    assert page.locator("#current").is_visible()
    assert listed(page) == ["1.3", "2.3"]


def test_reward_range(view: View) -> None:
    rewards = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, None]
    page = view(make_records(*(make_record(reward=reward, row=i) for i, reward in enumerate(rewards))))
    least, most = page.locator("#rewards input[type=number]").all()
    least.fill("0.25")
    most.fill("0.6")
    assert listed(page) == ["1.3", "1.4", "1.5", "1.6", "1.8"]
    page.locator("#rewards input[type=checkbox]").uncheck(force=True)
    assert listed(page) == ["1.3", "1.4", "1.5", "1.6"]


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("reward, highest first", lambda r: (r.reward is None, -(r.reward or 0))),
        ("reward, lowest first", lambda r: (r.reward is None, r.reward)),
        ("length, shortest first", lambda r: len(r.tokens)),
        ("mean entropy, highest first", lambda r: -float(r.entropies.mean(dtype=np.float64))),
        ("threshold, highest first", lambda r: -r.entropy_threshold),
        ("share of clipped tokens, highest first", lambda r: -float((r.clipped_low | r.clipped_high).mean())),
    ],
)
def test_sorting(view: View, label: str, key: Callable[[CompletionRecord], Any]) -> None:
    records = make_groups(prompts=2)
    page = view(records)
    page.select_option("#sort", label=label)
    order = sorted(range(8), key=lambda i: key(records.completions[i]))
    assert listed(page) == [f"{i // 4 + 1}.{i % 4 + 1}" for i in order]


def test_jumps_between_completions_and_prompts(view: View) -> None:
    page = view(make_groups())
    for keys, number_ in (("j", 1), ("j", 2), ("k", 1), ("J", 4), ("j", 5), ("J", 8), ("K", 7), ("J", 8), ("J", 8)):
        press(page, keys)
        wait_for_open(page, number_)
        assert current(page) == f"Prompt {number_ // 4 + 1}, completion {number_ % 4 + 1} of 4"
        assert page.locator("#prompt-text").text_content() == f"Question {number_ // 4}"
    page.get_by_label("previous prompt").click()
    wait_for_open(page, 7)
    page.locator("#list").focus()
    press(page, "ArrowUp")
    wait_for_open(page, 6)
    page.locator("#list .item").first.click()
    wait_for_open(page, 0)


def test_jumps_between_tokens(view: View) -> None:
    record = make_record(WORDS * 12, seed=1)
    page = view(make_records(record))
    reasoning = np.flatnonzero(record.gate).tolist()
    clipped = np.flatnonzero(record.clipped_low | record.clipped_high).tolist()
    for expected in reasoning[:12]:
        press(page, "r")
        assert cursor(page) == expected
    press(page, "R")
    assert cursor(page) == reasoning[10]
    press(page, "ArrowRight ArrowRight ArrowLeft")
    assert cursor(page) == reasoning[10] + 1
    assert number(card(page)["entropy"]) == pytest.approx(record.entropies[reasoning[10] + 1], abs=SHOWN)
    here = cursor(page)
    press(page, "c")
    assert cursor(page) == next(i for i in clipped if i > here)
    before = page.locator("#tokens .cursor").first.bounding_box()
    press(page, "ArrowDown")
    below = page.locator("#tokens .cursor").first.bounding_box()
    assert below["y"] == pytest.approx(before["y"] + 28)
    assert below["x"] <= before["x"] + 1 < below["x"] + below["width"] + 1
    press(page, "ArrowUp")
    assert page.locator("#tokens .cursor").first.bounding_box()["y"] == before["y"]
    for _ in range(len(clipped)):
        press(page, "c")
    assert cursor(page) == clipped[-1]  # far down: the page has scrolled
    assert page.locator("#tokens .cursor").first.is_visible()
    press(page, "Escape")
    assert page.locator("#card").is_hidden()
    assert page.locator("#tokens .cursor").count() == 0


def test_search(view: View) -> None:
    records = make_groups()
    page = view(records)
    wanted = "ER IS 7"  # across tokens, ignoring case
    counts = ["".join(r.tokens).lower().count(wanted.lower()) for r in records.completions]
    page.fill("#search", wanted)
    page.wait_for_function("() => document.getElementById('found').textContent.includes('hits')")
    assert page.text_content("#found") == f"12 completions · {sum(counts)} hits"
    assert page.locator("#list .hits").first.text_content() == f"{counts[0]} hit"
    answer = next(i for i in range(len(TEXT)) if TEXT[i] == "answer")
    assert page.locator("#tokens .hit").all_text_contents() == WORDS[answer : answer + 3]
    page.keyboard.press("Enter")
    assert cursor(page) == answer
    page.keyboard.press("Enter")  # no other hit here
    wait_for_open(page, 1)
    page.wait_for_selector("#tokens .cursor")
    assert cursor(page) == answer
    page.locator("#tokens").focus()
    press(page, "n")
    assert cursor(page) == answer + len(WORDS)
    press(page, "N N")
    wait_for_open(page, 0)


def test_search_is_literal_and_narrows(view: View) -> None:
    page = view(make_groups())

    def find(text: str, found: str) -> None:
        page.fill("#search", text)
        page.wait_for_function("(found) => document.getElementById('found').textContent === found", arg=found)

    find("end7", "1 of 12 completions · 1 hit")
    assert listed(page) == ["2.4"]
    find("question 2", "4 of 12 completions · 0 hits")  # in prompts
    assert page.locator("#prompt-text mark").text_content() == "Question 2"
    find(".*", "0 of 12 completions · 0 hits")
    find("", "12 completions")
    assert page.locator("#tokens .hit").count() == 0


def test_missing_values_are_noted(view: View) -> None:
    record = make_record(reference=False, reward=None, advantage=None)
    record.entropies[2] = math.nan
    record.per_token_logps[3] = -math.inf
    record.mask[5:8] = False
    empty = make_record([], row=1, reward=0.0)
    page = view(make_records(record, empty))
    notes = page.locator("#notes li").all_text_contents()
    assert notes == [
        "3 tokens not in the loss.",
        "1 token without a finite entropy: not shaded, not ranked.",
        "No reference log-probabilities were recorded.",
        "This completion could not be scored.",
    ]
    counted = len(WORDS) - 4
    assert hover(page, 0)["rank"].endswith(f" of {counted}")
    assert hover(page, 0)["reference"] == "none"
    assert hover(page, 0)["kl"] == "–"
    assert hover(page, 0)["advantage"] == "–"
    unknown = hover(page, 2)
    assert (unknown["entropy"], unknown["rank"]) == ("–", "–")
    assert hover(page, 3)["logp"] == "−∞"
    assert number(hover(page, 3)["ratio"]) == 0
    masked = hover(page, 6)
    assert (masked["role"], masked["range"], masked["rank"]) == ("none: not in the loss", "–", "–")
    assert "uncounted" in page.locator("#tokens [data-token='6']").get_attribute("class")
    press(page, "j")
    wait_for_open(page, 1)
    assert page.locator("#notes li").first.text_content() == "This completion has no tokens."
    assert page.locator("#tokens .token").count() == 0
    press(page, "r c ArrowRight ArrowLeft ArrowDown f")


def test_records_without_a_completion(view: View) -> None:
    page = view(make_records())
    assert page.text_content("#message").strip() == "No completions were recorded."
    assert page.locator("#rail").is_hidden()


def test_steps_can_be_selected(view: View) -> None:
    page = view(make_records(make_record(step=10), make_record(step=20, row=1), make_record(step=20, row=2)))
    assert re.search(r"steps 10–20$", page.text_content("#summary"))
    page.select_option("#step", label="20")
    assert listed(page) == ["1.2", "1.3"]


def test_partial_characters_and_dual_clip_are_noted(view: View) -> None:
    page = view(make_records(replace(make_record([" \ufffd", "\ufffd", " ok"])), **{"delta": 10.0}))
    assert page.locator("#notes li").all_text_contents() == ["Tokens with part of a character show as \ufffd."]
    settings = definitions(page, "settings")
    assert settings["ratio cap δ"] == "10"
    assert settings["KL weight, knowledge"] == str(SETTINGS["knowledge"]["beta"])


def test_help(view: View) -> None:
    page = view(make_records(make_record()))
    press(page, "?")
    assert page.locator("#help").is_visible()
    press(page, "Escape")
    assert page.locator("#help").is_hidden()
