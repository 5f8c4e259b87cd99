"""Reads lists and dictionaries that a file stores as text."""

import ast
import json
from typing import Any

_LONGEST_PYTHON = 100_000  # characters; Python's parser needs much memory


def read_text(text: str) -> Any:
    """
    Reads JSON, or the Python text that CSV files hold.

    Raises:
        ValueError: If the text is neither.

    Example:

    ```python
    >>> read_text('{"a": null}'), read_text("{'a': None}")
    ({'a': None}, {'a': None})

    ```
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if len(text) > _LONGEST_PYTHON:
            raise ValueError("The text is not JSON.") from error
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError("The text is neither JSON nor a Python literal.") from None
