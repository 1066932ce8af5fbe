"""The packages' boundaries: the core knows no framework, and importing stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ("langchain", "langchain_core", "langgraph", "llama_index")


def imported(package: str) -> set[tuple[str, str]]:
    """Every ``(file, top-level module)`` that the package's files import, wherever in the file."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found |= {(path.relative_to(ROOT).as_posix(), name.split(".")[0]) for name in names}
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("cascade_langchain", ("llama_index", "cascade_llamaindex")),
        ("cascade_llamaindex", ("langchain", "langchain_core", "langgraph", "cascade_langchain")),
        ("shared/cascade_core", ("llama_index", "cascade_langchain", "cascade_llamaindex")),
    ],
)
def test_packages_do_not_import_each_other(package, forbidden):
    assert {(file, module) for file, module in imported(package) if module in forbidden} == set()


def test_the_core_imports_no_framework_outside_its_command_line():
    offenders = {
        (file, module)
        for file, module in imported("shared/cascade_core")
        if module in FRAMEWORKS and "/cli/" not in file
    }
    assert offenders == set()


@pytest.mark.parametrize("unsafe", ["pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"])
def test_nothing_unpickles(unsafe):
    packages = ("shared/cascade_core", "cascade_langchain", "cascade_llamaindex")
    assert not {file for package in packages for file, module in imported(package) if module == unsafe}


def test_deciding_loads_neither_scikit_learn_nor_pandas_nor_a_framework():
    script = (
        "import sys, cascade_core as c\n"
        "policy = c.Policy.uncalibrated([c.ModelSpec(name='a'), c.ModelSpec(name='b')])\n"
        "policy.start('q').next()\n"
        "heavy = ['sklearn', 'scipy', 'pandas', 'matplotlib', 'sqlalchemy', 'langchain_core', 'llama_index']\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
