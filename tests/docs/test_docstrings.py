"""Examples in docstrings run as they stand."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import trl_archer

MODULES = [
    module.name
    for module in pkgutil.walk_packages(trl_archer.__path__, "trl_archer.")
    if not module.name.endswith(("__main__", ".bootstrap"))  # which act when they are imported, or want to be sandboxed
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(len(test.examples) for name in MODULES for test in finder.find(import_module(name)))
    assert examples > 30
