"""Token records come back as they were written; anything else is refused with what it lacks."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trl_archer.records.parquet import (
    SCHEMA,
    CompletionRecord,
    read_token_records,
    step_path,
    write_token_records,
)

from ..helpers.records import SETTINGS, make_completions
from ..helpers.settings import record_settings


def assert_equal(left: CompletionRecord, right: CompletionRecord) -> None:
    for field in fields(CompletionRecord):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
            assert a.dtype == b.dtype, field.name
        else:
            assert a == b, field.name


def test_what_is_written_is_read(tmp_path: Path) -> None:
    completions = make_completions(10)
    path = write_token_records(tmp_path, completions[::-1], SETTINGS)
    assert path == tmp_path / "step-00000010.parquet"
    records = read_token_records(path)
    assert records.settings == SETTINGS
    ordered = sorted(completions, key=lambda c: (c.rank, c.row))
    for read, written in zip(records.completions, ordered, strict=True):
        assert_equal(read, written)
    assert [c.ref_per_token_logps is None for c in records.completions] == [False, False, False, True, False, False]
    assert [c.reward for c in records.completions] == [None, 2.0, 4.0, 1.0, 3.0, 5.0]


def test_file_has_the_documented_columns(tmp_path: Path) -> None:
    path = write_token_records(tmp_path / "records" / "a.parquet", make_completions(3), SETTINGS)
    schema = pq.read_schema(path)
    assert schema.equals(SCHEMA)
    assert {field.name: str(field.type).replace("element", "item") for field in schema} == {
        **{"step": "int64", "rank": "int32", "row": "int32", "prompt": "string", "completion": "string"},
        **{"token_ids": "list<item: int32>", "tokens": "list<item: string>"},
        **{"reward": "double", "advantage": "double", "entropy_threshold": "float"},
        **dict.fromkeys(("entropies", "per_token_logps", "old_per_token_logps"), "list<item: float>"),
        **dict.fromkeys(("ref_per_token_logps", "gate"), "list<item: float>"),
        **dict.fromkeys(("mask", "clipped_low", "clipped_high"), "list<item: bool>"),
    }
    assert json.loads(schema.metadata[b"trl_archer"]) == {"schema_version": 2, "settings": SETTINGS}


def test_a_folder_is_read_whole_or_by_step(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        write_token_records(tmp_path, make_completions(step, rows=2), SETTINGS)
    assert [c.step for c in read_token_records(tmp_path).completions] == [3, 3, 20, 20, 100, 100]
    assert [c.step for c in read_token_records(tmp_path, step=20).completions] == [20, 20]
    with pytest.raises(ValueError, match="no records of step 4; recorded steps: 3, 20, 100"):
        read_token_records(tmp_path, step=4)
    with pytest.raises(ValueError, match="has no completions of step 4"):
        read_token_records(step_path(tmp_path, 3), step=4)


def test_completions_of_no_tokens(tmp_path: Path) -> None:
    full = make_completions(1, rows=1)[0]
    empty = replace(
        full,
        **{f.name: getattr(full, f.name)[:0] for f in fields(full) if isinstance(getattr(full, f.name), np.ndarray)},
    )
    empty = replace(empty, tokens=[], row=1)
    read = read_token_records(write_token_records(tmp_path, [full, empty], SETTINGS)).completions
    assert_equal(read[0], full)
    assert_equal(read[1], empty)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_token_records(tmp_path, make_completions(1), SETTINGS)
    before = path.read_bytes()

    def breaks(table: Any, where: Path, **options: Any) -> None:
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("trl_archer.records.parquet.pq.write_table", breaks)
    with pytest.raises(OSError, match="disk full"):
        write_token_records(tmp_path, make_completions(1, rows=2), SETTINGS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = write_token_records(tmp_path, make_completions(1), SETTINGS)
    with path.open("rb") as old:
        before = path.read_bytes()
        write_token_records(tmp_path, make_completions(1, rows=2), SETTINGS)
        assert old.read() == before
    assert len(read_token_records(path).completions) == 2


def test_completions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    first, *_ = make_completions(1)
    short = replace(first, gate=first.gate[:-1])
    with pytest.raises(ValueError, match="rank 0, row 0 has 40 token_ids but 39 gate; give one entry per token"):
        write_token_records(tmp_path, [short], SETTINGS)
    with pytest.raises(ValueError, match=r"steps \[1, 2\]. Write one file per step"):
        write_token_records(tmp_path, [first, replace(first, step=2)], SETTINGS)
    with pytest.raises(ValueError, match=r"got steps \[\]"):
        write_token_records(tmp_path, [], SETTINGS)
    assert not any(tmp_path.iterdir())


def rewritten(path: Path, metadata: dict[bytes, bytes] | None = None, drop: tuple[str, ...] = ()) -> Path:
    table = pq.read_table(path)
    metadata = table.schema.metadata if metadata is None else metadata
    pq.write_table(table.drop_columns(list(drop)).replace_schema_metadata(metadata), path)
    return path


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"prompt": ["a"], "tokens": [["b"]]}), foreign)
    with pytest.raises(
        ValueError, match=r"foreign\.parquet does not hold token records .* lacks the columns step, rank"
    ):
        read_token_records(foreign)
    foreign.write_bytes(b"not Parquet at all")
    with pytest.raises(ValueError, match=r"foreign\.parquet cannot be read as Parquet"):
        read_token_records(foreign)
    with pytest.raises(ValueError, match=r"neither a Parquet file nor a folder .* Train with token_records_steps="):
        read_token_records(tmp_path / "gone")

    path = write_token_records(tmp_path / "a.parquet", make_completions(1), SETTINGS)
    with pytest.raises(
        ValueError, match=r"lacks the columns gate, mask\. Train with token_records_steps=\.\.\. and pass the output"
    ):
        read_token_records(rewritten(path, drop=("gate", "mask")))
    path = write_token_records(path, make_completions(1), SETTINGS)
    with pytest.raises(ValueError, match="Its metadata has no key `trl_archer`"):
        read_token_records(rewritten(path, metadata={}))
    with pytest.raises(ValueError, match="metadata under `trl_archer` that is not JSON"):
        read_token_records(rewritten(path, metadata={b"trl_archer": b"{"}))


def test_columns_that_may_be_empty_may_be_missing(tmp_path: Path) -> None:
    written = make_completions(1)
    path = write_token_records(tmp_path / "a.parquet", written, SETTINGS)
    read = read_token_records(rewritten(path, drop=("reward", "ref_per_token_logps"))).completions
    for record, expected in zip(read, sorted(written, key=lambda c: (c.rank, c.row)), strict=True):
        assert_equal(record, replace(expected, reward=None, ref_per_token_logps=None))


def test_the_output_folder_of_a_run_is_its_records(tmp_path: Path) -> None:
    write_token_records(tmp_path / "token_records", make_completions(3), SETTINGS)
    assert len(read_token_records(tmp_path, step=3).completions) == 6
    with pytest.raises(ValueError, match="no records of step 4; recorded steps: 3"):
        read_token_records(tmp_path, step=4)


def test_files_that_cannot_be_read_are_collected(tmp_path: Path) -> None:
    for step in (1, 2):
        write_token_records(tmp_path, make_completions(step), SETTINGS)
    cut = step_path(tmp_path, 1)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"step-00000001\.parquet cannot be read as Parquet"):
        read_token_records(tmp_path)
    unreadable: list[str] = []
    assert {c.step for c in read_token_records(tmp_path, unreadable=unreadable).completions} == {2}
    assert len(unreadable) == 1
    assert unreadable[0].startswith(f"Left out: {cut} cannot be read as Parquet")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_token_records(tmp_path, 1, [])


def test_unknown_versions_are_refused(tmp_path: Path) -> None:
    path = write_token_records(tmp_path / "a.parquet", make_completions(1), SETTINGS)
    newer = {b"trl_archer": json.dumps({"schema_version": 3, "settings": {}}).encode()}
    with pytest.raises(ValueError, match=r"schema version 3; this version reads 1 to 2\. It lacks the columns mask"):
        read_token_records(rewritten(path, metadata=newer, drop=("mask",)))


def test_version_1_is_read(tmp_path: Path) -> None:
    """It had the flat fields of the configuration, in which `None` means the low side."""
    flat = {"entropy_quantile": 0.7, "gate_width": 0.1, "epsilon": 0.2, "epsilon_high": 0.3, "beta": 0.01}
    flat |= {"epsilon_reasoning": 0.4, "epsilon_reasoning_high": None, "beta_reasoning": 0.0, "delta": 3.0}
    path = write_token_records(tmp_path / "a.parquet", make_completions(1), SETTINGS)
    old = {b"trl_archer": json.dumps({"schema_version": 1, "settings": {**flat, "temperature": 1.0}}).encode()}
    settings = read_token_records(rewritten(path, metadata=old)).settings
    expected = record_settings(**flat)
    assert settings == {name: expected[name] for name in expected if name in settings}
    assert settings["reasoning"] == {"epsilon_low": 0.4, "epsilon_high": 0.4, "beta": 0.0}


def test_other_types_are_refused(tmp_path: Path) -> None:
    path = write_token_records(tmp_path / "a.parquet", make_completions(1), SETTINGS)
    table = pq.read_table(path)
    index = table.column_names.index("gate")
    table = table.set_column(index, "gate", pa.array(["high"] * len(table)))
    pq.write_table(table, path)
    with pytest.raises(ValueError, match=r"a\.parquet has columns with other types"):
        read_token_records(path)


def test_files_of_different_settings_are_not_mixed(tmp_path: Path) -> None:
    write_token_records(tmp_path, make_completions(1), SETTINGS)
    write_token_records(tmp_path, make_completions(2), SETTINGS | {"gate_width": 0.1})
    with pytest.raises(ValueError, match="were recorded with different gate_width; read one step at a time"):
        read_token_records(tmp_path)
    assert read_token_records(tmp_path, step=2).settings["gate_width"] == 0.1
