"""Public names of a package that are imported on first use, so that importing the package is quick."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load_public(package: str, modules: Mapping[str, str], name: str) -> Any:
    """
    A public name of a package, for its `__getattr__`.

    Args:
        package (`str`): Name of the package.
        modules (`Mapping[str, str]`): Public name -> module that defines it, relative to the package or absolute.
        name (`str`): The name that is asked for.

    Returns:
        `Any`: What the module holds under that name.

    Raises:
        AttributeError: If it is not a public name.

    Example:

    ```python
    >>> load_public("trl_archer", {"CollapseAlarm": ".collapse"}, "CollapseAlarm").__module__
    'trl_archer.collapse'
    >>> load_public("trl_archer", {"CollapseAlarm": ".collapse"}, "CollapsAlarm")
    Traceback (most recent call last):
    AttributeError: module 'trl_archer' has no attribute 'CollapsAlarm'

    ```
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(modules[name], package), name)
