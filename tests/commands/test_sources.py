"""Files by their endings, and columns that hold several."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from trl_archer.commands.train.arguments import TrainArguments
from trl_archer.commands.train.columns import map_columns, suggest_column
from trl_archer.commands.train.launch import check_effects
from trl_archer.commands.train.sources import open_training_data

ROWS = [{"prompt": "a", "solution": "1"}, {"prompt": "b", "solution": "2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = b"prompt\tsolution\na\t1\nb\t2\n"


def opened(name: str, **arguments: Any) -> Any:
    return open_training_data(TrainArguments(dataset_name=name, reward_funcs=["math"], **arguments))[1]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("x.ndjson", LINES),
        ("x.jsonlines", LINES),
        ("X.JSONL", LINES),
        ("x.jsonl.gz", gzip.compress(LINES)),
        ("x.json.bz2", bz2.compress(LINES)),
        ("x.ndjson.xz", lzma.compress(LINES)),
        ("x.tsv", TABLE),
        ("x.tsv.gz", gzip.compress(TABLE)),
        ("x.csv.gz", gzip.compress(TABLE.replace(b"\t", b","))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # compressed content has a time stamp
)
def test_endings(tmp_path: Path, file: str, content: bytes, streaming: bool) -> None:
    (tmp_path / file).write_bytes(content)
    rows = list(opened(str(tmp_path / file), dataset_streaming=streaming))
    assert [{key: str(value) for key, value in row.items()} for row in rows] == ROWS


@pytest.mark.parametrize("file", ["rows.txt", "rows.xlsx", "rows.data", "rows", "rows.gz"])
def test_other_endings(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(LINES)
    with pytest.raises(ValueError, match=r"the ending '.*' is not supported. A file of data ends in .json, .jsonl"):
        opened(str(tmp_path / file))


def test_paths_without_a_file(tmp_path: Path) -> None:
    for name, message in (
        ("nowhere.ndjson", "There is no file 'nowhere.ndjson' to load data from"),
        ("nowhere.txt", "the ending '.txt' is not supported"),
        (f"{tmp_path}/nowhere", "There is no file or folder"),
        ("./nowhere", "There is no file or folder"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(name)


def test_folder_of_save_to_disk(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"`save_to_disk` wrote. Convert it with `datasets.load_from_disk\("):
        opened(str(tmp_path / "saved"))


@pytest.mark.parametrize("streaming", [False, True])
def test_several_columns_in_one(streaming: bool) -> None:
    row = {"public": {"input": ["1"]}, "private": {"input": ["2"]}, "info": {"name": "f"}, "other": 1, "tests": "old"}
    data = Dataset.from_list([row, row])
    data = data.to_iterable_dataset() if streaming else data
    columns = {"tests": ["public", "private", "info.name"], "level": "other", "hidden": "private"}
    first = next(iter(map_columns(data, columns, "x")))
    assert first["tests"] == {"public": row["public"], "private": row["private"], "name": "f"}
    assert (first["level"], first["hidden"]) == (1, row["private"])
    assert set(first) == {"tests", "level", "hidden", "info"}


@pytest.mark.parametrize("streaming", [False, True])
def test_fields_of_text_may_be_missing_in_some_rows(streaming: bool) -> None:
    data = Dataset.from_dict({"info": ['{"name": "f", "in": [1, "a"]}', "{}", '{"in": {"a": 1}}', None]})
    data = data.to_iterable_dataset() if streaming else data
    rows = list(map_columns(data, {"fn_name": "info.name", "inside": "info.in", "first": "info.in.0"}, "x"))
    assert [row["fn_name"] for row in rows] == ["f", None, None, None]
    assert [row["inside"] for row in rows] == ['[1, "a"]', None, '{"a": 1}', None]
    assert [row["first"] for row in rows] == [1, None, None, None]
    with pytest.raises(ValueError, match=r"names 'info\.other', which .*x lacks"):
        map_columns(data, {"fn_name": "info.other"}, "x")


@pytest.mark.parametrize(
    ("row", "needed", "expected"),
    [
        ({"data_source": 1, "reward_model": {"ground_truth": "3"}}, "solution", "reward_model.ground_truth"),
        ({"solution_text": 1, "answer": 1, "question": "a"}, "solution", "answer"),
        ({"answer": 1, "question": "a"}, "prompt", "question"),
        ({"a": 1}, "tests", "COLUMN"),
        ({"a": 1}, "level", "COLUMN"),
    ],
)
def test_suggested_columns(row: dict[str, Any], needed: str, expected: str) -> None:
    assert suggest_column(needed, Dataset.from_list([row])) == expected


OFF: dict[str, Any] = {"use_peft": False, "load_in_4bit": False, "use_vllm": False, "eval_strategy": "no"}
OFF["vllm_mode"] = "colocate"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora_r": 4}, "lora_r=4 has no effect without use_peft. Set use_peft: true, or remove lora_r."),
        ({"use_dora": True}, "use_dora=True has no effect without use_peft"),
        ({"bnb_4bit_quant_type": "nf4", "use_peft": True}, "without load_in_4bit"),
        ({"vllm_mode": "colocate"}, "vllm_mode='colocate' has no effect without use_vllm"),
        ({"eval_steps": 5}, "Set eval_strategy: steps, or remove eval_steps"),
        ({"num_completions_to_print": 5}, "without log_completions"),
        ({"hub_model_id": "a/b"}, "without push_to_hub"),
        ({"vllm_server_port": 1, "use_vllm": True}, "without vllm_mode. Set vllm_mode: server"),
        ({"dataset_test_split": "test"}, "without eval_strategy"),
    ],
)
def test_fields_without_effect(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_effects({**OFF, **given}, given)
    switch = message.partition("without ")[2].split(".")[0] or "eval_strategy"
    check_effects({**OFF, **given}, {*given, switch})  # off on purpose
    check_effects({**OFF, **given, switch: "server"}, given)
