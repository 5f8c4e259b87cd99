"""Helpers shared by the rewards."""

import pytest

from trl_archer.rewards.completions import completion_stats, final_part, text_of


def test_text_of():
    assert text_of("4") == text_of([{"role": "assistant", "content": "4"}]) == "4"
    parts = [{"type": "text", "text": "4"}]
    assert text_of([{"role": "assistant", "content": parts, "reasoning_content": "2 + 2"}]) == "2 + 2</think>4"
    assert text_of([{"content": None, "thinking": "Hm."}]) == "Hm.</think>"
    assert text_of([]) == text_of([{"role": "user", "content": "2 + 2?"}]) == ""


@pytest.mark.parametrize(
    ("text", "without", "with_thinking"),
    [
        ("", "", None),
        ("4", "4", None),
        ("2 + 2</think>4", "4", "4"),
        ("<think>2 + 2</think>4", "4", "4"),
        ("<think>2</think>3</think>4", "4", "4"),
        ("<think>2</think>", "", ""),
        ("<think>4", None, None),
        ("4</think>5<think>6", None, None),
        ("<think>4</think>5<think>6</think>7", "7", "7"),
        ("a<think>b<think>c</think>d", "d", "d"),
    ],
)
def test_final_part(text: str, without: str | None, with_thinking: str | None):
    assert final_part(text) == without
    assert final_part(text, thinking=True) == with_thinking


def test_completion_stats():
    assert completion_stats("ab</think>cd", [1, 2, 3], 1.0) == {
        "length/right": 3.0,
        "thinking/right": pytest.approx(10 / 12),
        "repetition/right": 0.0,
    }
    assert completion_stats("abcd", [1], 0.0)["thinking/wrong"] == 0.0
    assert completion_stats("abcd", [1], 0.0, thinking=True)["thinking/wrong"] == 1.0
    assert completion_stats("<think>abcd", [1], 0.0)["thinking/wrong"] == 1.0
    assert completion_stats("", [], 0.0)["thinking/wrong"] == 0.0
    assert completion_stats("4", [1], None) == {}
