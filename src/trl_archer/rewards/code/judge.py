"""Judges programs on their tests. Programs see only the inputs; expected outputs stay in this process."""

import functools
import json
import math
import re
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from ...sandbox.program import Program, Run
from .cases import CodeTests

Outcome = Literal["passed", "wrong answer", "no value", "crashed", "timeout", "too much output", "not scorable"]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_DIGITS = 1000
_MOST_CALLS, _MOST_SECONDS = 256, 60.0  # of a piece of test code
# Exact up to `_MAX_DIGITS` digits. Without traps, an exponent that is too large gives infinity, not an exception
_DECIMALS = Context(prec=_MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


class Judgment(NamedTuple):
    """
    Result of running a program on its tests. The outcome `"no value"` means that JSON cannot represent what a function
    returned, and `"not scorable"` that a test cannot be run.
    """

    passed: int  # 0 if a program that does nothing passes these tests as well
    tried: int
    total: int
    outcome: Outcome  # "passed", or how the first failing test ended
    reason: str  # the outcome in words, with the index of that test, counted from 0

    @property
    def is_correct(self) -> bool:
        """Whether the program passed all tests."""
        return self.passed == self.total

    @property
    def fraction(self) -> float:
        """Share of all tests passed. Tests that were not run count as failed."""
        return self.passed / self.total


def judge(
    source: str,
    tests: CodeTests,
    run: Callable[[Program], Run],
    *,
    stop_early: bool = True,
    tolerance: float = 1e-6,
) -> Judgment:
    """
    Runs a program on its tests, each in a separate run, and compares the results with the expected ones. With
    `stop_early`, the first run that ends without an answer is the last. No output of the program makes this function
    raise.

    A wrong answer does not stop it: runs of one program, and of several, can leave each other signs, for example
    in the numbers that the kernel gives out. Being run again must not tell that the last guess was right.
    """
    _decimal_tolerance(tolerance)  # refuses a bad one before anything runs
    passed, tried, reason, is_empty = 0, 0, "", True
    outcome: Outcome = "passed"
    for index, (given, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True)):
        if tests.form == "check":
            result, detail = _check(source, tests.function or "", given, run)
        else:
            function = "*" if tests.form == "python" else tests.function
            if function is None:
                ended = run(Program(source, stdin=given))
            else:
                arguments = json.dumps([[None, tests.function, *json.loads(given)]]) if function == "*" else given
                ended = run(Program(source, function=function, arguments=arguments))
            result, detail = _outcome(ended, expected, tests, tolerance)
        tried += 1
        if result == "passed":
            passed += 1
            if is_empty:
                is_empty = _does_nothing(tests, given, run) if tests.form == "check" else tests.asks_nothing(index)
            continue
        if outcome == "passed" or result == "not scorable":
            outcome, reason = result, f"{result} on test {index}{detail and f': {detail}'}"
        if result == "not scorable" or (stop_early and result != "wrong answer"):
            break
    if is_empty and passed:
        passed = 0
        if outcome == "passed":
            outcome, reason = "not scorable", "a program that does nothing would pass the tests that were chosen"
    return Judgment(passed, tried, len(tests), outcome, reason or f"passed {passed} tests")


@functools.cache
def _harness() -> str:
    return files("trl_archer.rewards.code").joinpath("harness.py").read_text(encoding="utf-8")


