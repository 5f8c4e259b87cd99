"""Files written whole or not at all, and read as far as they can be."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    A file that appears when the block has written it to its end; one of that name is replaced.

    Args:
        path (`Path`): The file; its folder is made.

    Yields:
        `Path`: What to write to. It begins with a dot, lies beside the file, and is removed if the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_each(
    items: Iterable[Item], read: Callable[[Item], Content], unreadable: list[str] | None = None
) -> list[tuple[Item, Content]]:
    """
    Reads what can be read, and says what cannot.

    Args:
        items (`Iterable`): What to read, such as paths.
        read (`Callable`): Reads one of them.
        unreadable (`list[str]`, *optional*):
            A list to which is added what could not be read, instead of the error, as long as there is one that can.

    Returns:
        `list[tuple]`: Each item that could be read, with its content.

    Raises:
        ValueError: If none can be read; without `unreadable` the error of the first one that cannot.

    Example:

    ```python
    >>> left_out = []
    >>> read_each(["1", "x"], int, left_out), left_out
    ([('1', 1)], ["Left out: invalid literal for int() with base 10: 'x'"])

    ```
    """
    found: list[tuple[Item, Content]] = []
    errors: list[str] = []
    for item in items:
        try:
            found.append((item, read(item)))
        except (ImportError, OSError, ValueError) as error:
            if unreadable is None:
                raise
            errors.append(str(error))
    if errors and not found:
        raise ValueError("\n".join(errors))
    if unreadable is not None:
        unreadable += [f"Left out: {error}" for error in errors]
    return found
