"""Verdicts on programs. Trusted ones are run. Hostile ones are simulated by their possible outputs."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, product, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_archer.rewards.code.cases import CodeTests, read_tests
from trl_archer.rewards.code.judge import Judgment, Outcome, judge, same_output, same_value
from trl_archer.sandbox.program import Program, Run, SandboxError

CALL = """
import json
called = globals().get({function!r}) or getattr(globals()["Solution"](), {function!r})
value = called(*json.loads({arguments!r}))
print("\\n---" + json.dumps(value))
"""


def run_trusted(program: Program, seconds: float = 20.0) -> Run:
    """Runs a program of these tests without a sandbox."""
    source = program.source
    if program.function is not None:
        source += CALL.format(function=program.function, arguments=program.arguments)
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", source],
            input=program.stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Run("timeout", "", "", None, seconds)
    stdout, _, value = ended.stdout.rpartition("\n---")
    if program.function is None or ended.returncode:
        stdout, value = ended.stdout, ""
    return Run("failed" if ended.returncode else "ended", stdout, ended.stderr[-2000:], value or None, 0.0)


def scripted(*runs: Run) -> Callable[[Program], Run]:
    """Returns these runs one after the other, the last one again and again."""
    left = chain(runs, repeat(runs[-1] if runs else None))
    return lambda program: next(left)


def printed(stdout: str) -> Run:
    return Run("ended", stdout, "", None, 0.0)


def returned(value: str | None) -> Run:
    return Run("ended", "", "", value, 0.0)


ADD = read_tests({"inputs": ["1 2\n", "3 4\n", "0 0\n"], "outputs": ["3\n", "7\n", "0\n"]})
ADD_FUNCTION = read_tests({"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"})


READ = "a, b = map(int, input().split())\n"


@pytest.mark.parametrize(
    ("source", "tests", "outcome", "passed", "detail"),
    [
        ("print(sum(map(int, input().split())))", ADD, "passed", 3, None),
        (READ + "print(a - b)", ADD, "wrong answer", 0, "expected '3', got '-1'"),  # and right on the last one
        (READ + "print(a + b if a else 1)", ADD, "wrong answer", 2, "expected '0', got '1'"),
        (READ + "print(a + b, 1)", ADD, "wrong answer", 0, "expected '3', got '3 1'"),
        (READ + "1 // a\nprint(a + b)", ADD, "crashed", 2, "ZeroDivisionError: integer division or modulo by zero"),
        (READ + "print(a + b)\nraise SystemExit('done')", ADD, "crashed", 0, "done"),
        ("print(", ADD, "crashed", 0, "SyntaxError: '(' was never closed"),
        ("", ADD, "wrong answer", 0, "expected '3', got ''"),
        ("def add(a, b): return a + b", ADD_FUNCTION, "passed", 2, None),
        ("class Solution:\n    def add(self, a, b): return a + b", ADD_FUNCTION, "passed", 2, None),
        ("def add(a, b): return a * b + 1", ADD_FUNCTION, "wrong answer", 1, "expected '7', got '13'"),
        ("def add(a, b): print(a + b)", ADD_FUNCTION, "wrong answer", 0, "expected '3', got 'null'"),
        ("def add(a, b): raise ValueError(a)", ADD_FUNCTION, "crashed", 0, "ValueError: 1"),
        ("def sub(a, b): return a + b", ADD_FUNCTION, "crashed", 0, "KeyError: 'Solution'"),
    ],
)
def test_programs(source: str, tests: CodeTests, outcome: str, passed: int, detail: str | None) -> None:
    judgment = judge(source, tests, run_trusted)
    if detail is None:
        assert judgment == Judgment(passed, passed, passed, "passed", f"passed {passed} tests")
    else:
        assert (judgment.total, judgment.outcome) == (len(tests), outcome)
        if outcome == "wrong answer":  # being run again tells a program nothing
            assert judgment.tried == len(tests)
        else:
            assert judgment[:2] == (passed, passed + 1)
        assert judgment.reason == f"{outcome} on test {passed}: {detail}"
    assert judgment.is_correct == (detail is None)
    assert pickle.loads(pickle.dumps(judgment)) == judgment


def test_a_program_that_does_not_end() -> None:
    source = "if input() == '3 4':\n    while True: pass\nprint(3)"
    judgment = judge(source, ADD, partial(run_trusted, seconds=1.0))
    assert judgment == Judgment(1, 2, 3, "timeout", "timeout on test 1")
    assert judgment.fraction == 1 / 3


def test_each_test_is_a_run_of_its_own_and_expected_outputs_stay_here() -> None:
    seen: list[Program] = []

    def run(program: Program) -> Run:
        seen.append(program)
        return printed("3") if program.function is None else returned("3")

    judge("source", ADD, run, stop_early=False)
    judge("source", ADD_FUNCTION, run, stop_early=False)
    assert seen == [
        Program("source", stdin="1 2\n"),
        Program("source", stdin="3 4\n"),
        Program("source", stdin="0 0\n"),
        Program("source", function="add", arguments="[1, 2]"),
        Program("source", function="add", arguments="[3, 4]"),
    ]


def test_being_run_again_does_not_tell_which_guess_was_right() -> None:
    """Runs can leave each other signs, so the number of runs must not depend on the answers."""
    for guesses in product("37", repeat=3):
        seen: list[Program] = []
        answers = iter(guesses)

        def run(program: Program, seen: list[Program] = seen, answers: Iterator[str] = answers) -> Run:
            seen.append(program)
            return printed(next(answers))

        judge("", ADD, run)
        assert len(seen) == 3


def test_tests_that_ask_for_nothing_do_not_count_alone() -> None:
    tests = read_tests({"inputs": ["1", "2", "3"], "outputs": ["", "", "x"]})
    assert judge("", tests, scripted(printed("")), stop_early=False).fraction == 0
    assert judge("", tests, scripted(printed(""), printed(""), printed("x"))).is_correct
    assert judge("", tests, scripted(printed("x")), stop_early=False).fraction == 1 / 3


def test_the_fraction_needs_all_tests() -> None:
    runs = [Run("timeout", "3", "", None, 6.0), printed("7"), printed("1")]
    assert judge("", ADD, scripted(*runs)) == Judgment(0, 1, 3, "timeout", "timeout on test 0")
    judgment = judge("", ADD, scripted(*runs), stop_early=False)
    assert judgment == Judgment(1, 3, 3, "timeout", "timeout on test 0")
    assert judgment.fraction == 1 / 3
    assert not judgment.is_correct
    assert judge("", ADD, scripted(printed("3"), printed("7"), printed("0"))).fraction == 1.0
    assert not Judgment(1, 1, 3, "passed", "").is_correct


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (Run("failed", "3", "Traceback\n  File\nError: no\n", None, 0.0), "crashed", "crashed on test 0: Error: no"),
        (Run("failed", "3", "", None, 0.0), "crashed", "crashed on test 0"),
        (Run("failed", "", "a\x1b[31mred\x07\u202e", None, 0.0), "crashed", "crashed on test 0: a?[31mred??"),
        (Run("failed", "", "x" * 2000, None, 0.0), "crashed", f"crashed on test 0: {'x' * 200}"),
        (Run("timeout", "3", "", None, 6.0), "timeout", "timeout on test 0"),
        (Run("output", "3", "", None, 0.1), "too much output", "too much output on test 0"),
        (Run("new", "3", "", None, 0.1), "crashed", "crashed on test 0"),
        (printed("3" * 200), "wrong answer", f"wrong answer on test 0: expected '3', got '{'3' * 60}...'"),
        (printed("\x1b[0m'\n"), "wrong answer", "wrong answer on test 0: expected '3', got \"\\x1b[0m'\""),
        (printed("\ufffd"), "wrong answer", "wrong answer on test 0: expected '3', got '\ufffd'"),
    ],
)
def test_whatever_a_program_does(run: Run, outcome: Outcome, reason: str) -> None:
    tried = 3 if outcome == "wrong answer" else 1
    assert judge("", ADD, scripted(run)) == Judgment(0, tried, 3, outcome, reason)


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (Run("ended", "3", "TypeError: set\n", None, 0.0), "no value", "no value on test 0: TypeError: set"),
        (Run("ended", "3", "", None, 0.0), "no value", "no value on test 0"),
        (Run("failed", "", "", "3", 0.0), "crashed", "crashed on test 0"),
        (Run("timeout", "", "", "3", 0.0), "timeout", "timeout on test 0"),
        (returned("4"), "wrong answer", "wrong answer on test 0: expected '3', got '4'"),
        (returned("{"), "wrong answer", "wrong answer on test 0: expected '3', got '{'"),
        (returned(""), "wrong answer", "wrong answer on test 0: expected '3', got ''"),
        (returned("3 3"), "wrong answer", "wrong answer on test 0: expected '3', got '3 3'"),
        (returned('"3"'), "wrong answer", "wrong answer on test 0: expected '3', got '\"3\"'"),
    ],
)
def test_whatever_a_function_does(run: Run, outcome: Outcome, reason: str) -> None:
    tried = 2 if outcome == "wrong answer" else 1
    assert judge("", ADD_FUNCTION, scripted(run)) == Judgment(0, tried, 2, outcome, reason)


def test_output_of_a_function_is_not_its_value() -> None:
    """Nor does the return value replace the output."""
    assert judge("", ADD_FUNCTION, scripted(Run("ended", "3", "", "4", 0.0))).outcome == "wrong answer"
    assert judge("", ADD, scripted(Run("ended", "4", "", "3", 0.0))).outcome == "wrong answer"


def test_sandbox_errors_pass_through() -> None:
    def run(program: Program) -> Run:
        raise SandboxError("no namespace")

    with pytest.raises(SandboxError, match="no namespace"):
        judge("", ADD, run)


@pytest.mark.parametrize("tolerance", [-1e-9, float("nan"), float("inf")])
def test_tolerance_is_checked(tolerance: float) -> None:
    with pytest.raises(ValueError, match=f"tolerance is {tolerance}; it must be finite and at least 0"):
        judge("", ADD, scripted(), tolerance=tolerance)


def test_tolerance_reaches_the_comparison() -> None:
    tests = read_tests({"inputs": ["1"], "outputs": ["1.5"]})
    call = read_tests({"inputs": [[1]], "outputs": [1.5], "fn_name": "f"})
    for tolerance, correct in ((1e-6, False), (0.01, True)):
        assert judge("", tests, scripted(printed("1.501")), tolerance=tolerance).is_correct is correct
        assert judge("", call, scripted(returned("1.501")), tolerance=tolerance).is_correct is correct


def test_wrapped_values() -> None:
    wrapped = read_tests({"inputs": [[1], [2]], "outputs": [[2], [[4, 5]]], "fn_name": "f"})
    for runs, correct in (
        (("2", "[4, 5]"), True),
        (("[2]", "[[4, 5]]"), True),
        (("2", "[[4, 5]]"), True),
        (("[[2]]", "[4, 5]"), False),
        (("2", "4"), False),
    ):
        assert judge("", wrapped, scripted(*map(returned, runs))).is_correct is correct
    longer = read_tests({"inputs": [[1], [2]], "outputs": [[2], [4, 5]], "fn_name": "f"})
    assert judge("", longer, scripted(returned("2"))).outcome == "wrong answer"
    assert judge("", longer, scripted(returned("[2]"), returned("4"))).outcome == "wrong answer"


SAME, OTHER = True, False

OUTPUTS = [
    # White space
    ("3", "3", SAME),
    ("3\n", "3", SAME),
    ("3", "3\n\n\n", SAME),
    ("3", "\n\n3", SAME),
    ("3", "  3  ", SAME),
    ("1 2\n3", "1 2  \n3\t", SAME),
    ("1 2\n3", "1 2\r\n3\r\n", SAME),
    ("1 2", "1   2", SAME),
    ("1 2", "1\t2", SAME),
    ("  *\n***", "*\n***", SAME),
    ("1 2", "1\n2", OTHER),
    ("1\n2", "1 2", OTHER),
    ("1\n\n2", "1\n2", OTHER),
    ("1\n\n2", "1\n \n2", SAME),
    ("12", "1 2", OTHER),
    ("1 2", "12", OTHER),
    ("", "", SAME),
    ("", " \n ", SAME),
    ("", "0", OTHER),
    ("0", "", OTHER),
    ("1 2 3", "1 2", OTHER),
    ("1 2", "1 2 3", OTHER),
    ("1\n2", "1\n2\n3", OTHER),
    ("1\n2", "1", OTHER),
    # Words
    ("YES", "YES", SAME),
    ("YES", "yes", OTHER),
    ("YES", "Yes", OTHER),
    ("YES", "YES.", OTHER),
    ("yes 1", "1 yes", OTHER),
    ("Hello World", "HelloWorld", OTHER),
    ("caf\u00e9", "cafe\u0301", OTHER),
    ("a", "\u0430", OTHER),  # the Cyrillic letter
    # Integers, exactly
    ("7", "8", OTHER),
    ("7", "-7", OTHER),
    ("007", "7", OTHER),
    ("7", "007", OTHER),
    ("7", "+7", OTHER),
    ("0", "-0", OTHER),
    ("0011", "11", OTHER),
    ("1000000", "1000001", OTHER),
    ("50000000000000000", "50000000000000001", OTHER),
    ("1" * 30 + "1", "1" * 30 + "2", OTHER),
    ("1000", "1_000", OTHER),
    ("1000", "1,000", OTHER),
    ("5", "\u0665", OTHER),  # the Arabic digit
    ("16", "0x10", OTHER),
    # An integer written with a decimal point or an exponent
    ("1", "1.0", SAME),
    ("1", "1.", SAME),
    ("1", "1.0000001", SAME),
    ("3", "3.0000000000000004", SAME),
    ("3", "2.9999999999", SAME),
    ("1", "1.1", OTHER),
    ("1", "1.00001", OTHER),
    ("100000007", "1.00000007e8", SAME),
    ("100000007", "1e8", OTHER),
    ("100000007", "100000006.999", OTHER),
    ("9007199254740993", "9007199254740992.0", OTHER),
    ("12345678901234567", "1.2345678901234568e+16", OTHER),
    ("1" * 40, "1" * 40 + ".0", SAME),
    ("1" * 40, "1" * 39 + "2.0", OTHER),
    ("-2", "-2.0", SAME),
    ("0", "-0.0", SAME),
    ("0", "1e-9", SAME),
    # Decimals, with a tolerance
    ("1.0", "1", SAME),
    ("0.333333", "0.3333333333", SAME),
    ("0.333333", "0.33333", OTHER),
    ("2.50", "2.5", SAME),
    (".5", "0.5", SAME),
    ("0.5", "5e-1", SAME),
    ("0.5", "5E-01", SAME),
    ("1000000.0", "1000000.9", SAME),
    ("1000000.0", "1000001.1", OTHER),
    ("1.0", "1.000001", SAME),
    ("1.0", "1.0000011", OTHER),
    ("0.0", "0.000001", SAME),
    ("0.0", "0.0000011", OTHER),
    ("-0.5", "0.5", OTHER),
    ("1e5", "100000", SAME),
    ("0.1 0.2 YES", "0.10 0.20 YES", SAME),
    ("0.1 0.2 YES", "0.10 0.20 NO", OTHER),
    ("0.1 0.2", "0.2 0.1", OTHER),
    # Words that Python reads as numbers
    ("nan", "nan", SAME),
    ("nan", "NaN", OTHER),
    ("1.0", "nan", OTHER),
    ("inf", "inf", SAME),
    ("inf", "Infinity", OTHER),
    ("1.0", "inf", OTHER),
    ("1e999", "inf", OTHER),
    ("inf", "1e999", OTHER),
    ("1.5", "1e999", OTHER),
    ("1e999", "1e998", OTHER),
    ("1.5", "1e99999999999999999999", OTHER),
    ("1e99999999999999999999", "1.5", OTHER),
    ("1e99999999999999999999", "1e99999999999999999998", OTHER),
    ("0.5", "1_0e-1", OTHER),
    ("0.5", "1/2", OTHER),
    ("0.5", "0.5j", OTHER),
    ("1.2.3", "1.2.30", OTHER),
    ("0.5", "0.5,", OTHER),
    ("0.5", "--0.5", OTHER),
    ("0.5", "0.5e", OTHER),
    ("1.0", ".", OTHER),
]


@pytest.mark.parametrize(("expected", "got", "verdict"), OUTPUTS)
def test_outputs(expected: str, got: str, verdict: bool) -> None:
    assert same_output(expected, got) is verdict
    tests = CodeTests(None, ("", ""), (expected, "1"))
    assert judge("", tests, scripted(printed(got), printed("1"))).is_correct is verdict


def test_without_tolerance_only_the_notation_differs() -> None:
    assert same_output("3 0.5 1e2", "3.0 0.50 100", tolerance=0)
    assert not same_output("0.5", "0.50000000000001", tolerance=0)
    assert not same_output("3", "3.00000000000001", tolerance=0)
    assert same_value("[3, 0.5, 100.0]", "[3.0, 0.50, 1e2]", tolerance=0)
    assert not same_value("0.3", "0.30000000000000004", tolerance=0)


def test_integers_have_no_tolerance() -> None:
    assert same_output("3", "4.0", tolerance=2)
    assert not same_output("3", "4", tolerance=2)
    assert not same_value("3", "4", tolerance=2)


VALUES = [
    ("3", "3", SAME),
    ("3", " 3 ", SAME),
    ("3", "4", OTHER),
    ("3", "3.0", SAME),
    ("3", "3.0000000000000004", SAME),
    ("3", "3.1", OTHER),
    ("3.0", "3", SAME),
    ("0.1", "0.10000001", SAME),
    ("0.1", "0.1001", OTHER),
    ("1e20", "100000000000000000000", SAME),
    ("9007199254740993", "9007199254740992.0", OTHER),
    ("9007199254740993", "9007199254740992", OTHER),
    ("1" + "0" * 4000, "1" + "0" * 4000, SAME),
    ("1" + "0" * 4000, "1" + "0" * 3999 + "1", OTHER),
    ("1" + "0" * 4000, "1e4000", SAME),
    ("1", "1" * 5000, OTHER),
    ("true", "true", SAME),
    ("true", "1", SAME),
    ("false", "0", SAME),
    ("1", "true", SAME),
    ("true", "false", OTHER),
    ("true", '"true"', OTHER),
    ("null", "null", SAME),
    ("null", "0", OTHER),
    ("null", "false", OTHER),
    ("null", "[]", OTHER),
    ("[]", "null", OTHER),
    ('"a"', '"a"', SAME),
    ('"a"', '"A"', OTHER),
    ('"a"', '"a "', OTHER),
    ('"5"', "5", OTHER),
    ("5", '"5"', OTHER),
    ('"\\u00e9"', '"\u00e9"', SAME),
    ("[1, 2]", "[1,2]", SAME),
    ("[1, 2]", "[2, 1]", OTHER),
    ("[1, 2]", "[1, 2, 3]", OTHER),
    ("[1, 2]", "[1]", OTHER),
    ("[1, 2]", '"[1, 2]"', OTHER),
    ("[1, 2]", "{}", OTHER),
    ("[]", "[]", SAME),
    ("[]", "{}", OTHER),
    ("[[1, [2.5]], []]", "[[1, [2.5000000001]], []]", SAME),
    ("[[1, [2.5]], []]", "[[1, [2.6]], []]", OTHER),
    ("[3]", "3", OTHER),
    ("3", "[3]", OTHER),
    ('{"a": 1, "b": [2]}', '{"b": [2.0], "a": 1}', SAME),
    ('{"a": 1}', '{"a": 2}', OTHER),
    ('{"a": 1}', '{"b": 1}', OTHER),
    ('{"a": 1}', '{"a": 1, "b": 2}', OTHER),
    ('{"a": 1, "b": 2}', '{"a": 1}', OTHER),
    ('{"1": 2}', '{"1": 2}', SAME),
    ("NaN", "NaN", SAME),
    ("NaN", "1.0", OTHER),
    ("1.0", "NaN", OTHER),
    ("1", "NaN", OTHER),
    ("NaN", "null", OTHER),
    ("Infinity", "Infinity", SAME),
    ("Infinity", "-Infinity", OTHER),
    ("1.0", "Infinity", OTHER),
    ("Infinity", "1e999", OTHER),
    ("[NaN, 1]", "[NaN, 2]", OTHER),
    ("1", "", OTHER),
    ("1", "nan", OTHER),
    ("1", "1 1", OTHER),
    ("[1]", "[1", OTHER),
    ("[1]", "(1,)", OTHER),
    ("[1]", "[1,]", OTHER),
    ('"a"', "'a'", OTHER),
    ("1", "1e999999999999999999999", OTHER),
]


@pytest.mark.parametrize(("expected", "got", "verdict"), VALUES)
def test_values(expected: str, got: str, verdict: bool) -> None:
    assert same_value(expected, got) is verdict


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [("[3]", "3", SAME), ("[3]", "[3]", SAME), ("[[3]]", "3", OTHER), ("[3, 4]", "3", OTHER), ("[]", "null", OTHER)],
)
def test_wrapped_value(expected: str, got: str, verdict: bool) -> None:
    assert same_value(expected, got, wrapped=True) is verdict


def test_expected_values_must_be_json() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        same_value("yes", "1")


def nested(depth: int, inside: str = "") -> str:
    return "[" * depth + inside + "]" * depth


@pytest.mark.parametrize(
    "value",
    [
        nested(100_000),
        "[" * 5_000_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "1" * 8_000_000,
        "-" + "1" * 8_000_000,
        "1." + "1" * 8_000_000,
        "1e" + "9" * 8_000_000,
        '"' + "a" * 8_000_000 + '"',
        '"' + "\\ud800" * 1_000_000 + '"',
        "[" + "1," * 2_000_000 + "1]",
        "[" + "NaN," * 1_000_000 + "1]",
        "\x00" * 8_000_000,
    ],
    ids=lambda value: value[:8],
)
def test_hostile_values(value: str) -> None:
    start = time.process_time()
    for expected in ("1", "[1]", '{"a": 1.5}', nested(400, "1.5")):
        assert not same_value(expected, value, wrapped=True)
    assert not judge("", ADD_FUNCTION, scripted(returned(value))).is_correct
    assert time.process_time() - start < 10


def test_deep_values_are_compared_without_recursion() -> None:
    depth = sys.getrecursionlimit() // 2
    assert same_value(nested(depth, "1.5"), nested(depth, "1.50000000001"))
    assert not same_value(nested(depth, "1.5"), nested(depth, "1.6"))


MANY_LINES = 1_000_000


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        ("3", "3" * 10_000_000, OTHER),
        ("3", "3\n" * 5_000_000, OTHER),
        ("3", "3 " * 5_000_000, OTHER),
        ("3", " " * 10_000_000 + "3", SAME),
        ("3", "3" + "\n" * 10_000_000, SAME),
        ("3.5", "1e" + "9" * 10_000_000, OTHER),
        ("3.5", "3." + "5" * 10_000_000, OTHER),
        ("3.5", "3.5" + "0" * 500, SAME),
        ("3.5", "3.5" + "0" * 5000, OTHER),  # more than a thousand digits are not a number
        ("3.5", "+" * 10_000_000, OTHER),
        ("3.5", "1e999999999", OTHER),
        ("3", "1e999999999", OTHER),
        ("3.5", "1e-999999999999999999999", OTHER),
        ("1e999999999", "1e-999999999", OTHER),
        ("1 2\n" * MANY_LINES, "1  2\n" * MANY_LINES, SAME),
        ("1 2\n" * MANY_LINES, "1 2\n" * (MANY_LINES - 1) + "1 3\n", OTHER),
        ("0.5 " * (MANY_LINES // 2), "0.50 " * (MANY_LINES // 2), SAME),
        ("a\n" * MANY_LINES, "\x00" * 10_000_000, OTHER),
    ],
    ids=lambda text: str(text)[:12].replace("\n", " ").replace("\0", "0"),
)
def test_hostile_outputs(expected: str, got: str, verdict: bool) -> None:
    start = time.process_time()
    assert same_output(expected, got) is verdict
    assert time.process_time() - start < 10


OUTPUT_TEXT = st.lists(
    st.sampled_from(
        ["1", "0", ".", "-", "+", "e", "E", "9" * 30, "nan", "inf", " ", "\n", "\r", "\x1c", "a", "\ud800"]
    ),
    max_size=30,
).map("".join)


@given(OUTPUT_TEXT, OUTPUT_TEXT)
@settings(max_examples=500, deadline=None)
def test_any_output_has_a_verdict(expected: str, got: str) -> None:
    assert same_output(expected, got) in (True, False)
    assert same_output(expected, expected)
    assert same_output(expected, f"\n {expected}\t\n")
    tokens = got.split()
    if same_output(expected, got):
        assert len(tokens) == len(expected.split())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)


def differs_from(value: object) -> Iterable[object]:
    """Values that differ from this one."""
    yield [value]
    yield {"value": value}
    if isinstance(value, list):
        yield [*value, 0]
        for index, inner in enumerate(value):
            for other in differs_from(inner):
                yield [*value[:index], other, *value[index + 1 :]]
    elif isinstance(value, dict):
        yield {**value, "no key": 0}
        for key, inner in value.items():
            for other in differs_from(inner):
                yield {**value, key: other}
    elif isinstance(value, int):
        yield int(value) + 2
    elif isinstance(value, str):
        yield f"{value}."
    else:
        yield "another"


@given(JSON_VALUES)
@settings(max_examples=200, deadline=None)
def test_values_equal_themselves_and_nothing_else(value: object) -> None:
    text = json.dumps(value)
    assert same_value(text, text, tolerance=0)
    for other in differs_from(value):
        assert not same_value(text, json.dumps(other))
        assert not same_value(json.dumps(other), text)
