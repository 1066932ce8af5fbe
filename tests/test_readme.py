"""The README's examples run as they stand, against models that a loopback server plays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascade_core.draw import draw
from tests.support.openai_server import OpenAIServer, Reply, Request
from tests.support.snippets import python_snippets

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def answering(ability: float):
    """A model that says Paris, and adds right with this probability, more sure of itself when it is right."""

    def answer(request: Request) -> Reply:
        numbers = [int(number) for number in re.findall(r"\d+", request.text)]
        right = not numbers or draw(request.text) < ability
        return Reply(
            str(sum(numbers) + (not right)) if numbers else "Paris", logprobs=[-0.01 if right else -1.0]
        )

    return answer


@pytest.mark.filterwarnings("ignore:no policy")
@pytest.mark.parametrize("snippet", python_snippets(README), ids=lambda code: code.split("\n", 1)[0][:50])
def test_a_snippet_runs(snippet: str, openai_server: OpenAIServer, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_BASE", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    openai_server.models = {"gpt-4.1-nano": answering(0.7), "gpt-5": answering(1.0)}
    exec(compile(snippet, "README.md", "exec"), {})
    assert openai_server.requests


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert f"\n{target}: " in makefile
