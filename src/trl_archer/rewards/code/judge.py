"""Judges programs on their tests. Programs see only the inputs; expected outputs stay in this process."""

import json
import math
import re
from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any, Literal, NamedTuple

from ...sandbox.program import Program, Run
from .cases import CodeTests

Outcome = Literal["passed", "wrong answer", "no value", "crashed", "timeout", "too much output"]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_DIGITS = 1000
# Exact up to `_MAX_DIGITS` digits. Without traps, an exponent that is too large gives infinity, not an exception
_DECIMALS = Context(prec=_MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


class Judgment(NamedTuple):
    """Result of running a program on its tests."""

    passed: int
    tried: int
    total: int
    outcome: (
        Outcome  # "passed", or how the first failing test ended; "no value": JSON cannot represent what it returned
    )
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
    `stop_early`, the first failure is the last run. No output of the program makes this function raise.
    """
    _decimal_tolerance(tolerance)  # refuses a bad one before anything runs
    passed, tried, reason = 0, 0, ""
    outcome: Outcome = "passed"
    for index, (given, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True)):
        if tests.function is None:
            ended = run(Program(source, stdin=given))
        else:
            ended = run(Program(source, function=tests.function, arguments=given))
        result, detail = _outcome(ended, expected, tests, tolerance)
        tried += 1
        if result == "passed":
            passed += 1
            continue
        if outcome == "passed":
            outcome, reason = result, f"{result} on test {index}{detail and f': {detail}'}"
        if stop_early:
            break
    return Judgment(passed, tried, len(tests), outcome, reason or f"passed {passed} tests")


def _outcome(ended: Run, expected: str, tests: CodeTests, tolerance: float) -> tuple[Outcome, str]:
    if ended.status == "timeout":
        return "timeout", ""
    if ended.status == "output":
        return "too much output", ""
    if ended.status != "ended":
        return "crashed", _last_line(ended.stderr)
    if tests.function is None:
        got, is_same = ended.stdout, same_output(expected, ended.stdout, tolerance)
    elif ended.value is None:
        return "no value", _last_line(ended.stderr)
    else:
        got, is_same = ended.value, same_value(expected, ended.value, tests.wrapped, tolerance)
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


def same_value(expected: str, got: str, wrapped: bool = False, tolerance: float = 1e-6) -> bool:
    """
    Compares what a function returned with what it should return, as JSON.

    Values are compared as in Python: `true` equals 1, text never equals a number, lists are ordered, and dicts are
    equal if they have the same keys (text in JSON) and equal values. Tuples are lists in JSON. Integers must be equal
    exactly. Numbers with a decimal point or an exponent have the tolerance of [`same_output`]. `NaN` and `Infinity`
    equal only themselves. With `wrapped`, the value may also be the single element of the expected list. Any text is
    compared in linear time. Text that Python cannot read as JSON, also because of deep nesting or long integers,
    differs from every value.
    """
    allowed = _decimal_tolerance(tolerance)
    value = _load(expected)
    try:
        other = _load(got)
    except (ValueError, RecursionError):
        return False
    if wrapped and isinstance(value, list) and len(value) == 1 and _same_json(value[0], other, allowed):
        return True
    return _same_json(value, other, allowed)


def _load(text: str) -> Any:
    return json.loads(text, parse_float=_DECIMALS.create_decimal)


def _same_json(expected: Any, got: Any, tolerance: Decimal) -> bool:
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
            pairs.extend((left[key], right[key]) for key in left)
        elif not _same_scalar(left, right, tolerance):
            return False
    return True


def _same_scalar(expected: Any, got: Any, tolerance: Decimal) -> bool:
    if isinstance(expected, Decimal | int) and isinstance(got, Decimal | int):
        is_integer = isinstance(expected, int)
        if is_integer and isinstance(got, int):
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
