"""Structured data in text from datasets: JSON, Python literals, and LiveCodeBench's compressed pickles."""

import ast
import base64
import json
import pickletools
import re
import zlib
from itertools import islice
from typing import Any

_PICKLED_STRING = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_PICKLE_FRAME = ("PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP")
_MOST_OPCODES = 16  # of a pickle of one string
_MAX_BYTES = 256 * 1024**2  # of decompressed tests
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{16,}={0,2}\s*")
_NESTINGS = 4  # of text in text


def load(text: str, what: str) -> Any:
    """The value that a text holds as JSON or as a Python literal."""
    try:
        return json.loads(text)
    except ValueError as error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, TypeError):
            raise ValueError(f"{what} cannot be read as JSON: {error}") from None


def load_tests(text: str) -> Any:
    """The value in the text of tests, which may be compressed, and may hold another text."""
    value: Any = text
    for _ in range(_NESTINGS):
        if not isinstance(value, str):
            break
        if _BASE64.fullmatch(value):
            value = decompress(value)
        if value.lstrip()[:1] not in tuple("[{(\"'"):
            break
        value = load(value, "The text of the tests")
    return value


def decompress(text: str) -> str:
    """The string in base64 text of a zlib-compressed pickle, as in LiveCodeBench."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(base64.b64decode("".join(text.split()), validate=True), _MAX_BYTES)
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
        for opcode, argument, position in islice(pickletools.genops(data), _MOST_OPCODES):
            if text is None and opcode.name in _PICKLED_STRING:
                text = argument
            elif opcode.name not in _PICKLE_FRAME:
                raise ValueError(f"{opcode.name} at byte {position}")
        if opcode.name != "STOP":
            raise ValueError(f"more than {_MOST_OPCODES} opcodes")
    except ValueError as error:
        raise ValueError(f"The compressed tests must be a pickle of one string and nothing else: {error}.") from None
    if text is None:
        raise ValueError("The compressed tests are a pickle without a string.")
    return text
