"""Data by name or path, its columns, prompts and lengths."""

import json
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from trl_archer import CollapseAlarm
from trl_archer.commands.train.arguments import TrainArguments
from trl_archer.commands.train.data import load_data

from ..helpers.tiny import TOKENIZER

TEMPLATE = "{% for m in messages %}+ {{ m['content'] }} {% endfor %}{{ think }}"

ROWS = [
    {"problem": "1 + 1", "solution": "long", "answer": "2", "meta": {"tests": {"in": ["a"]}, "level": 1}},
    {"problem": "2 + 2 + 2", "solution": "longer", "answer": "6", "meta": {"tests": {"in": ["b"]}, "level": 2}},
    {"problem": "3", "solution": "short", "answer": "3", "meta": {"tests": {"in": ["c"]}, "level": 3}},
]
NEEDED = {"prompt": "the trainer", "solution": "the reward 'math_reward'"}
MAPPED = {"prompt": "problem", "solution": "answer"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


@pytest.fixture(autouse=True)
def chat_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOKENIZER, "chat_template", TEMPLATE)


def load(name: str, evaluates: bool = False, needed: dict[str, str] = NEEDED, **arguments: Any) -> tuple[Any, Any]:
    made = TrainArguments(dataset_name=name, reward_funcs=["math"], **arguments)
    return load_data(made, needed, evaluates, lambda: TOKENIZER)


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_are_mapped_and_replaced(path: str, streaming: bool) -> None:
    train, evaluation = load(path, dataset_columns=MAPPED, dataset_streaming=streaming)
    assert [(row["prompt"], row["solution"]) for row in train] == [("1 + 1", "2"), ("2 + 2 + 2", "6"), ("3", "3")]
    assert set(next(iter(train))) == {"prompt", "solution", "meta"}
    assert evaluation is None


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_inside_of_columns(path: str, streaming: bool) -> None:
    columns = {**MAPPED, "tests": "meta.tests", "answer": "meta.level"}
    train, _ = load(path, dataset_columns=columns, dataset_streaming=streaming, needed={"tests": "x"})
    first = next(iter(train))
    assert (first["tests"]["in"], first["answer"], first["solution"]) == (["a"], 1, "2")
    assert first["meta"]["level"] == 1


@pytest.mark.parametrize("kind", ["json", "parquet", "csv"])
def test_formats(tmp_path: Path, kind: str) -> None:
    data = Dataset.from_list([{"prompt": "a", "solution": "b"}, {"prompt": "c", "solution": "d"}])
    name = str(tmp_path / f"data.{kind}")
    getattr(data, f"to_{kind}")(name)
    train, _ = load(name)
    assert train.to_list() == data.to_list()


def test_folder_with_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"prompt": split, "solution": "1"}) + "\n")
    train, evaluation = load(str(tmp_path), evaluates=True)
    assert (train["prompt"][0], evaluation["prompt"][0]) == ("train", "test")
    with pytest.raises(ValueError, match=r"dataset_train_split='dev': Unknown split"):
        load(str(tmp_path), dataset_train_split="dev")


def test_evaluation_from_slices_or_another_file(path: str, tmp_path: Path) -> None:
    slices = {"dataset_train_split": "train[:-1]", "dataset_test_split": "train[-1:]"}
    train, evaluation = load(path, evaluates=True, dataset_columns=MAPPED, **slices)
    assert (len(train), evaluation["prompt"][0]) == (2, "3")
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"problem": "9", "answer": "9"}) + "\n")
    train, evaluation = load(path, evaluates=True, dataset_columns=MAPPED, eval_dataset_name=str(other))
    assert (len(train), evaluation["prompt"][0]) == (3, "9")


def test_playground() -> None:
    train, evaluation = load("playground", evaluates=True, needed={"prompt": "the trainer"})
    assert (len(train), len(evaluation)) == (4096, 256)
    assert set(train["prompt"]).isdisjoint(evaluation["prompt"])


@pytest.mark.parametrize("streaming", [False, True])
def test_template_and_messages(path: str, streaming: bool) -> None:
    train, _ = load(
        path,
        dataset_columns={"solution": "answer"},
        prompt_template="{{ problem }} ({{ meta.level }})\n\\boxed{}",
        system_prompt="Think.",
        dataset_streaming=streaming,
    )
    assert next(iter(train))["prompt"] == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "1 + 1 (1)\n\\boxed{}"},
    ]
    assert next(iter(train))["solution"] == "2"


