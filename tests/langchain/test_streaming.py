"""What a consumer is shown: the answer, live where it is certain to be the answer, and never a rejected draft."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.callbacks import StreamingStdOutCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from cascade_core import Policy
from cascade_langchain import ChatCascade
from tests.langchain.support import Scripted, always_both, cascading, chat, only, pair
from tests.support.openai_server import OpenAIServer, Reply

DRAFT = Reply("DRAFT DRAFT DRAFT", logprobs=-2.0)
ANSWER = "one two three four"


def _composite(server: OpenAIServer, policy: Policy) -> ChatCascade:
    server.models = {"small": DRAFT, "large": ANSWER}
    return ChatCascade(pair(server), policy=policy)


def _graph(model: ChatCascade) -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def answer_sync(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", RunnableLambda(answer_sync, answer))
    graph.add_edge(START, "answer")
    return graph.compile()


# Consumers: each gives the texts that a user would be shown, in order.


async def _lcel_stream(model: ChatCascade) -> AsyncIterator[str]:
    chain = ChatPromptTemplate.from_template("{question}") | model | StrOutputParser()
    for text in chain.stream({"question": "?"}):
        yield text


async def _lcel_astream(model: ChatCascade) -> AsyncIterator[str]:
    chain = ChatPromptTemplate.from_template("{question}") | model | StrOutputParser()
    async for text in chain.astream({"question": "?"}):
        yield text


async def _chat_model_events(model: ChatCascade) -> AsyncIterator[str]:
    async for event in (model | StrOutputParser()).astream_events("?", version="v2"):
        if event["event"] == "on_chat_model_stream":
            yield str(event["data"]["chunk"].text)


async def _parser_events(model: ChatCascade) -> AsyncIterator[str]:
    async for event in (model | StrOutputParser()).astream_events("?", version="v2"):
        if event["event"] == "on_parser_stream":
            yield event["data"]["chunk"]


async def _outer_run_events(model: ChatCascade) -> AsyncIterator[str]:
    async for event in model.astream_events("?", version="v2"):
        if event["event"] == "on_chain_stream":
            yield str(event["data"]["chunk"].text)


async def _v3(model: ChatCascade) -> AsyncIterator[str]:
    for text in model.stream_events("?", version="v3").text:
        yield text


async def _v3_async(model: ChatCascade) -> AsyncIterator[str]:
    async for text in (await model.astream_events("?", version="v3")).text:
        yield text


async def _graph_messages(model: ChatCascade) -> AsyncIterator[str]:
    for message, _ in _graph(model).stream({"messages": ["?"]}, stream_mode="messages"):
        yield str(message.text)


async def _graph_messages_async(model: ChatCascade) -> AsyncIterator[str]:
    async for message, _ in _graph(model).astream({"messages": ["?"]}, stream_mode="messages"):
        yield str(message.text)


async def _graph_v3(model: ChatCascade) -> AsyncIterator[str]:
    stream = await _graph(model).astream_events({"messages": ["?"]}, version="v3")
    async for message in stream.messages:
        async for text in message.text:
            yield text


CONSUMERS = (
    _lcel_stream,
    _lcel_astream,
    _parser_events,
    _outer_run_events,
    _v3,
    _v3_async,
    _graph_messages,
    _graph_messages_async,
    _graph_v3,
    _chat_model_events,
)


@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_no_consumer_is_shown_a_rejected_draft(openai_server: OpenAIServer, consumer: Any) -> None:
    shown = [text async for text in consumer(_composite(openai_server, always_both()))]
    assert [request.model for request in openai_server.requests] == ["small", "large"]
    assert "".join(shown) == ANSWER


@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_a_call_that_is_the_last_is_shown_as_it_runs(
    openai_server: OpenAIServer, consumer: Any
) -> None:
    for policy in (only("large"), always_both()):
        shown = [text async for text in consumer(_composite(openai_server, policy)) if text]
        assert shown == ["one", " two", " three", " four"]


@pytest.mark.parametrize("consumer", [each for each in CONSUMERS if each is not _chat_model_events])
async def test_an_accepted_draft_is_shown_whole(openai_server: OpenAIServer, consumer: Any) -> None:
    model = _composite(openai_server, cascading(threshold=0.1))
    assert [text async for text in consumer(model) if text] == ["DRAFT DRAFT DRAFT"]
    assert [request.model for request in openai_server.requests] == ["small"]


def test_a_handler_that_prints_tokens_prints_no_draft(
    openai_server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    openai_server.models = {"small": DRAFT, "large": ANSWER}
    models = [
        chat(openai_server, name, logprobs=name == "small", streaming=True) for name in ("small", "large")
    ]
    model = ChatCascade(models, policy=always_both())
    model.invoke("?", {"callbacks": [StreamingStdOutCallbackHandler()]})
    assert capsys.readouterr().out == ANSWER


@pytest.mark.parametrize(
    "policy", [only("large"), always_both(), cascading(0.1)], ids=["only", "rejected", "kept"]
)
def test_chunks_add_up_to_one_message_of_one_model(openai_server: OpenAIServer, policy: Policy) -> None:
    model = _composite(openai_server, policy)
    chunks = list(model.stream("?"))
    total = chunks[0] + chunks[1:]
    record = total.response_metadata["cascade"]
    assert isinstance(total, AIMessageChunk)
    assert total.response_metadata["model_name"] == record["model"]
    assert total.text == ("DRAFT DRAFT DRAFT" if record["model"] == "small" else ANSWER)
    assert total.usage_metadata is not None
    assert total.usage_metadata["output_tokens"] == openai_server.tokens[record["model"]].output_tokens
    assert ["cascade" in chunk.response_metadata for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_first_token_is_passed_on_before_the_model_says_the_second() -> None:
    large = Scripted(model_name="large", say=lambda _: ANSWER)
    model = ChatCascade([Scripted(model_name="small"), large], policy=only("large"))
    chunks = model.stream("?")
    assert next(chunks).text == "one "
    assert large.words == ["one"]
    chunks.close()


def test_a_model_that_cannot_stream_is_shown_whole(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": ANSWER}
    silent = chat(openai_server, "large", disable_streaming=True)
    model = ChatCascade([chat(openai_server, "small"), silent], policy=only("large"))
    (chunk,) = model.stream("?")
    assert isinstance(chunk, AIMessageChunk)
    assert (chunk.text, chunk.chunk_position) == (ANSWER, "last")
    assert chunk.response_metadata["cascade"]["model"] == "large"


def test_streaming_can_be_disabled_on_the_composite(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": ANSWER}
    model = ChatCascade(pair(openai_server), policy=only("large"), disable_streaming=True)
    assert [chunk.text for chunk in model.stream("?")] == [ANSWER]
    assert not openai_server.requests[-1].body.get("stream")


def test_a_composite_in_a_composite_keeps_its_drafts_and_the_draft_it_is(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": DRAFT, "large": DRAFT, "largest": ANSWER}
    inner = ChatCascade(pair(openai_server), policy=always_both())
    outer = ChatCascade(
        {"both": inner, "largest": chat(openai_server, "largest")}, policy=cascading(2.0, ("both", "largest"))
    )
    shown = [
        str(message.text) for message, _ in _graph(outer).stream({"messages": ["?"]}, stream_mode="messages")
    ]
    assert [request.model for request in openai_server.requests] == ["small", "large", "largest"]
    assert "".join(shown) == ANSWER


def test_tool_calls_of_an_accepted_draft_survive_the_chunk(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Reply(tool_calls=[("add", {"a": 1, "b": 2})])}
    model = ChatCascade(pair(openai_server), policy=cascading(0.1)).bind_tools([_add])
    (chunk,) = model.stream("add 1 and 2")
    assert isinstance(chunk, AIMessageChunk)
    assert [(call["name"], call["args"]) for call in chunk.tool_calls] == [("add", {"a": 1, "b": 2})]
    assert chunk.tool_call_chunks


def _add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
