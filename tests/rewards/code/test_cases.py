"""Tests of programming problems in the layouts of datasets, which are not trusted either."""

import base64
import builtins
import copyreg
import json
import os
import pickle
import pickletools
import random
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trl_archer.rewards.code import cases, texts
from trl_archer.rewards.code.cases import CodeTests, read_rows, read_tests, sample_tests, unscorable_tests


def compressed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def livecodebench_private(tests: Any, protocol: int | None = None) -> str:
    return compressed(pickle.dumps(json.dumps(tests), protocol))


STDIN = CodeTests(None, ("1 2\n", "3 4\n"), ("3\n", "7\n"))
CALL = CodeTests("add", ("[1, 2]", "[3, 4]"), ("3", "7"))
LIVECODEBENCH = [
    {"input": "1 2\n", "output": "3\n", "testtype": "stdin"},
    {"input": "3 4\n", "output": "7\n", "testtype": "stdin"},
]
FUNCTIONAL = [
    {"input": "1\n2", "output": "3", "testtype": "functional"},
    {"input": "3\n4", "output": "7", "testtype": "functional"},
]
COLUMNS = {"input": ["1 2\n", "3 4\n"], "output": ["3\n", "7\n"]}


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        # APPS, TACO, Eurus-2
        ({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}, STDIN),
        ({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"], "fn_name": None}, STDIN),
        ({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"], "fn_name": ""}, STDIN),
        ({"inputs": [["1 2", ""], ["3 4", ""]], "outputs": [["3", ""], ["7", ""]]}, STDIN),
        ({"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"}, CALL),
        ({"inputs": ["1\n2", "3\n4\n"], "outputs": ["3", "7"], "fn_name": "add"}, CALL),
        # CodeContests, alone or as a whole row; Arrow fills in None
        ({"public_tests": COLUMNS, "private_tests": None, "generated_tests": {"input": [], "output": []}}, STDIN),
        (
            {
                "name": "A",
                "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
                "generated_tests": [{"input": "3 4\n", "output": "7\n"}],
            },
            STDIN,
        ),
        (COLUMNS, STDIN),
        # LiveCodeBench and DeepCoder
        (LIVECODEBENCH, STDIN),
        (tuple(LIVECODEBENCH), STDIN),
        ([{**test, "metadata": {"func_name": None}} for test in LIVECODEBENCH], STDIN),
        ([{**test, "metadata": {"func_name": "add"}} for test in LIVECODEBENCH], STDIN),
        ([{**test, "metadata": {"func_name": "add"}} for test in FUNCTIONAL], CALL),
        (livecodebench_private(LIVECODEBENCH), STDIN),
        (
            {
                "question_id": "abc",
                "public_test_cases": json.dumps(FUNCTIONAL[:1]),
                "private_test_cases": livecodebench_private(FUNCTIONAL[1:]),
                "metadata": '{"func_name": "add"}',
            },
            CALL,
        ),
        (
            {
                "public_test_cases": json.dumps(LIVECODEBENCH[:1]),
                "private_test_cases": json.dumps(LIVECODEBENCH[1:]),
                "metadata": "{}",
            },
            STDIN,
        ),
        # PrimeIntellect and Open-R1
        (
            [
                {"type": "stdin_stdout", "fn_name": None, "input": "1 2\n", "output": "3\n"},
                {"type": "stdin_stdout", "fn_name": None, "input": "3 4\n", "output": "7\n"},
            ],
            STDIN,
        ),
        (
            {
                "language": "python",
                "test_cases": [
                    {"type": "function_call", "fn_name": "add", "input": [1, 2], "output": 3},
                    {"type": "function_call", "fn_name": "add", "input": [3, 4], "output": 7},
                ],
            },
            CALL,
        ),
        ({"test_cases": json.dumps({**COLUMNS, "type": "stdin_stdout"})}, STDIN),
        ({"test_cases": json.dumps({**COLUMNS, "language": "Python 3"})}, STDIN),
        # Numbers, a single test, lists that are written as text, and texts within texts
        ({"input": "1", "output": 2}, CodeTests(None, ("1",), ("2",))),
        ({"inputs": "1", "outputs": "2"}, CodeTests(None, ("1",), ("2",))),
        ({"inputs": 1.5, "outputs": ["a", "b"]}, CodeTests(None, ("1.5",), ("a\nb",))),
        ({"inputs": "['1 2\\n', '3 4\\n']", "outputs": '["3\\n", "7\\n"]'}, STDIN),
        ({"input": [[1, 2], [3, 4]], "output": ["3", "7"], "fn_name": "add"}, replace(CALL, outputs=('"3"', '"7"'))),
        (
            {"inputs": ["[1]\n'a'", "(1, 2)\nNone"], "outputs": ["True", "{'b': [1]}"], "fn_name": "f"},
            CodeTests("f", ('[[1], "a"]', "[[1, 2], null]"), ("true", '{"b": [1]}')),
        ),
        (json.dumps(json.dumps(json.dumps(LIVECODEBENCH))), STDIN),
        (repr({**COLUMNS, "fn_name": None}), STDIN),
        (repr(json.dumps(LIVECODEBENCH)), STDIN),
        (livecodebench_private(json.dumps(LIVECODEBENCH)), STDIN),
        (
            {"test_cases": {"type": "function_call", "fn_name": "add", "input": ["1\n2", [3, 4]], "output": ["3", 7]}},
            CALL,
        ),
    ],
)
def test_layouts(tests: Any, expected: CodeTests) -> None:
    assert read_tests(tests) == expected
    if not isinstance(tests, str):
        assert read_tests(json.dumps(tests)) == expected
        assert read_tests("\n " + json.dumps(tests, indent=1)) == expected


def test_function_from_another_column() -> None:
    assert read_tests(FUNCTIONAL, function="add") == CALL
    assert read_tests(LIVECODEBENCH, function="add") == STDIN  # they declare their form
    assert read_tests({"inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}, function="add") == CALL
    assert read_tests({"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"}, function="other") == CALL


@pytest.mark.parametrize(
    ("tests", "inputs", "outputs", "wrapped"),
    [
        # With arguments in a list, an expected value is used as is
        ({"inputs": [["a"], ["5"]], "outputs": ["b", "5"]}, ('["a"]', '["5"]'), ('"b"', '"5"'), False),
        ({"inputs": [[[1, 2]], [[]]], "outputs": [[1], []]}, ("[[1, 2]]", "[[]]"), ("[1]", "[]"), False),
        ({"inputs": [[]], "outputs": [None, 1][1:]}, ("[]",), ("1",), False),
        ({"inputs": [(1, 2)], "outputs": [{3: (4, 5)}]}, ("[1, 2]",), ('{"3": [4, 5]}',), False),
        # With arguments as text, it is JSON
        ({"inputs": ['"a"', "5"], "outputs": ['"b"', "5"]}, ('["a"]', "[5]"), ('"b"', "5"), False),
        ({"inputs": ["[1,2]\n\n3 "], "outputs": [" true"]}, ("[[1, 2], 3]",), ("true",), False),
        # Wrapped if all of them are
        ({"inputs": [[1], [2]], "outputs": [[1], [[2, 3]]]}, ("[1]", "[2]"), ("[1]", "[[2, 3]]"), True),
        ({"inputs": ["1", "2"], "outputs": ["[1]", "[2]"]}, ("[1]", "[2]"), ("[1]", "[2]"), True),
        ({"inputs": ["1", "2"], "outputs": ["[1]", "[2, 3]"]}, ("[1]", "[2]"), ("[1]", "[2, 3]"), False),
        # Numbers outside the JSON standard
        ({"inputs": [[float("inf")]], "outputs": [float("nan")]}, ("[Infinity]",), ("NaN",), False),
        ({"inputs": ["12345678901234567890123"], "outputs": ["0.1"]}, ("[12345678901234567890123]",), ("0.1",), False),
        ({"inputs": ['"\\ud800"'], "outputs": ["1"]}, ('["\\ud800"]',), ("1",), False),
    ],
)
def test_calls(tests: dict[str, Any], inputs: Any, outputs: Any, wrapped: bool) -> None:
    assert read_tests({**tests, "fn_name": "f"}) == CodeTests("f", inputs, outputs, wrapped)


def test_functional_tests_are_never_wrapped() -> None:
    metadata = {"func_name": "f"}
    tests = [{"input": "1", "output": "[1]", "testtype": "functional", "metadata": metadata}]
    assert read_tests(tests) == CodeTests("f", ("[1]",), ("[1]",), wrapped=False)
    tests = [{"input": [1], "output": "[1]", "testtype": "functional", "metadata": metadata}]
    assert read_tests(tests) == CodeTests("f", ("[1]",), ("[1]",), wrapped=False)


DEEP = "[" * 100_000 + "]" * 100_000
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (None, "The tests are NoneType"),
        (3, "The tests are int"),
        (b"[]", "The tests are bytes"),
        ([], "There are no tests"),
        ("[]", "There are no tests"),
        ({}, r"The tests have the keys \[\]"),
        ({"inputs": ["1"]}, r"keys \['inputs'\]"),
        ({"inputs": "1", "outputs": None}, "but not the lists 'inputs' and 'outputs'"),
        ({"inputs": [], "outputs": []}, "There are no tests"),
        ({"inputs": ["1"], "outputs": []}, "1 'inputs' and 0 'outputs'"),
        ({"input": ["1"], "output": ["1", "2"]}, "1 'input' and 2 'output'"),
        ({"public_tests": {"input": ["1"]}}, r"keys \['input'\]"),
        ({"public_tests": {"input": [], "output": []}}, "There are no tests"),
        (["1"], "Test 0 is '1'"),
        ([{"input": "1", "output": "1"}, {"input": "1"}], "Test 1 is {'input': '1'}"),
        ({"inputs": [[1]], "outputs": ["1"]}, r"The input of test 0 is \[1\], neither text"),
        ({"inputs": ["1", "2"], "outputs": ["1", None]}, "The output of test 1 is None, neither text"),
        ({"inputs": ["1"], "outputs": [["1", 2]]}, r"The output of test 0 is \['1', 2\]"),
        ({"inputs": ["\ud800"], "outputs": ["1"]}, "The input of test 0 cannot be encoded"),
        ({"inputs": ["1", "2"], "outputs": ["", " \n"]}, "All expected outputs are blank"),
        ({"inputs": [[1], [2]], "outputs": [None, None], "fn_name": "f"}, "All expected values are null"),
        ({"inputs": [[1], [2]], "outputs": [[None], [None]], "fn_name": "f"}, "All expected values are null"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": "a b"}, "'a b', which is not the name"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": "f();g"}, "not the name of a function"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": 3}, "The name of the function is 3"),
        ({"inputs": [1], "outputs": [1], "fn_name": "f"}, "The input of test 0 is 1, neither a list of arguments"),
        ({"inputs": [{"x": 1}], "outputs": [1], "fn_name": "f"}, "neither a list of arguments"),
        ({"inputs": [" \n"], "outputs": ["1"], "fn_name": "f"}, "The input of test 0 is blank"),
        ({"inputs": ["1\na"], "outputs": ["1"], "fn_name": "f"}, "The input of test 0 cannot be read as JSON"),
        ({"inputs": ["1"], "outputs": ["yes"], "fn_name": "f"}, "The output of test 0 cannot be read as JSON"),
        ({"inputs": ["1" * 5000], "outputs": ["1"], "fn_name": "f"}, "The input of test 0 cannot be read as JSON"),
        ({"inputs": [[1]], "outputs": [{1, 2}], "fn_name": "f"}, "The output of test 0 cannot be written as JSON"),
        ({"inputs": [[b"1"]], "outputs": [1], "fn_name": "f"}, "The input of test 0 cannot be written as JSON"),
        ({"inputs": [[1]], "outputs": [CYCLE], "fn_name": "f"}, "The output of test 0 cannot be written as JSON"),
        (
            [{**FUNCTIONAL[0], "metadata": {"func_name": "f"}}, LIVECODEBENCH[0]],
            "'f', standard input; they must all use the same one",
        ),
        ([{**FUNCTIONAL[0], "fn_name": "f"}, {**FUNCTIONAL[0], "fn_name": "g"}], "use 'f', 'g'; they must"),
        (FUNCTIONAL, "no 'func_name' in their metadata"),
        ([{**FUNCTIONAL[0], "metadata": "add"}], "'metadata' cannot be read as JSON"),
        ([{"input": "1", "output": "1", "type": "interactive"}], "The type of a test is 'interactive'"),
        ([{"input": "1", "output": "1", "type": ["stdin"]}], r"The type of a test is \['stdin'\]"),
        ({"language": "cpp", "test_cases": [{"input": "1", "output": "1"}]}, "for programs in 'cpp', not Python"),
        ([{"input": "1", "output": "1", "language": "C++"}], "for programs in 'C[+][+]', not Python"),
        ('{"inputs": ["1"], "outputs"', "The text of the tests cannot be read as JSON"),
        (DEEP, "nested too deeply"),
        ({"inputs": [DEEP], "outputs": ["1"], "fn_name": "f"}, "nested too deeply"),
        ('{"test_cases":' * 300 + "1" + "}" * 300, "The tests are int"),
        ("", "starts with '' and is neither JSON nor"),
        ("tests", "starts with 'tests' and is neither JSON nor"),
        ("\u00e4" * 8, "neither JSON nor a Python literal"),
        ("5", "neither JSON nor a Python literal"),
        (base64.b64encode(b"[]" * 20).decode(), "neither JSON nor base64"),
        (livecodebench_private(LIVECODEBENCH)[:40], "empty, cut off, or larger than 256 MiB"),
        (compressed(b"[]" * 20), "must be a pickle of one string"),
        (compressed(b"\x80\x04" + b"\x94" * 1000 + b"\x8c\x02[]."), "nothing else: more than 16 opcodes"),
        (compressed(pickle.dumps(None)), "must be a pickle of one string and nothing else: NONE at byte 2"),
        (compressed(pickle.dumps(["[]"])), "nothing else: EMPTY_LIST"),
        (compressed(pickle.dumps("[]")[:-1]), "must be a pickle of one string"),
        (compressed(pickle.dumps("text of the tests")), "starts with 'text of the tests' and is neither JSON nor"),
        (compressed(b"\x80\x04\x94\x94\x94\x94\x94."), "a pickle without a string"),
        (compressed(b"\x8c\x02[]\x8c\x02[]."), "nothing else: SHORT_BINUNICODE at byte 4"),
    ],
)
def test_tests_that_cannot_be_used(tests: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tests(tests)


def test_deep_objects_are_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        read_tests({"inputs": [[1]], "outputs": [deep], "fn_name": "f"})
    while isinstance(deep, list):  # freed step by step, for older interpreters
        deep = deep[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("size", [1, 100_000])
def test_every_protocol_of_a_pickled_string(protocol: int, size: int) -> None:
    tests = [{"input": "\u00e4\n" * size, "output": "1", "testtype": "stdin"}]
    assert read_tests(livecodebench_private(tests, protocol)).inputs == ("\u00e4\n" * size,)


class Reduces:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def attacks(target: Path) -> dict[str, bytes]:
    command = f"touch {target}"
    objects = {
        "os.system": Reduces(os.system, command),
        "eval": Reduces(builtins.eval, f"open({str(target)!r}, 'w')"),
        "exec": Reduces(builtins.exec, f"open({str(target)!r}, 'w')"),
        "subprocess": Reduces(subprocess.call, ["touch", str(target)]),
        "getattr": Reduces(getattr, os, "system"),
        "copyreg": Reduces(copyreg._reconstructor, Path, object, None),
        "nested": [{"a": ("b", Reduces(Reduces, Reduces(os.system, command)))}],
        "string and then call": ("[]", Reduces(os.system, command)),
    }
    pickles = {}
    for name, attack in objects.items():
        for protocol in (0, 2, 4):
            try:
                pickles[f"{name}, protocol {protocol}"] = pickle.dumps(attack, protocol)
            except (TypeError, pickle.PicklingError):  # a module cannot be pickled
                continue
    raw = {
        "global": f"cos\nsystem\n(S'{command}'\ntR.",
        "inst": f"(S'{command}'\nios\nsystem\n.",
        "obj": f"(cos\nsystem\nS'{command}'\no.",
        "persistent id": "Pos.system\n.",
        "string first": f"V[]\ncos\nsystem\n(S'{command}'\ntR.",
        "build": "cos\nsystem\n(S'a'\ntb.",
    }
    extension = b"\x80\x02\x82\x01."
    memo = b"\x80\x02X\x02\x00\x00\x00[]r\xff\xff\xff\x7f0."  # an unpickler would allocate 2**31 entries
    return pickles | {name: text.encode() for name, text in raw.items()} | {"extension": extension, "memo": memo}


def test_no_pickle_is_run(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    found = attacks(target)
    assert len(found) >= 24
    for name, data in found.items():
        with pytest.raises(ValueError, match="must be a pickle of one string and nothing else"):
            read_tests(compressed(data))
        assert not target.exists(), name
    pickle.loads(found["os.system, protocol 4"])
    assert target.exists()  # so the attacks are real


def test_any_bytes_are_refused_or_text() -> None:
    generator = random.Random(0)
    opcodes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    seed = pickle.dumps(json.dumps(LIVECODEBENCH))
    refused = 0
    for _ in range(3000):
        data = bytearray(seed)
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(data) if generator.random() < 0.5 else 12)
            data[at : at + 1] = generator.choice([*opcodes, bytes([generator.randrange(256)]), b""])
        try:
            tests = read_tests(compressed(bytes(data)))
        except ValueError:
            refused += 1
        else:
            assert all(isinstance(text, str) for text in tests.inputs + tests.outputs)
    assert 1000 < refused < 3000


def test_decompression_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MAX_BYTES", 1024**2)
    bomb = compressed(pickle.dumps("[" + " " * 50 * 1024**2))
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_tests(bomb)
    fits = [{"input": "1" * 1_000_000, "output": "1"}]
    assert read_tests(livecodebench_private(fits)).inputs == ("1" * 1_000_000,)


@pytest.mark.parametrize(
    ("function", "inputs", "outputs", "message"),
    [
        (None, (), (), "There are no tests"),
        (None, ("1",), (), "1 inputs and 0 outputs"),
        ("a.b", ("[]",), ("1",), "'a.b', which is not the name"),
        ("", ("[]",), ("1",), "'', which is not the name"),
    ],
)
def test_tests_made_by_hand_are_checked(function: str | None, inputs: Any, outputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeTests(function, inputs, outputs)


def test_tests_can_be_sent_and_kept() -> None:
    assert pickle.loads(pickle.dumps(CALL)) == CALL
    assert {CALL, read_tests(FUNCTIONAL, function="add")} == {CALL}
    assert len(CALL) == 2


MANY = CodeTests("f", tuple("x" * (7 * i % 20) for i in range(20)), tuple(str(i) for i in range(20)), wrapped=True)


def test_sample_of_the_longest() -> None:
    sample = sample_tests(MANY, 3)
    assert [len(text) for text in sample.inputs] == [17, 18, 19]  # in their order, not sorted by length
    assert sample.outputs == ("11", "14", "17")
    assert (sample.function, sample.wrapped) == ("f", True)
    ties = CodeTests(None, ("a", "b", "c"), ("1", "2", "3"))
    assert sample_tests(ties, 2).outputs == ("1", "2")


def test_sample_at_random() -> None:
    samples = [sample_tests(MANY, 5, seed=seed) for seed in range(200)]
    for sample in samples:
        assert [MANY.inputs[int(output)] for output in sample.outputs] == list(sample.inputs)
        assert sorted(sample.outputs, key=int) == list(sample.outputs)
        assert len(set(sample.outputs)) == 5
    assert len({sample.outputs for sample in samples}) > 150
    counts = [sum(str(i) in sample.outputs for sample in samples) for i in range(20)]
    assert min(counts) > 25  # 50 is expected


def test_sample_is_the_same_in_every_process() -> None:
    program = (
        "from trl_archer.rewards.code.cases import *\n"
        "tests = CodeTests(None, tuple(map(str, range(20))), tuple(map(str, range(20))))\n"
        "print(*sample_tests(tests, 5, seed=3).inputs)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {"4 7 11 17 18\n"}


def nothing_and_more(seed: int, n: int) -> CodeTests:
    """Tests of which nearly all ask for nothing."""
    outputs = [" \n"] * 199 + ["7"]
    random.Random(seed).shuffle(outputs)
    return sample_tests(CodeTests(None, tuple(map(str, range(200))), tuple(outputs)), n, seed)


@pytest.mark.parametrize("n", [1, 2, 15])
def test_a_sample_asks_for_something(n: int) -> None:
    for seed in range(50):
        sample = nothing_and_more(seed, n)
        assert len(sample) == n
        assert "7" in sample.outputs
    nulls = CodeTests("f", ("[1]",) * 60, ("[null]",) * 59 + ("[3]",), wrapped=True)
    assert all("[3]" in sample_tests(nulls, n, seed).outputs for seed in (None, *range(20)))


def test_a_sample_has_different_outputs() -> None:
    tests = CodeTests(None, tuple(map(str, range(100))), ("YES",) * 98 + ("NO", "YES\n"))
    for seed in (None, *range(50)):
        assert set(sample_tests(tests, 15, seed).outputs) > {"NO"}
    assert len(sample_tests(tests, 1, 0)) == 1
    same = CodeTests(None, tuple(map(str, range(100))), ("YES",) * 100)
    assert sample_tests(same, 5, 0).outputs == ("YES",) * 5


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def test_rows_are_read_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a row holds, it costs little here, and gives tests or a reason."""
    good = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
    arrays = {name: np.array(value) for name, value in good.items()}
    numbers = {"inputs": [np.array([1, 2]), (np.int64(3), np.int8(4))], "outputs": [np.int64(3), 7.0], "fn_name": "add"}
    text = "[" + "[]," * (3 * 2**20) + "[]]"
    bombs = [compressed(b"\x80\x04" + b"\x94" * 2**24 + b"\x8c\x02[]."), compressed(pickle.dumps(text + " ", 4))]
    monkeypatch.setattr(cases, "_READ_MIB", 256)
    long = {"inputs": ["7"], "outputs": ["9" * 5000], "fn_name": "f"}
    rows = [good, good, arrays, arrays, numbers, json.dumps(good), deep(3000), deep(3000), CYCLE, b"[]", *bombs, long]
    read = read_rows(rows, [None] * len(rows), 15, 0)
    assert read[:4] == [STDIN] * 4
    assert read[0] is read[1]
    assert read[4] == CodeTests("add", ("[1, 2]", "[3, 4]"), ("3", "7.0"))
    assert read[5] == STDIN
    assert read[-1] == CodeTests("f", ("[7]",), ("9" * 5000,))
    assert all(isinstance(entry, str) for entry in read[6:-1])
    for function in (["f"], {"name": "f"}, 3, "f g", b"f"):
        assert isinstance(read_rows([{"inputs": [[1]], "outputs": [2]}], [function], 15, 0)[0], str)


def test_rows_that_no_program_can_be_scored_on() -> None:
    rows = [COLUMNS, "{}", {"inputs": [np.array([3])], "outputs": [{3}]}, "x" * 500, COLUMNS]
    found = unscorable_tests(rows, [None] * 4 + [7])
    assert [index for index, _, _ in found] == [1, 2, 3, 4]
    assert [len(excerpt) <= 80 for _, excerpt, _ in found] == [True] * 4
    assert "keys []" in found[0][2]
    assert found[3][2] == "The name of the function in 'fn_name' is int, not text."
    assert unscorable_tests([COLUMNS]) == []


def test_sample_of_few() -> None:
    assert sample_tests(MANY, 20) is MANY
    assert sample_tests(MANY, 100, seed=1) is MANY
    with pytest.raises(ValueError, match="n is 0; it must be at least 1"):
        sample_tests(MANY, 0)