def test_conversational(path: str, tmp_path: Path) -> None:
    train, _ = load(path, dataset_columns=MAPPED, conversational=True)
    assert train["prompt"][2] == [{"role": "user", "content": "3"}]
    train, _ = load(path, dataset_columns=MAPPED, prompt_template="Q: {{ prompt }}")
    assert train["prompt"][2] == "Q: 3"
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    file = tmp_path / "messages.jsonl"
    file.write_text(json.dumps({"prompt": messages, "solution": "1"}) + "\n")
    train, _ = load(str(file), conversational=True)
    assert train["prompt"][0] == messages
    with pytest.raises(ValueError, match=r"prompts of .* begin with a system message"):
        load(str(file), system_prompt="Think.")


@pytest.mark.parametrize("streaming", [False, True])
def test_long_prompts_are_left_out(path: str, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    train, _ = load(path, dataset_columns=MAPPED, max_prompt_length=3, dataset_streaming=streaming)
    assert [row["prompt"] for row in train] == ["1 + 1", "3"]
    assert streaming or "dropped 1 of 3 rows with longer prompts" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_no_prompt_is_short_enough(path: str, streaming: bool) -> None:
    with pytest.raises(
        ValueError, match=r"All prompts of .* have more than max_prompt_length=1 tokens. Raise it, or set"
    ):
        load(path, dataset_columns=MAPPED, prompt_template="1 2 3", max_prompt_length=1, dataset_streaming=streaming)


def test_length_counts_the_chat_template(path: str) -> None:
    arguments = TrainArguments(
        dataset_name=path, reward_funcs=["math"], dataset_columns=MAPPED, conversational=True, max_prompt_length=4
    )
    for think, kept in (("", 2), ("1 1", 1)):
        train, _ = load_data(arguments, NEEDED, False, lambda: TOKENIZER, {"think": think})
        assert len(train) == kept
    with pytest.raises(ValueError, match=r"All prompts of .* have more than max_prompt_length=4 tokens"):
        load_data(arguments, NEEDED, False, lambda: TOKENIZER, {"think": "1 1 1 1"})


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            "has no column 'prompt', which the trainer needs. Its columns: 'problem', 'solution', 'answer', 'meta'. "
            "Rename the one that holds it, as in `dataset_columns: {prompt: problem}`.",
        ),
        ({"dataset_columns": {"prompt": "question"}}, "maps 'prompt' to 'question', which"),
        ({"dataset_columns": {"prompt": "question"}}, "lacks. Its columns: 'problem', 'solution', 'answer', 'meta'."),
        ({"prompt_template": "{{ question }}"}, "'question' is undefined. Columns: 'problem'"),
        ({"prompt_template": "{{ problem"}, "prompt_template is not a valid Jinja template"),
        ({"system_prompt": "Think."}, "has no column 'prompt'"),
        ({"dataset_columns": {"prompt": "meta"}}, "is neither text nor a list of messages, but"),
        ({"dataset_config": "main"}, "dataset_config='main' has no effect for"),
        ({"eval_dataset_name": "x.jsonl"}, "is not used with eval_strategy='no'"),
    ],
)
def test_refused(path: str, arguments: dict[str, Any], message: str, streaming: bool) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        list(load(path, dataset_streaming=streaming, **arguments)[0])


@pytest.mark.parametrize("column", ["meta.cases", "answer.tests"])
def test_refused_nested_column(path: str, column: str) -> None:
    root = column.split(".")[0]
    with pytest.raises(
        ValueError, match=rf"names '{column}', which .* lacks. The column '{root}' has type (struct<|string)"
    ):
        load(path, dataset_columns={**MAPPED, "tests": column})
    with pytest.raises(ValueError, match=rf"names '{column}', which a row of .* lacks"):
        list(load(path, dataset_columns={**MAPPED, "tests": column}, dataset_streaming=True)[0])


