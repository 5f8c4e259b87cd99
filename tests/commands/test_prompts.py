"""Prompts in the layouts of public data: read correctly, or refused with the fix; never Python's text of a value."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trl_archer.commands.train.arguments import TrainArguments
from trl_archer.commands.train.data import load_data

from ..helpers.tiny import TOKENIZER

USER = {"role": "user", "content": "1 + 2?"}
SYSTEM = {"role": "system", "content": "Think."}
ANSWER = {"role": "assistant", "content": "It is \\boxed{3}."}
PREFIX = {"role": "assistant", "content": "Let me see.\n<think>"}
Load = Callable[..., list[Any]]


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def load(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr(TOKENIZER, "chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}")

    def load(rows: list[dict[str, Any]], **arguments: Any) -> list[Any]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = TrainArguments(
            dataset_name=str(file), reward_funcs=["countdown"], dataset_streaming=request.param, **arguments
        )
        data, _ = load_data(made, {"prompt": "the trainer"}, False, lambda: TOKENIZER)
        return [row["prompt"] for row in data]

    return load


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ([SYSTEM, USER], [SYSTEM, {"role": "user", "content": "1 + 2? Use a box."}]),
        ([USER, PREFIX], [{"role": "user", "content": "1 + 2? Use a box."}, PREFIX]),
        (json.dumps([USER]), [{"role": "user", "content": "1 + 2? Use a box."}]),
        ("1 + 2?", "1 + 2? Use a box."),
        ("[{x: 1}] is a set?", "[{x: 1}] is a set? Use a box."),
        ('[{"role": "admin"}] has one item?', '[{"role": "admin"}] has one item? Use a box.'),
        (json.dumps(USER), [{"role": "user", "content": "1 + 2? Use a box."}]),
    ],
)
def test_template_fills_the_last_message_of_the_user(load: Load, prompt: Any, expected: Any) -> None:
    assert load([{"prompt": prompt}] * 2, prompt_template="{{ prompt }} Use a box.") == [expected] * 2


def test_template_without_the_prompt_replaces_it(load: Load) -> None:
    rows = [{"prompt": [USER], "problem": "4?"}]
    assert load(rows, prompt_template="{{ problem }}") == ["4?"]
    assert load(rows, prompt_template="{{ problem }}", conversational=True) == [[{"role": "user", "content": "4?"}]]


@pytest.mark.parametrize(
    "text", [json.dumps([SYSTEM, USER]), str([SYSTEM, USER]), f"  {json.dumps([SYSTEM, USER], indent=1)}"]
)
def test_messages_as_text_are_read(load: Load, text: str) -> None:
    assert load([{"prompt": text}]) == [[SYSTEM, USER]]


def test_parts_of_text_are_joined(load: Load) -> None:
    parts = [{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]
    assert load([{"prompt": [{"role": "user", "content": parts}]}]) == [[USER]]


def test_one_message_without_a_list(load: Load) -> None:
    assert load([{"prompt": USER}]) == [[USER]]


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("messages.0.content", [{"messages": [USER, ANSWER]}]),
        ("messages.0.content", [{"messages": json.dumps([USER, ANSWER])}]),
        ("conversations.1.value", [{"conversations": [{"from": "x", "value": "x"}, {"from": "y", "value": "1 + 2?"}]}]),
    ],
)
def test_paths_reach_into_lists_and_text(load: Load, path: str, rows: list[dict[str, Any]]) -> None:
    assert load(rows, dataset_columns={"prompt": path}) == ["1 + 2?"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([USER, ANSWER], "ends with a message of the assistant, so it contains the answer that the model should find"),
        (json.dumps([USER, ANSWER]), "ends with a message of the assistant"),
        (str([USER]).replace("}]", "}\n {'role': 'user'}]"), "looks like messages stored as text, but cannot be read"),
        ([{"from": "human", "value": "1 + 2?"}], "The trainer needs 'role' and 'content'"),
        (json.dumps([{"from": "human", "value": "1 + 2?"}]), "{prompt: conversations.0.value}"),
        ([], "is empty: []"),
        ("  \n", r"is empty: '  \n'"),
        ([{"role": "user", "content": ""}], "has an empty message of role 'user'"),
        ([{"role": "user", "content": None}], "has a message with role 'user' and content None"),
        (["1 + 2?"], "is a list, but not of messages with 'role' and 'content'; it holds '1 + 2?'"),
        ([["1 + 2?"]], "is a list, but not of messages"),
        ({"question": "1 + 2?"}, "is neither text nor a list of messages, but {'question': '1 + 2?'}"),
        (json.dumps({"messages": [USER]}), "is neither text nor a list of messages, but {'messages'"),
        (3, "is neither text nor a list of messages, but 3"),
        (None, "is neither text nor a list of messages, but None"),
    ],
)
def test_refused_prompts(load: Load, prompt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load([{"prompt": prompt}] * 2)
    assert "row 0 of " in str(error.value)


def test_the_message_names_the_row(load: Load) -> None:
    with pytest.raises(ValueError, match=r"The prompt of row 2 of .* is empty: ''. Remove such rows"):
        load([{"prompt": "1"}, {"prompt": "2"}, {"prompt": ""}])


ROW = {"prompt": "1?", "meta": {"level": 2, "tags": ["a"]}, "tags": ["a", "b"], "hint": None, "hard": True}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ meta.level }} {{ tags[1] }} {{ meta['tags'][0] }}", "2 b a"),
        ("{{ tags | join(', ') }}", "a, b"),
        ("{{ tags | tojson }} {{ meta | tojson }}", '["a", "b"] {"level": 2, "tags": ["a"]}'),
        ("{{ prompt }}{% if hint %} Hint: {{ hint }}{% endif %}", "1?"),
        ("{{ prompt }}{% if hint is not none %} Hint: {{ hint }}{% endif %}", "1?"),
        ("{{ prompt }}{{ hint | default('') }}{{ hint or '' }}", "1?"),
        ("{{ 'hard' if hard else 'easy' }}", "hard"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }}{% endfor %} {{ tags | length }}", "1a2b 2"),
    ],
)
def test_values_in_templates(load: Load, template: str, expected: str) -> None:
    assert load([ROW], prompt_template=template) == [expected]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ tags }}", "'tags' is not text but a list"),
        ("{{ meta }}", "'meta' is not text but a dictionary"),
        ("{{ meta.tags }}", "'meta.tags' is not text but a list"),
        ("{{ 'Q: ' ~ tags }}", "'tags' is not text but a list"),
        ("{{ tags | string }}", "'tags' is not text but a list"),
        ("{{ '%s' | format(tags) }}", "'tags' is not text but a list"),
        ("{{ [tags] | join(', ') }}", "'tags' is not text but a list"),
        ("{{ hint }}", "'hint' is empty in this row"),
        ("{{ 'Q: ' ~ hint }}", "'hint' is empty in this row"),
        ("{{ hard }}", "it writes True. Choose the words"),
        ("{{ missing }}", "'missing' is undefined. Columns: 'prompt', 'meta', 'tags', 'hint', 'hard'"),
        ("{{ meta.missing }}", "has no attribute 'missing'"),
    ],
)
def test_templates_never_write_what_python_shows(load: Load, template: str, message: str) -> None:
    with pytest.raises(ValueError, match="prompt_template does not fit row 0") as error:
        load([ROW], prompt_template=template)
    assert message in str(error.value)


def test_template_needs_a_message_of_the_user(load: Load) -> None:
    with pytest.raises(ValueError, match=r"has no such message of text. Remove prompt_template"):
        load([{"prompt": [SYSTEM]}], prompt_template="{{ prompt }} x")


def test_text_and_messages_in_one_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOKENIZER, "chat_template", "{{ messages[0].content }}")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in ("1?", json.dumps([USER]))))
    arguments: dict[str, Any] = {"dataset_name": str(file), "reward_funcs": ["countdown"]}
    with pytest.raises(ValueError, match=r"Some prompts of .* are text, and others are messages. Set conversational"):
        load_data(TrainArguments(**arguments), {"prompt": "x"}, False, lambda: TOKENIZER)
    data, _ = load_data(TrainArguments(**arguments, conversational=True), {"prompt": "x"}, False, lambda: TOKENIZER)
    assert data["prompt"][:] == [[{"role": "user", "content": "1?"}], [USER]]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "are messages, but the model's tokenizer has no chat template"),
        ("{{ raise_exception('System role not supported') }}", "does not accept the first prompt of .*: System role"),
    ],
)
def test_chat_templates(load: Load, monkeypatch: pytest.MonkeyPatch, template: str | None, message: str) -> None:
    monkeypatch.setattr(TOKENIZER, "chat_template", template)
    with pytest.raises(ValueError, match=message):
        load([{"prompt": "1?"}], conversational=True)
    assert load([{"prompt": "1?"}]) == ["1?"]  # text needs none


def test_arguments_of_an_unused_chat_template(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "1?"}))
    arguments = TrainArguments(dataset_name=str(tmp_path / "rows.jsonl"), reward_funcs=["countdown"])
    with pytest.raises(ValueError, match=r"chat_template_kwargs=\{'enable_thinking': False\} has no effect"):
        load_data(arguments, {"prompt": "x"}, False, lambda: TOKENIZER, {"enable_thinking": False})
