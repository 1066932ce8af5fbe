"""Every example in the core's docstrings gives what it says."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import cascade_core

MODULES = [
    module.name
    for module in pkgutil.walk_packages(cascade_core.__path__, f"{cascade_core.__name__}.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    assert doctest.testmod(module).failed == 0


def test_the_modules_are_found_and_have_examples():
    assert len(MODULES) > 30
    assert (
        sum(
            doctest.testmod(import_module(name)).attempted
            for name in ("cascade_core.values", "cascade_core.draw")
        )
        > 1
    )
