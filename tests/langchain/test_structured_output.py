"""Structured output: by each model's own method; an answer that does not parse is not accepted."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, ValidationError

from cascade_core import Policy
from cascade_langchain import ChatCascade
from tests.langchain.support import Plain, RunTree, always_both, cascading, chat, only
from tests.support.openai_server import OpenAIServer, Reply


class Sum(BaseModel):
    total: int


GOOD, BAD = '{"total": 4}', '{"total": "many"}'
METHODS = ("json_schema", "function_calling", "json_mode")


def _says(text: str, method: str) -> Reply:
    import json

    return Reply(tool_calls=[("Sum", json.loads(text))]) if method == "function_calling" else Reply(text)


def _composite(
    server: OpenAIServer, policy: Policy, small: str, large: str, method: str = "json_mode"
) -> ChatCascade:
    server.models = {"small": _says(small, method), "large": _says(large, method)}
    return ChatCascade([chat(server, "small"), chat(server, "large")], policy=policy)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_draft_that_does_not_parse_escalates(
    openai_server: OpenAIServer, method: str, way: str
) -> None:
    model = _composite(openai_server, cascading(0.1), small=BAD, large=GOOD, method=method)
    structured = model.with_structured_output(Sum, method=method)
    if way == "invoke":
        answer = structured.invoke("2+2?")
    elif way == "ainvoke":
        answer = await structured.ainvoke("2+2?")
    elif way == "stream":
        answer = list(structured.stream("2+2?"))[-1]
    else:
        answer = [each async for each in structured.astream("2+2?")][-1]
    assert answer == Sum(total=4)
    assert [request.model for request in openai_server.requests] == ["small", "large"]


@pytest.mark.parametrize("method", METHODS)
def test_a_draft_that_parses_and_is_sure_is_kept(openai_server: OpenAIServer, method: str) -> None:
    model = _composite(openai_server, cascading(0.1), small=GOOD, large=BAD, method=method)
    assert model.with_structured_output(Sum, method=method).invoke("2+2?") == Sum(total=4)
    assert [request.model for request in openai_server.requests] == ["small"]


def test_include_raw_gives_the_message_the_object_and_the_record(openai_server: OpenAIServer) -> None:
    model = _composite(openai_server, cascading(0.1), small=BAD, large=GOOD)
    answer: Any = model.with_structured_output(Sum, method="json_mode", include_raw=True).invoke("2+2?")
    assert isinstance(answer["raw"], AIMessage)
    assert answer["parsed"] == Sum(total=4)
    assert answer["parsing_error"] is None
    calls = answer["raw"].response_metadata["cascade"]["calls"]
    assert [(call["model"], call.get("error")) for call in calls] == [
        ("small", "unusable answer"),
        ("large", None),
    ]


def test_when_nothing_parses_the_error_is_raised_or_returned(openai_server: OpenAIServer) -> None:
    model = _composite(openai_server, always_both(), small=BAD, large=BAD)
    tree = RunTree()
    with pytest.raises((OutputParserException, ValidationError)):
        model.with_structured_output(Sum, method="json_mode").invoke("2+2?", {"callbacks": [tree]})
    assert not tree.open
    raw: Any = model.with_structured_output(Sum, method="json_mode", include_raw=True).invoke("2+2?")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], Exception)


def test_method_and_strict_reach_each_models_own_method(openai_server: OpenAIServer) -> None:
    model = _composite(openai_server, always_both(), small=GOOD, large=GOOD, method="json_schema")
    model.with_structured_output(Sum, method="json_schema", strict=True).invoke("2+2?")
    for request in openai_server.requests:
        assert request.body["response_format"]["json_schema"]["strict"] is True
        assert "tools" not in request.body


def test_a_model_without_structured_output_is_left_out(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": GOOD}
    plain = Plain(model="small", base_url=openai_server.base_url, api_key="none")  # type: ignore[arg-type]
    model = ChatCascade([plain, chat(openai_server, "large")], policy=always_both())
    assert model.with_structured_output(Sum, method="json_mode").invoke("2+2?") == Sum(total=4)
    assert [request.model for request in openai_server.requests] == ["large"]


def test_the_runs_of_structured_output_nest(openai_server: OpenAIServer) -> None:
    tree = RunTree()
    model = _composite(openai_server, always_both(), small=GOOD, large=GOOD)
    model.with_structured_output(Sum, method="json_mode").invoke("2+2?", {"callbacks": [tree]})
    (root,) = tree.roots
    assert root[0] == "ChatCascade"
    assert [child[0] for child in root[1:]] == ["RunnableSequence", "RunnableSequence"]
    assert [kind for kind in tree.kinds.values()].count("chat_model") == 2


def test_objects_are_streamed_as_they_grow_where_the_call_is_the_last(openai_server: OpenAIServer) -> None:
    schema = {
        "title": "Sum",
        "type": "object",
        "properties": {"total": {"type": "integer"}, "why": {"type": "string"}},
    }
    text = '{"total": 4, "why": "because two and two are four"}'
    bare = _composite(openai_server, only("large"), small=BAD, large=text)
    expected = list(
        chat(openai_server, "large").with_structured_output(schema, method="json_mode").stream("2+2?")
    )
    assert len(expected) > 2
    events = RunTree()
    streamed = bare.with_structured_output(schema, method="json_mode").stream("2+2?", {"callbacks": [events]})
    assert list(streamed) == expected
    record = events.custom[-1][1]
    assert record["calls"][0]["usage"]["output_tokens"] == openai_server.tokens["large"].output_tokens // 2


def test_a_drafts_object_is_streamed_once(openai_server: OpenAIServer) -> None:
    model = _composite(openai_server, cascading(0.1), small=GOOD, large=GOOD)
    assert list(model.with_structured_output(Sum, method="json_mode").stream("2+2?")) == [Sum(total=4)]
    assert [request.model for request in openai_server.requests] == ["small"]


def test_it_composes_in_a_chain_that_can_be_drawn(openai_server: OpenAIServer) -> None:
    model = _composite(openai_server, cascading(0.1), small=BAD, large=GOOD)
    chain = ChatPromptTemplate.from_template("{sum}") | model.with_structured_output(Sum, method="json_mode")
    assert chain.invoke({"sum": "2+2?"}) == Sum(total=4)
    assert chain.with_retry().with_config(tags=["x"]).batch([{"sum": "2+2?"}]) == [Sum(total=4)]
    assert "ChatCascade" in chain.get_graph().draw_mermaid()
    assert chain.get_output_schema() is Sum, "as of a bare model's"
