"""Reads the tests of programming problems from the layouts of common datasets into one form."""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal, NamedTuple

from ...workers import shared_pool, workers_per_rank
from .asserts import read_asserts
from .texts import load, load_tests

_STDIN, _CALL = ("stdin", "stdin_stdout"), ("functional", "function_call")
_GROUPS = (
    *("public_tests", "private_tests", "generated_tests"),
    *("public_test_cases", "private_test_cases", "test_cases"),
)
_CODE = ("functional", "test_code", "test_list", "test", "asserts")  # keys of test code
_SETUP = ("import_prefix", "test_setup_code", "test_imports")
_READ_SECONDS, _READ_MIB = 20.0, 1024  # for the tests of a problem
_MOST_DIGITS = 100_000  # of an integer
_MOST_SENT = 256 * 2**20  # bytes of the tests that are kept


@dataclass(frozen=True)
class CodeTests:
    """
    Tests of one problem.

    Args:
        function (`str`, *optional*): The function that they call. `None` to run the whole program on standard input.
        inputs, outputs (`tuple[str, ...]`): By `form`.
        wrapped (`bool`): Whether each expected value is a list of one element that may be just a wrapper around it.
        form (`str`): `"json"`: each input is a JSON list of arguments, and the value is compared as JSON. `"python"`:
            the same, with named arguments, in JSON that keeps Python's types. `"check"`: each input is test code, and
            outputs are blank.
    """

    function: str | None  # `None` for standard input
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    wrapped: bool = False
    form: Literal["json", "python", "check"] = "json"

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(f"The tests have {len(self.inputs)} inputs and {len(self.outputs)} outputs.")
        if not self.inputs:
            raise ValueError("There are no tests.")
        if self.function is not None and not (isinstance(self.function, str) and self.function.isidentifier()):
            raise ValueError(f"The tests call {self.function!r:.80}, which is not the name of a function.")

    def __len__(self) -> int:
        return len(self.inputs)

    def asks_nothing(self, index: int) -> bool:
        """Whether a program that does nothing passes a test. `False` if that is not known from its output."""
        nothing = ("",) if self.function is None else ("null", "[null]") if self.wrapped else ("null",)
        return self.form != "check" and self.outputs[index].strip() in nothing


def read_tests(tests: Any, function: str | None = None) -> CodeTests:
    """
    Reads the tests of one problem from a row of a dataset.

    These layouts are supported, as Python objects, or as JSON or Python text, also within another text:

    - APPS, TACO, Eurus-2, DeepCoder: `{"inputs": [...], "outputs": [...], "fn_name": ...}`.
    - LiveCodeBench, DeepCoder: `[{"input": ..., "output": ..., "testtype": "stdin" or "functional", "metadata":
      {"func_name": ...}}, ...]`, or a row with `public_test_cases`, `private_test_cases` and `metadata`. Private tests
      may be base64 text of a zlib-compressed pickle of JSON text. Pickles are not executed: a pickle that holds
      anything but a single string is refused.
    - PrimeIntellect: `[{"input": ..., "output": ..., "type": "stdin_stdout" or "function_call", "fn_name": ...}, ...]`.
    - CodeContests: `{"public_tests": {"input": [...], "output": [...]}, "private_tests": ..., "generated_tests": ...}`.
    - Open-R1, PrimeIntellect, SYNTHETIC-1: `{"test_cases": ...}` around any of these (`verification_info`).
    - Archer-Code and rllm (`functional`), HumanEval (`test`), Skywork-OR1 (`test_code`), MBPP (`test_list`), KodCode
      and AceCoder (text, or a list of texts): assertions, or functions that assert, see
      [`~trl_archer.rewards.code.asserts.read_asserts`]. `entry_point` or `fn_name` names the function.

    Tests on standard input hold text, a number, or a list of lines. Tests that call a function hold its arguments as a
    list, or as text with one JSON value per line. If the arguments are a list, the expected value is used as is. If
    they are text, or the test is `functional`, an expected value that is text is JSON. APPS, TACO and PrimeIntellect
    wrap expected values in a list of one element, which looks the same as a function that returns such lists. Their
    graders accept both. We do too, but only if the expected values of all tests look wrapped, and the first element of
    a longer list never replaces that list. LiveCodeBench does not wrap values.

    `function` names the function for tests that do not contain its name; DeepCoder keeps it in another column. Tests
    that declare standard input ignore it. Raises `ValueError` if the tests are empty, incomplete or malformed, mix
    standard input and calls, are for another language than Python, or would be passed by a program that does nothing.
    The reward is then `None`, not 0.
    """
    try:
        if isinstance(tests, str):
            tests = load_tests(tests)
        code, entry = _test_code(tests)
        if code:
            return _code_tests(code, function or entry)
        cases = list(_cases(tests, function))
        functions = {case.function for case in cases}
        if len(functions) > 1:
            names = ", ".join(sorted("standard input" if name is None else repr(name)[:80] for name in functions))
            raise ValueError(f"The tests of one problem use {names}; they must all use the same one.")
        name = functions.pop() if functions else None
        return _program_tests(cases) if name is None else _call_tests(name, cases)
    except RecursionError:
        raise ValueError("The tests are nested too deeply.") from None


