"""Every snippet of the docstrings runs as it stands, against the loopback server."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from cascade_langchain import CascadeMiddleware, ChatCascade, RunnableCascade, calibrate
from tests.support.openai_server import OpenAIServer, Request
from tests.support.snippets import python_snippets

SECTIONS = (
    "Setup",
    "Key init args",
    "Instantiate",
    "Invoke",
    "Stream",
    "Async",
    "Tool calling",
    "Structured output",
    "Token usage",
    "Response metadata",
)


async def _run(code: str, namespace: dict[str, Any]) -> None:
    compiled = compile(code, "<docstring>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, namespace)
    if waiting is not None:
        await waiting


def _adds(request: Request) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", request.text)]
    return str(sum(numbers))


@pytest.mark.parametrize("documented", [ChatCascade, RunnableCascade, CascadeMiddleware, calibrate])
@pytest.mark.filterwarnings("ignore::cascade_langchain.UncalibratedWarning")
async def test_the_snippets_run(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, documented: object
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    if documented is calibrate:
        openai_server.models = {"gpt-4.1-nano": _adds, "gpt-5": _adds}
    snippets = python_snippets(inspect.getdoc(documented) or "")
    assert snippets
    namespace: dict[str, Any] = {}
    for snippet in snippets:
        await _run(snippet, namespace)
    assert openai_server.requests


def test_the_chat_models_docstring_has_the_sections_of_an_integration() -> None:
    text = inspect.getdoc(ChatCascade) or ""
    found = re.findall(r"^([A-Z][a-z ]+):$", text, re.MULTILINE)
    assert [section for section in found if section in SECTIONS] == list(SECTIONS)
