"""The examples run, here with the loopback server in place of the local models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_index.core.instrumentation import get_dispatcher

from cascade_core import Price
from tests.llamaindex.conftest import UNSURE, MemberOf
from tests.support.openai_server import OpenAIServer, Reply, Request

pytest.importorskip("wordllama")


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = list(get_dispatcher().event_handlers)
    yield
    get_dispatcher().event_handlers[:] = before


def test_rag(openai_server: OpenAIServer, member: MemberOf, capsys: pytest.CaptureFixture[str]) -> None:
    from examples import llamaindex_rag

    openai_server.models = {"small": UNSURE, "large": "In policy.json."}
    answers = llamaindex_rag.run({name: member(name) for name in ("small", "large")})
    assert answers == ["In policy.json."] * 2
    assert "policy.json" in openai_server.requests[0].text, "the right document was found"
    assert "ran small, then large; answer of large" in capsys.readouterr().out


def test_chat(openai_server: OpenAIServer, member: MemberOf, capsys: pytest.CaptureFixture[str]) -> None:
    from examples import llamaindex_chat

    openai_server.models = {"small": UNSURE, "large": "Paris, or so."}
    said = llamaindex_chat.run({name: member(name) for name in ("small", "large")})
    assert said[1::2] == ["Paris, or so."] * 3
    assert UNSURE.text not in capsys.readouterr().out


async def test_agent(
    openai_server: OpenAIServer, member: MemberOf, capsys: pytest.CaptureFixture[str]
) -> None:
    from examples import llamaindex_agent

    def large(request: Request) -> Reply:
        a, b = re.findall(r"\d+", request.text.rsplit("Question:", 1)[1])[:2]
        return Reply(f'Thought: I need a tool.\nAction: add\nAction Input: {{"a": {a}, "b": {b}}}')

    def small(request: Request) -> Reply:
        asked = request.text.rsplit("Question:", 1)[1]
        observed = re.findall(r"Observation: (\d+)", asked)
        return Reply(f"Thought: I can answer.\nAnswer: {observed[0]}") if observed else UNSURE

    openai_server.models = {"small": small, "large": large}
    llms = {name: member(name, is_function_calling_model=False) for name in ("small", "large")}
    assert await llamaindex_agent.run(llms) == "73"
    assert "step by large (tried: small, then large)" in capsys.readouterr().out


def test_calibration(openai_server: OpenAIServer, member: MemberOf, tmp_path: Path) -> None:
    from examples import llamaindex_calibration

    golds = {question.prompt: question.gold for question in llamaindex_calibration.PROMPTS}
    knows = {prompt: Reply(gold, logprobs=-0.02) for prompt, gold in golds.items()}
    openai_server.models = {"large": knows, "small": dict(list(knows.items())[::2])}
    prices = {"small": Price(input=1, output=1), "large": Price(input=9, output=9)}
    found = llamaindex_calibration.run({name: member(name) for name in prices}, prices, tmp_path)
    assert found.certificate.prompts > 0
    assert (tmp_path / "policy.json").exists()
