"""Reads the tests of programming problems from the layouts of common datasets into one form."""

import base64
import heapq
import json
import pickletools
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

_STDIN, _CALL = ("stdin", "stdin_stdout"), ("functional", "function_call")
_GROUPS = (
    *("public_tests", "private_tests", "generated_tests"),
    *("public_test_cases", "private_test_cases", "test_cases"),
)
_PICKLED_STRING = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_PICKLE_FRAME = ("PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP")
_MAX_BYTES = 256 * 1024**2  # of decompressed tests


@dataclass(frozen=True)
class CodeTests:
    """
    Tests of one problem. They run the whole program on standard input, or call a function with a JSON list of arguments
    and compare its value as JSON.
    """

    function: str | None  # `None` for standard input
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    wrapped: bool = False  # whether each expected value is a list of one element that may be just a wrapper around it

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(f"The tests have {len(self.inputs)} inputs and {len(self.outputs)} outputs.")
        if not self.inputs:
            raise ValueError("There are no tests.")
        if self.function is not None and not (isinstance(self.function, str) and self.function.isidentifier()):
            raise ValueError(f"The tests call {self.function!r:.80}, which is not the name of a function.")

    def __len__(self) -> int:
        return len(self.inputs)


def read_tests(tests: Any, function: str | None = None) -> CodeTests:
    """
    Reads the tests of one problem from a row of a dataset.

    These layouts are supported, as Python objects or as JSON text:

    - APPS, TACO, Eurus-2, DeepCoder: `{"inputs": [...], "outputs": [...], "fn_name": ...}`.
    - LiveCodeBench, DeepCoder: `[{"input": ..., "output": ..., "testtype": "stdin" or "functional", "metadata":
      {"func_name": ...}}, ...]`, or a row with `public_test_cases`, `private_test_cases` and `metadata`. Private tests
      may be base64 text of a zlib-compressed pickle of JSON text. Pickles are not executed: a pickle that holds
      anything but a single string is refused.
    - PrimeIntellect: `[{"input": ..., "output": ..., "type": "stdin_stdout" or "function_call", "fn_name": ...}, ...]`.
    - CodeContests: `{"public_tests": {"input": [...], "output": [...]}, "private_tests": ..., "generated_tests": ...}`.
    - Open-R1, PrimeIntellect: `{"test_cases": ...}` around any of these (`verification_info`).

    Tests on standard input hold text or a list of lines. Tests that call a function hold its arguments as a list, or
    as text with one JSON value per line. If the arguments are a list, the expected value is used as is. If they are
    text, or the test is `functional`, an expected value that is text is JSON. APPS, TACO and PrimeIntellect wrap
    expected values in a list of one element, which looks the same as a function that returns such lists. Their graders
    accept both. We do too, but only if the expected values of all tests look wrapped, and the first element of a longer
    list never replaces that list. LiveCodeBench does not wrap values.

    `function` names the function for tests that do not contain its name; DeepCoder keeps it in another column. Tests
    that declare standard input ignore it. Raises `ValueError` if the tests are empty, incomplete or malformed, mix
    standard input and calls, or would be passed by a program that does nothing. The reward is then `None`, not 0.
    """
    try:
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
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    if n >= len(tests):
        return tests
    if seed is None:
        chosen = heapq.nlargest(n, range(len(tests)), key=lambda index: len(tests.inputs[index]))
    else:
        chosen = random.Random(seed).sample(range(len(tests)), n)
    inputs, outputs = (tuple(column[index] for index in sorted(chosen)) for column in (tests.inputs, tests.outputs))
    return replace(tests, inputs=inputs, outputs=outputs)


class _Case(NamedTuple):
    given: Any
    expected: Any
    function: str | None
    is_literal: bool  # expected value is JSON text and never wrapped


def _cases(tests: Any, function: str | None) -> Iterator[_Case]:
    if isinstance(tests, str):
        tests = _load(tests if tests.lstrip()[:1] in ("[", "{") else _decompress(tests), "The text of the tests")
    if isinstance(tests, list | tuple):
        for index, test in enumerate(tests):
            if not isinstance(test, dict) or not {"input", "output"} <= test.keys():
                raise ValueError(f"Test {index} is {test!r:.80}, not a dict with 'input' and 'output'.")
            yield _Case(test["input"], test["output"], *_form(test, function))
        return
    if not isinstance(tests, dict):
        raise ValueError(f"The tests are {type(tests).__name__}, not a dict, a list, or their JSON text.")

    groups = [tests[name] for name in _GROUPS if tests.get(name) is not None]
    for group in groups:
        yield from _cases(group, _function(tests) or function)
    if not groups:
        pairs = _pairs(tests)
        form = _form(tests, function)
        yield from (_Case(*pair, *form) for pair in pairs)


