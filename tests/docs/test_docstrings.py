"""Examples in docstrings run unchanged."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import trl_archer

MODULES = [
    module.name
    for module in pkgutil.walk_packages(trl_archer.__path__, "trl_archer.")
    if not module.name.endswith(("__main__", ".bootstrap"))  # these run when imported, or need the sandbox
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    assert doctest.testmod(import_module(name)).failed == 0