def sample_tests(tests: CodeTests, n: int, seed: int | None = None) -> CodeTests:
    """
    Keeps at most `n` tests, in their order.

    All completions of a prompt should run the same tests, or their rewards differ by chance. The choice therefore
    depends only on the arguments and is the same in every process. Without a seed, the tests with the longest inputs
    are kept, as in DeepCoder. They separate slow programs from fast ones, but lose small edge cases.

    If all tests kept by that rule have the same output, the last one is exchanged for one with another output. So
    there is always one that a program that does nothing fails and, for `n` above 1, one that a program that always
    answers the same fails, if the tests have one.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    if n >= len(tests):
        return tests
    order = list(range(len(tests)))
    if seed is None:
        order.sort(key=lambda index: -len(tests.inputs[index]))
    else:
        order = random.Random(seed).sample(order, len(order))
    chosen = order[:n]
    outputs = ["" if tests.asks_nothing(index) else tests.outputs[index].strip() for index in range(len(tests))]
    if len({outputs[index] for index in chosen}) == 1 and (n > 1 or not outputs[chosen[0]]):
        others = (index for index in order[n:] if outputs[index] != outputs[chosen[0]])
        chosen[-1] = next(others, chosen[-1])
    kept = [tuple(column[index] for index in sorted(chosen)) for column in (tests.inputs, tests.outputs)]
    return replace(tests, inputs=kept[0], outputs=kept[1])


def read_rows(
    rows: Sequence[Any], functions: Sequence[Any], max_tests: int | None, seed: int | None
) -> list[CodeTests | str]:
    """
    The tests of each row, at most `max_tests` each, or why they cannot be used. Rows that follow each other and are
    equal are read once and share their tests.

    Rows come from data that nobody has looked at, so they are read in workers with limits of time and memory.
    """
    requests: list[Any] = []
    places = []  # of the request for each row
    for index, (row, function) in enumerate(zip(rows, functions, strict=True)):
        if not index or not _is_same((row, function), (rows[index - 1], functions[index - 1])):
            requests.append(_request(row, function, max_tests, seed))
        places.append(len(requests) - 1)
    good = [request for request in requests if not isinstance(request, str)]
    pool = shared_pool(f"{__name__}:_read_row", min(4, workers_per_rank()), _READ_MIB, _MOST_SENT)
    outcomes = iter(pool.map(good, _READ_SECONDS) if good else [])
    read: list[CodeTests | str] = []
    for request in requests:
        if isinstance(request, str):
            read.append(request)
            continue
        outcome = next(outcomes)
        if outcome.failure:
            read.append(f"The tests cannot be read ({outcome.failure}): {outcome.detail[-200:]}")
        else:
            read.append(outcome.value if isinstance(outcome.value, str) else suite_from(outcome.value))
    return [read[place] for place in places]


def unscorable_tests(rows: Sequence[Any], functions: Sequence[Any] | None = None) -> list[tuple[int, str, str]]:
    """
    The rows that no program can be scored on: `(index, beginning of the row, reason)`.

    Args:
        rows (`Sequence`): Values of the column `tests`.
        functions (`Sequence`, *optional*): Values of the column `fn_name`.
    """
    read = read_rows(rows, functions or [None] * len(rows), 1, 0)
    return [
        (index, row[:80] if isinstance(row, str) else _excerpt(row), reason)
        for index, (row, reason) in enumerate(zip(rows, read, strict=True))
        if isinstance(reason, str)
    ]


def suite_from(fields: Sequence[Any]) -> CodeTests:
    """Tests that were sent as JSON."""
    function, inputs, outputs, *rest = fields
    return CodeTests(function, tuple(inputs), tuple(outputs), *rest)


def _request(row: Any, function: Any, max_tests: int | None, seed: int | None) -> Any:
    """A row as JSON, or why there is none."""
    if isinstance(function, float) and function != function:  # a missing value in a table
        function = None
    if function is not None and not isinstance(function, str):
        return f"The name of the function in 'fn_name' is {type(function).__name__}, not text."
    try:
        text = row if isinstance(row, str) else _as_json(row)
    except (TypeError, ValueError, RecursionError) as error:
        return f"The tests are {type(row).__name__} and cannot be written as JSON: {error}"
    return [text, isinstance(row, str), function, max_tests, seed]


def _as_json(row: Any) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(_MOST_DIGITS)
    try:
        return json.dumps(row, default=_plain)
    finally:
        sys.set_int_max_str_digits(limit)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    raise TypeError(f"it contains {type(value).__name__}")


def _is_same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays compare element by element, and lists may be deep
        return False


def _excerpt(row: Any) -> str:
    try:
        return _as_json(row)[:80]
    except (TypeError, ValueError, RecursionError):
        return type(row).__name__


def _read_row(request: Any) -> Any:
    """Runs in a worker."""
    text, is_text, function, max_tests, seed = request
    sys.set_int_max_str_digits(_MOST_DIGITS)
    try:
        tests = read_tests(text if is_text else json.loads(text), function)
        return astuple(tests if max_tests is None else sample_tests(tests, max_tests, seed))
    except ValueError as error:
        return str(error)


class _Case(NamedTuple):
    given: Any
    expected: Any
    function: str | None
    is_literal: bool  # expected value is JSON text and never wrapped


def _test_code(tests: Any) -> tuple[str, str | None]:
    """Test code in a row and the function that the row names. Blank if its tests are data."""
    if isinstance(tests, str):
        if tests.lstrip().startswith(('["assert', "['assert")):
            return _test_code(load(tests, "The text of the tests"))
        return tests if "assert" in tests and tests.lstrip()[:1] not in ("[", "{") else "", None
    if isinstance(tests, list | tuple) and tests and all(isinstance(test, str) and "assert" in test for test in tests):
        return "\n".join(tests), None
    if not isinstance(tests, dict):
        return "", None
    _check_language(tests)
    for key in (*_CODE, *_GROUPS):
        code, _ = _test_code(tests[key]) if isinstance(tests.get(key), str | list | tuple) else ("", None)
        if code:
            setup = [tests[name] for name in _SETUP if tests.get(name)]
            lines = [line for part in setup for line in ([part] if isinstance(part, str) else part)]
            entry = tests.get("entry_point") or _function(tests)
            return "\n".join([*lines, code]), entry if isinstance(entry, str) else None
    return "", None


def _code_tests(code: str, entry: str | None) -> CodeTests:
    asserts = read_asserts(code, entry)
    if asserts.calls is None:
        return CodeTests(asserts.function, tuple(asserts.pieces), ("",) * len(asserts.pieces), form="check")
    inputs, outputs = zip(*asserts.calls, strict=True)
    return _checked(CodeTests(asserts.function, inputs, outputs, form="python"))


def _checked(tests: CodeTests) -> CodeTests:
    if all(map(tests.asks_nothing, range(len(tests)))):
        what = "outputs are blank" if tests.function is None else "values are null"
        raise ValueError(f"All expected {what}, so a program that does nothing would pass.")
    return tests


def _cases(tests: Any, function: str | None) -> Iterator[_Case]:
    if isinstance(tests, str):
        tests = load_tests(tests)
    if isinstance(tests, str):
        raise ValueError(
            f"The text of the tests starts with {tests[:40]!r} and is neither JSON nor a Python literal, nor test "
            "code, nor base64 of compressed tests."
        )
    if isinstance(tests, list | tuple):
        for index, test in enumerate(tests):
            if not isinstance(test, dict) or not {"input", "output"} <= test.keys():
                raise ValueError(f"Test {index} is {test!r:.80}, not a dict with 'input' and 'output'.")
            yield _Case(test["input"], test["output"], *_form(test, function))
        return
    if not isinstance(tests, dict):
        raise ValueError(f"The tests are {type(tests).__name__}, not a dict, a list, or their JSON text.")
    _check_language(tests)

    groups = [tests[name] for name in _GROUPS if tests.get(name) is not None]
    for group in groups:
        yield from _cases(group, _function(tests) or function)
    if not groups:
        pairs = _pairs(tests)
        form = _form(tests, function)
        yield from (_Case(*pair, *form) for pair in pairs)


def _check_language(tests: dict[str, Any]) -> None:
    language = tests.get("language") or tests.get("lang")
    if language and not str(language).lower().startswith("py"):
        raise ValueError(f"The tests are for programs in {str(language)[:40]!r}, not Python.")


def _pairs(tests: dict[str, Any]) -> list[tuple[Any, Any]]:
    for names in (("inputs", "outputs"), ("input", "output")):
        inputs, outputs = (_column(tests.get(name)) for name in names)
        if isinstance(inputs, list | tuple) and isinstance(outputs, list | tuple):
            if len(inputs) != len(outputs):
                raise ValueError(f"The tests have {len(inputs)} {names[0]!r} and {len(outputs)} {names[1]!r}.")
            return list(zip(inputs, outputs, strict=True))
        if all(name in tests and tests[name] is not None for name in names):  # a single test
            return [(tests[names[0]], tests[names[1]])]
    raise ValueError(
        f"The tests have the keys {sorted(map(str, tests))!r:.200}, but not the lists 'inputs' and 'outputs'."
    )


def _column(value: Any) -> Any:
    """A list that is written as text."""
    if isinstance(value, str) and value.lstrip()[:2] in ("['", '["', "[["):
        try:
            return load(value, "a column")
        except ValueError:
            return value
    return value


def _form(test: dict[str, Any], function: str | None) -> tuple[str | None, bool]:
    """Name of the function to call (`None` for standard input), and whether expected values are literal."""
    _check_language(test)
    name = _function(test) or function
    kind = test.get("testtype") or test.get("type")
    if isinstance(kind, str) and kind in _STDIN:
        return None, False
    if kind is not None and kind not in _CALL:
        raise ValueError(f"The type of a test is {kind!r:.80}; supported are {', '.join(_STDIN + _CALL)}.")
    if kind is not None and name is None:
        raise ValueError("The tests call a function, but have no 'fn_name' and no 'func_name' in their metadata.")
    return name, kind == "functional"


def _function(test: dict[str, Any]) -> str | None:
    name = test.get("fn_name")
    if not name:
        metadata = test.get("metadata")
        metadata = load(metadata, "'metadata'") if isinstance(metadata, str) else metadata
        name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if name and not isinstance(name, str):
        raise ValueError(f"The name of the function is {name!r:.80}, not text.")
    return name or None


def _program_tests(cases: list[_Case]) -> CodeTests:
    inputs = tuple(_text(case.given, f"The input of test {index}") for index, case in enumerate(cases))
    outputs = tuple(_text(case.expected, f"The output of test {index}") for index, case in enumerate(cases))
    return _checked(CodeTests(None, inputs, outputs))


def _call_tests(function: str, cases: list[_Case]) -> CodeTests:
    inputs = tuple(_arguments(case.given, index) for index, case in enumerate(cases))
    values = [_value(case, index) for index, case in enumerate(cases)]
    wrapped = all(isinstance(value, list | tuple) and len(value) == 1 for value in values)
    wrapped = wrapped and not any(case.is_literal for case in cases)
    outputs = tuple(_dump(value, f"The output of test {index}") for index, value in enumerate(values))
    return _checked(CodeTests(function, inputs, outputs, wrapped))


def _text(value: Any, what: str) -> str:
    lines = [str(value)] if isinstance(value, str | int | float) else value
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{what} is {value!r:.80}, neither text nor a list of lines.")
    text = "\n".join(lines)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} cannot be encoded as UTF-8: {error.reason} at {error.start}.") from None
    return text


def _arguments(given: Any, index: int) -> str:
    what = f"The input of test {index}"
    if isinstance(given, str):
        lines = [line for line in given.split("\n") if line.strip()]
        if not lines:
            raise ValueError(f"{what} is blank; it must hold one JSON value per line, one for each argument.")
        given = [load(line, what) for line in lines]
    if not isinstance(given, list | tuple):
        raise ValueError(f"{what} is {given!r:.80}, neither a list of arguments nor text.")
    return _dump(given, what)


def _value(case: _Case, index: int) -> Any:
    if isinstance(case.expected, str) and (case.is_literal or isinstance(case.given, str)):
        return load(case.expected, f"The output of test {index}")
    return case.expected


def _dump(value: Any, what: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from None