def _pairs(tests: dict[str, Any]) -> list[tuple[Any, Any]]:
    for names in (("inputs", "outputs"), ("input", "output")):
        inputs, outputs = (tests.get(name) for name in names)
        if isinstance(inputs, list | tuple) and isinstance(outputs, list | tuple):
            if len(inputs) != len(outputs):
                raise ValueError(f"The tests have {len(inputs)} {names[0]!r} and {len(outputs)} {names[1]!r}.")
            return list(zip(inputs, outputs, strict=True))
    if tests.get("functional") is not None:
        raise ValueError(
            "The tests are a check function ('functional'), which would run in the same process as the program. "
            "Provide the arguments and expected values of its calls as 'inputs', 'outputs' and 'fn_name'."
        )
    raise ValueError(
        f"The tests have the keys {sorted(map(str, tests))!r:.200}, but not the lists 'inputs' and 'outputs'."
    )


def _form(test: dict[str, Any], function: str | None) -> tuple[str | None, bool]:
    """Name of the function to call (`None` for standard input), and whether expected values are literal."""
    name = _function(test) or function
    kind = test.get("testtype") or test.get("type")
    if kind in _STDIN:
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
        metadata = _load(metadata, "'metadata'") if isinstance(metadata, str) else metadata
        name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if name and not isinstance(name, str):
        raise ValueError(f"The name of the function is {name!r:.80}, not text.")
    return name or None


def _program_tests(cases: list[_Case]) -> CodeTests:
    inputs = tuple(_text(case.given, f"The input of test {index}") for index, case in enumerate(cases))
    outputs = tuple(_text(case.expected, f"The output of test {index}") for index, case in enumerate(cases))
    if outputs and not any(output.strip() for output in outputs):
        raise ValueError("All expected outputs are blank, so a program that prints nothing would pass.")
    return CodeTests(None, inputs, outputs)


def _call_tests(function: str, cases: list[_Case]) -> CodeTests:
    inputs = tuple(_arguments(case.given, index) for index, case in enumerate(cases))
    values = [_value(case, index) for index, case in enumerate(cases)]
    if all(value is None for value in values):
        raise ValueError("All expected values are null, so a function that returns nothing would pass.")
    wrapped = all(isinstance(value, list | tuple) and len(value) == 1 for value in values)
    wrapped = wrapped and not any(case.is_literal for case in cases)
    outputs = tuple(_dump(value, f"The output of test {index}") for index, value in enumerate(values))
    return CodeTests(function, inputs, outputs, wrapped)


def _text(value: Any, what: str) -> str:
    lines = [value] if isinstance(value, str) else value
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
        given = [_load(line, what) for line in lines]
    if not isinstance(given, list | tuple):
        raise ValueError(f"{what} is {given!r:.80}, neither a list of arguments nor text.")
    return _dump(given, what)


def _value(case: _Case, index: int) -> Any:
    if isinstance(case.expected, str) and (case.is_literal or isinstance(case.given, str)):
        return _load(case.expected, f"The output of test {index}")
    return case.expected


def _load(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read as JSON: {error}") from None


def _dump(value: Any, what: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from None


def _decompress(text: str) -> str:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(base64.b64decode(text.strip(), validate=True), _MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise ValueError(
            f"The text of the tests starts with {text[:40]!r} and is neither JSON nor base64 of zlib-compressed data: "
            f"{error}."
        ) from None
    if not inflater.eof:
        raise ValueError(f"The compressed tests are empty, cut off, or larger than {_MAX_BYTES // 1024**2} MiB.")
    return _pickled_text(data)


def _pickled_text(data: bytes) -> str:
    """
    The string in a pickle. Its opcodes are only listed, so nothing is imported, called or built, not even the objects
    that an unpickler without globals would build.
    """
    text = None
    try:
        for opcode, argument, position in pickletools.genops(data):
            if text is None and opcode.name in _PICKLED_STRING:
                text = argument
            elif opcode.name not in _PICKLE_FRAME:
                raise ValueError(f"{opcode.name} at byte {position}")
    except ValueError as error:
        raise ValueError(f"The compressed tests must be a pickle of one string and nothing else: {error}.") from None
    if text is None:
        raise ValueError("The compressed tests are a pickle without a string.")
    return text