def _check(source: str, function: str, code: str, run: Callable[[Program], Run]) -> tuple[Outcome, str]:
    """
    Runs test code in one process and the program in others. The code is run again with one more answer of the program
    until it asks for no more, so it never meets the program itself, only data.
    """
    calls: list[Any] = []
    answers: list[str] = []
    seconds = 0.0
    while True:
        report, problem = _ask(code, function, answers, run)
        if report is None:
            # Before its first call the test code itself is at fault, or if it fails with any data
            is_at_fault = not answers or problem.startswith(("NameError", "ImportError", "ModuleNotFoundError"))
            if is_at_fault or _ask(code, function, None, run)[0] is None:
                return "not scorable", f"the test code fails: {problem}"
            return "wrong answer", problem
        if "passed" in report:
            detail = ", ".join(map(str, report["failures"]))
            return ("passed", "") if report["passed"] else ("wrong answer" if answers else "not scorable", detail)
        if report["calls"][:-1] != calls:
            return "not scorable", "the test code does not ask for the same each time"
        calls = report["calls"]
        if len(calls) > _MOST_CALLS:
            report, _ = _ask(code, function, None, run)
            is_long = report is None or report["calls"] > _MOST_CALLS
            return "not scorable" if is_long else "wrong answer", f"the test code makes more than {_MOST_CALLS} calls"
        needs_earlier = any(target is not None for target, *_ in calls)
        ended = run(Program(source, function="*", arguments=json.dumps(calls if needs_earlier else calls[-1:])))
        seconds += ended.seconds
        if seconds > _MOST_SECONDS:
            return "timeout", ""
        if ended.status != "ended" or ended.value is None:
            return _failure(ended) or ("no value", "")
        answers.append(ended.value)


def _does_nothing(tests: CodeTests, code: str, run: Callable[[Program], Run]) -> bool:
    """Whether a function that returns nothing passes a piece of test code."""
    report, _ = _ask(code, tests.function or "", None, run)
    return report is not None and bool(report.get("passed"))


def _ask(
    code: str, function: str, answers: list[str] | None, run: Callable[[Program], Run]
) -> tuple[dict[str, Any] | None, str]:
    """What test code says when it has these answers. If it says nothing, why."""
    ended = run(Program(_harness(), function="run", arguments=json.dumps([code, function, answers])))
    try:
        report = json.loads(ended.value or "")
    except (ValueError, RecursionError):
        return None, _last_line(ended.stderr) or ended.status
    return report, ""


def _failure(ended: Run) -> tuple[Outcome, str] | None:
    """How a run ended without an answer."""
    if ended.status == "timeout":
        return "timeout", ""
    if ended.status == "output":
        return "too much output", ""
    return None if ended.status == "ended" else ("crashed", _last_line(ended.stderr))


def _outcome(ended: Run, expected: str, tests: CodeTests, tolerance: float) -> tuple[Outcome, str]:
    failure = _failure(ended)
    if failure is not None:
        return failure
    if tests.function is None:
        got, is_same = ended.stdout, same_output(expected, ended.stdout, tolerance)
    elif ended.value is None:
        return "no value", _last_line(ended.stderr)
    else:
        got = ended.value
        if tests.form == "python":
            is_same = same_value(f'{{"value": {expected}}}', got, tolerance=tolerance, is_typed=True)
        else:
            is_same = same_value(expected, got, tests.wrapped, tolerance)
    return ("passed", "") if is_same else ("wrong answer", f"expected {_excerpt(expected)}, got {_excerpt(got)}")


def same_output(expected: str, got: str, tolerance: float = 1e-6) -> bool:
    """
    Compares what a program printed with what it should print.

    Both must have the same number of lines, not counting blank lines at either end, and each pair of lines the same
    number of tokens, separated by white space. Tokens must be equal as text. If one of two numbers has a decimal point
    or an exponent, they may differ by `|got - expected| <= tolerance * max(1, |expected|)`. If an integer is expected,
    they may differ by `tolerance` alone: `3.0` is 3, but a rounded float is not a large integer. `nan` and `inf` are
    words. With a tolerance of 0, only the notation of a number may differ, as in LiveCodeBench. Any text is compared in
    linear time.
    """
    if expected == got:
        return True
    allowed = _decimal_tolerance(tolerance)
    expected, got = expected.strip(), got.strip()
    if expected.count("\n") != got.count("\n"):
        return False
    lines = zip(expected.split("\n"), got.split("\n"), strict=True)
    return all(left == right or _same_line(left, right, allowed) for left, right in lines)


