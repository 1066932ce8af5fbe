"""The examples, on the loopback server in the place of the local models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

from examples import langchain_agent, langchain_calibration, langchain_lcel, langchain_rag
from examples.local_models import questions
from tests.langchain.support import PRICES, pair
from tests.support.openai_server import OpenAIServer, Reply, Request


@pytest.fixture
def models(openai_server: OpenAIServer) -> dict[str, BaseChatModel]:
    openai_server.models = {"small": Reply("perhaps", logprobs=-2.0), "large": "certainly"}
    return {model.model_name: model for model in pair(openai_server)}


def test_lcel(models: dict[str, BaseChatModel], capsys: pytest.CaptureFixture[str]) -> None:
    assert langchain_lcel.run(models, PRICES) == ["certainly"] * 3
    shown = capsys.readouterr().out
    assert "cascade_stop: large" in shown
    assert "perhaps" not in shown


def test_agent(models: dict[str, BaseChatModel], capsys: pytest.CaptureFixture[str]) -> None:
    answers = langchain_agent.run(models)
    assert [answer.text for answer in answers] == ["certainly"] * 3
    shown = capsys.readouterr().out
    assert shown.count("certainly") == 3
    assert "perhaps" not in shown
    assert "6 messages" in shown


def test_rag(openai_server: OpenAIServer, models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    openai_server.models["small"] = "I don't know."
    assert langchain_rag.run(models, PRICES) == ["certainly"] * 2
    quick, thorough = openai_server.requests[:2]
    assert len(thorough.text) > len(quick.text), "the thorough arm reads more"
    assert "[a quick look, then a thorough look: exhausted]" in capsys.readouterr().out


def test_calibration(
    openai_server: OpenAIServer, models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(langchain_calibration, "PROMPTS", questions()[:60])
    known = {question.prompt: question for question in questions()}

    def small(request: Request) -> Reply:
        question = known[request.text]
        right = len(question.prompt) % 2 == 0
        return Reply(question.gold if right else "something", logprobs=-0.1 if right else -1.0)

    openai_server.models = {"small": small, "large": lambda request: known[request.text].gold}
    found = langchain_calibration.run(models, PRICES, tmp_path)
    assert (tmp_path / "policy.json").exists()
    assert found.policy.names == ("small", "large")
