"""Examples in docstrings run unchanged."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import trl_archer

MODULES = [
    module.name
    for module in pkgutil.walk_packages(trl_archer.__path__, "trl_archer.")
    # These run when imported, need the sandbox, or need the extra `eval`
    if not module.name.endswith(("__main__", ".bootstrap")) and ".inspect_" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    assert doctest.testmod(import_module(name)).failed == 0
