"""Every snippet of the docstrings runs as it stands."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import cascade_llamaindex
from cascade_llamaindex import CascadeLLM, calibrate
from tests.llamaindex.conftest import uncalibrated
from tests.support.openai_server import OpenAIServer, Request
from tests.support.snippets import python_snippets

MODULES = [cascade_llamaindex.__name__] + [
    f"{cascade_llamaindex.__name__}.{module.name}"
    for module in pkgutil.iter_modules(cascade_llamaindex.__path__)
]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore::cascade_llamaindex.UncalibratedWarning")
def test_examples_give_what_they_say(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.filterwarnings("ignore::cascade_llamaindex.UncalibratedWarning")
def test_there_are_examples() -> None:
    attempted = {name: doctest.testmod(import_module(name)).attempted for name in MODULES}
    assert attempted["cascade_llamaindex._llm"]
    assert attempted["cascade_llamaindex.signals"]


def _adds(request: Request) -> str:
    return str(sum(int(number) for number in re.findall(r"\d+", request.text)))


@pytest.mark.parametrize("documented", [CascadeLLM, calibrate])
def test_snippets_run(
    documented: Any, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    openai_server.models = {"gpt-4.1-nano": _adds, "gpt-5": _adds}
    uncalibrated("gpt-4.1-nano", "gpt-5").save("policy.json")
    found = python_snippets(inspect.getdoc(documented) or "")
    assert found
    namespace: dict[str, Any] = {}
    for code in found:
        exec(compile(code, "<docstring>", "exec"), namespace)
    assert openai_server.requests