def _same_line(expected: str, got: str, tolerance: Decimal) -> bool:
    wanted = expected.split()
    tokens = got.split(maxsplit=len(wanted))  # one extra token is enough to decide
    if tokens == wanted or len(tokens) != len(wanted):
        return tokens == wanted
    return all(
        left == right or _same_number(left, right, tolerance) for left, right in zip(wanted, tokens, strict=True)
    )


def _same_number(expected: str, got: str, tolerance: Decimal) -> bool:
    if max(len(expected), len(got)) > _MAX_DIGITS or not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(got)):
        return False
    is_integer = _INTEGER.fullmatch(expected) is not None
    if is_integer and _INTEGER.fullmatch(got):
        return False  # their texts differ, and 007 is not 7
    return _is_close(_DECIMALS.create_decimal(expected), _DECIMALS.create_decimal(got), is_integer, tolerance)


def same_value(expected: str, got: str, wrapped: bool = False, tolerance: float = 1e-6, is_typed: bool = False) -> bool:
    """
    Compares what a function returned with what it should return, as JSON.

    Values are compared as in Python: `true` equals 1, text never equals a number, lists are ordered, and dicts are
    equal if they have the same keys (text in JSON) and equal values. Tuples are lists in JSON. Integers must be equal
    exactly. Numbers with a decimal point or an exponent have the tolerance of [`same_output`]. `NaN` and `Infinity`
    equal only themselves. With `wrapped`, the value may also be the single element of the expected list. Any text is
    compared in linear time. Text that Python cannot read as JSON, for example because of deep nesting, differs from
    every value. With `is_typed`, both are in the sandbox's encoding of Python's types: a tuple differs from a list, and
    the order of sets and dicts does not count.
    """
    allowed = _decimal_tolerance(tolerance)
    value = _load(expected)
    try:
        other = _load(got)
    except (ValueError, RecursionError):
        return False
    if wrapped and isinstance(value, list) and len(value) == 1 and _same_json(value[0], other, allowed):
        return True
    try:
        return _same_json(value, other, allowed, is_typed)
    except RecursionError:
        return False


def _load(text: str) -> Any:
    return json.loads(text, parse_float=_DECIMALS.create_decimal, parse_int=_integer)


def _integer(text: str) -> Any:
    return int(text) if len(text) <= _MAX_DIGITS else _LongInteger(text)


class _LongInteger(Decimal):
    """An integer that Python would read in quadratic time."""


def _same_json(expected: Any, got: Any, tolerance: Decimal, is_typed: bool = False) -> bool:
    pairs = [(expected, got)]  # a stack, because recursion has a limit
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            if is_typed and left.keys() & {"set", "dict"}:
                if not all(isinstance(items, list) for items in right.values()):
                    return False
                left, right = ({kind: sorted(side[kind], key=repr) for kind in side} for side in (left, right))
            pairs.extend((left[key], right[key]) for key in left)
        elif not _same_scalar(left, right, tolerance):
            return False
    return True


def _same_scalar(expected: Any, got: Any, tolerance: Decimal) -> bool:
    if isinstance(expected, Decimal | int) and isinstance(got, Decimal | int):
        is_integer = isinstance(expected, int | _LongInteger)
        if is_integer and isinstance(got, int | _LongInteger):
            return expected == got
        return _is_close(Decimal(expected), Decimal(got), is_integer, tolerance)
    return expected == got or all(isinstance(value, float) and math.isnan(value) for value in (expected, got))


def _is_close(expected: Decimal, got: Decimal, is_integer: bool, tolerance: Decimal) -> bool:
    allowed = tolerance if is_integer else _DECIMALS.multiply(tolerance, max(Decimal(1), _DECIMALS.abs(expected)))
    difference = _DECIMALS.abs(_DECIMALS.subtract(expected, got))
    return difference.is_finite() and difference <= allowed


def _decimal_tolerance(tolerance: float) -> Decimal:
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is {tolerance}; it must be finite and at least 0.")
    return Decimal(str(tolerance))


def _excerpt(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _last_line(text: str) -> str:
    line = text.strip().rpartition("\n")[2]
    return "".join(letter if letter.isprintable() else "?" for letter in line[:200])