def test_column_of_a_reward_is_missing(path: str) -> None:
    with pytest.raises(ValueError, match=r"no column 'tests', which the reward 'code_reward' needs.*\{tests: COLUMN\}"):
        load(
            path,
            dataset_columns={"prompt": "problem"},
            needed={"prompt": "the trainer", "tests": "the reward 'code_reward'"},
        )


def test_refused_files(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no file 'nowhere.jsonl' to load data from"):
        load("nowhere.jsonl")
    with pytest.raises(ValueError, match=r"is one file, without a split 'test' to evaluate on. Set eval_dataset_name"):
        load(path, evaluates=True, dataset_columns=MAPPED)
    (tmp_path / "empty.csv").write_text("prompt,solution\n")
    with pytest.raises(ValueError, match=r"empty.csv', dataset_train_split='train': .* no data"):
        load(str(tmp_path / "empty.csv"))
    (tmp_path / "cut.jsonl").write_text('{"prompt": "2 + 2", "solution": "4"}\n{"prompt": "2 + ')
    with pytest.raises(ValueError, match=r"cut.jsonl', dataset_train_split='train': (?!An error occurred)"):
        load(str(tmp_path / "cut.jsonl"))
    with pytest.raises(ValueError, match="the playground has the splits 'train' and 'test'"):
        load("playground", dataset_train_split="dev", needed={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_name": None}, "dataset_name is missing"),
        ({"reward_funcs": None}, "reward_funcs is missing"),
        ({"dataset_columns": "prompt: problem"}, "is not valid JSON"),
        ({"dataset_columns": "[1]"}, "does not map names to names"),
        ({"dataset_columns": {"prompt": 1}}, "does not map names to names"),
        ({"dataset_columns": {"prompt": "a", "solution": "a"}}, "maps two names to one column"),
        ({"reward_funcs": ['{"name": "math"']}, "is not valid JSON"),
        ({"reward_funcs": [{"weight": 1}]}, "neither a name nor a mapping with a `name`"),
        ({"reward_funcs": [3]}, "neither a name nor a mapping with a `name`"),
        ({"max_prompt_length": 0}, "max_prompt_length=0 leaves no prompt"),
        ({"ignore_bias_buffers": True}, "ignore_bias_buffers=True has no effect in a GRPO trainer"),
        (
            {"collapse_action": "halt"},
            "collapse_action='halt' is not one of 'warn' and 'stop'. Or disable the alarm ",
        ),
        ({"collapse_entropy_floor": 0.0}, "collapse_entropy_floor=0.0 is not positive"),
        ({"collapse_repetition_ceiling": 30.0}, "collapse_repetition_ceiling=30.0 is outside [0, 1)"),
        ({"collapse_patience": 0}, "collapse_patience=0 is not an integer >= 1"),
        (
            {"collapse_entropy_floor": None, "collapse_repetition_ceiling": None},
            "collapse_entropy_floor=None and collapse_repetition_ceiling=None leave nothing to watch",
        ),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainArguments(**{"dataset_name": "playground", "reward_funcs": ["math"], **arguments})


def test_arguments_as_the_command_line_gives_them() -> None:
    made = TrainArguments(
        dataset_name="x", dataset_columns='{"prompt": "problem"}', reward_funcs=["math", '{"name": "code", "seed": 1}']
    )
    assert made.columns == {"prompt": "problem"}
    assert made.rewards == [{"name": "math"}, {"name": "code", "seed": 1}]


def test_collapse_alarm_of_the_arguments() -> None:
    def alarm(**arguments: Any) -> CollapseAlarm | None:
        return TrainArguments(dataset_name="playground", reward_funcs=["countdown"], **arguments).collapse_alarm

    assert alarm(collapse_action="none", collapse_patience=0) is None
    assert alarm(collapse_action=None) is None
    settings = signature(CollapseAlarm).parameters
    made = alarm()
    assert {name: getattr(made, name) for name in settings} == {name: p.default for name, p in settings.items()}
    made = alarm(
        collapse_action="stop", collapse_entropy_floor=None, collapse_repetition_ceiling=0.5, collapse_patience=3
    )
    assert {name: getattr(made, name) for name in settings} == {
        "entropy_floor": None,
        "repetition_ceiling": 0.5,
        "patience": 3,
        "action": "stop",
    }
