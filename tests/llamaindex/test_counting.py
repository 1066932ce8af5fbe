"""Every model call is counted once, rejected drafts included, wherever the handler was put."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import Document, Settings, SummaryIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from cascade_llamaindex import CascadeLLM
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, uncalibrated
from tests.support.openai_server import OpenAIServer, Reply

USAGE = {"stream_options": {"include_usage": True}}
"""An OpenAI stream carries no usage unless it is asked for."""


class Verdict(BaseModel):
    """A verdict."""

    good: bool


def _counter() -> TokenCountingHandler:
    return TokenCountingHandler(tokenizer=str.split)


def _counted(counter: TokenCountingHandler) -> tuple[int, int, int]:
    return (
        len(counter.llm_token_counts),
        counter.prompt_llm_token_count,
        counter.completion_llm_token_count,
    )


def _served(server: OpenAIServer) -> tuple[int, int, int]:
    counts = server.tokens.values()
    return (
        sum(count.calls for count in counts),
        sum(count.input_tokens for count in counts),
        sum(count.output_tokens for count in counts),
    )


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    """Of two members the first is never sure, so that every query is a draft and an answer."""
    openai_server.models = {"small": UNSURE, "large": "It is blue."}
    return openai_server


@pytest.fixture
def streaming_cascade(member: MemberOf) -> CascadeLLM:
    members = [member("small"), member("large", additional_kwargs=USAGE)]
    return CascadeLLM(members, uncalibrated("small", "large"))


MESSAGES = [ChatMessage("What colour is the sky?")]


async def _consumed(stream: Any) -> None:
    async for _ in await stream:
        pass


ENTRY_POINTS: dict[str, Callable[[CascadeLLM], Any]] = {
    "chat": lambda llm: llm.chat(MESSAGES),
    "complete": lambda llm: llm.complete("What colour is the sky?"),
    "stream_chat": lambda llm: list(llm.stream_chat(MESSAGES)),
    "stream_complete": lambda llm: list(llm.stream_complete("What colour is the sky?")),
    "achat": lambda llm: asyncio.run(llm.achat(MESSAGES)),
    "acomplete": lambda llm: asyncio.run(llm.acomplete("What colour is the sky?")),
    "astream_chat": lambda llm: asyncio.run(_consumed(llm.astream_chat(MESSAGES))),
    "astream_complete": lambda llm: asyncio.run(_consumed(llm.astream_complete("What colour is it?"))),
    "structured_predict": lambda llm: llm.as_structured_llm(Verdict).chat(MESSAGES),
    "chat_with_tools": lambda llm: llm.chat_with_tools([], user_msg="What colour is the sky?"),
}


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_tokens_are_the_servers_on_every_entry_point(
    entry: str, server: OpenAIServer, streaming_cascade: CascadeLLM
) -> None:
    if entry == "structured_predict":
        server.models = {"small": UNSURE}
    counter = _counter()
    streaming_cascade.callback_manager = CallbackManager([counter])
    ENTRY_POINTS[entry](streaming_cascade)
    assert _counted(counter) == _served(server)
    assert _served(server)[0] == 2


@pytest.mark.parametrize("place", ["outer", "late", "inner", "both", "handler added"])
def test_tokens_are_counted_once_wherever_the_handler_is(
    place: str, server: OpenAIServer, member: MemberOf
) -> None:
    counter = _counter()
    manager = CallbackManager([counter])
    inner = {"callback_manager": manager} if place in ("inner", "both") else {}
    outer = {"callback_manager": manager} if place in ("outer", "both") else {}
    members = [member("small", **inner), member("large", **inner)]
    llm = CascadeLLM(members, uncalibrated("small", "large"), **outer)
    if place == "late":
        llm.callback_manager = manager
    if place == "handler added":
        llm.callback_manager.add_handler(counter)
    llm.chat(MESSAGES)
    assert _counted(counter) == _served(server)


@pytest.mark.parametrize("place", ["settings", "query engine", "both, and every model"])
def test_a_query_engine_counts_once(place: str, server: OpenAIServer, member: MemberOf) -> None:
    counter = _counter()
    manager = CallbackManager([counter])
    everywhere = {"callback_manager": manager} if place == "both, and every model" else {}
    members = [member("small", **everywhere), member("large", **everywhere)]
    llm = CascadeLLM(members, uncalibrated("small", "large"), **everywhere)
    if place != "query engine":
        Settings.callback_manager = manager
    index = SummaryIndex.from_documents([Document(text="The sky is blue.")])
    engine: Any = index.as_query_engine(llm=llm)
    if place != "settings":
        synthesizer = get_response_synthesizer(llm=llm, callback_manager=manager)
        engine = RetrieverQueryEngine(index.as_retriever(), synthesizer, callback_manager=manager)
    engine.query("What colour is the sky?")
    assert _counted(counter) == _served(server)


def test_a_members_own_handler_hears_of_its_calls_only(server: OpenAIServer, member: MemberOf) -> None:
    own, shared = _counter(), _counter()
    small = member("small", callback_manager=CallbackManager([own]))
    llm = CascadeLLM([small, member("large")], uncalibrated("small", "large"))
    llm.callback_manager = CallbackManager([shared])
    llm.chat(MESSAGES)
    assert _counted(shared) == _served(server)
    assert own.prompt_llm_token_count == server.tokens["small"].input_tokens
    llm.callback_manager = CallbackManager([])
    assert small.callback_manager.handlers == [own]


def test_one_query_is_one_trace(server: OpenAIServer, cascade: CascadeOf) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    cascade(callback_manager=CallbackManager([debug])).chat(MESSAGES)
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 2, "draft and answer"
    assert len(debug._trace_map["root"]) == 2, "both in the one trace"


def test_an_own_rate_limit_counts_queries(server: OpenAIServer, cascade: CascadeOf) -> None:
    class Limiter:
        acquired = 0

        def acquire(self) -> None:
            self.acquired += 1

        async def async_acquire(self) -> None:
            self.acquired += 1

    llm = cascade()
    llm.rate_limiter = Limiter()
    llm.chat(MESSAGES)
    asyncio.run(llm.achat(MESSAGES))
    assert llm.rate_limiter.acquired == 2


# -- OpenTelemetry ---------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(caplog: pytest.LogCaptureFixture) -> Iterator[InMemorySpanExporter]:
    caplog.set_level(
        logging.CRITICAL, logger="openinference"
    )  # it warns of every event that it does not know
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_opentelemetry_sums_to_the_servers_tokens(
    entry: str, server: OpenAIServer, streaming_cascade: CascadeLLM, exported: InMemorySpanExporter
) -> None:
    if entry == "structured_predict":
        server.models = {"small": UNSURE}
    ENTRY_POINTS[entry](streaming_cascade)
    spans = exported.get_finished_spans()
    assert (
        _sum(spans, "llm.token_count.prompt"),
        _sum(spans, "llm.token_count.completion"),
    ) == _served(server)[1:]
    assert any(span.name.startswith("CascadeLLM.") for span in spans), "the composite's own span has ended"


def test_opentelemetry_ends_the_span_of_a_replayed_stream(
    openai_server: OpenAIServer, cascade: CascadeOf, exported: InMemorySpanExporter
) -> None:
    openai_server.models = {"small": Reply("Blue.", logprobs=-0.01)}
    list(cascade().stream_chat(MESSAGES))
    assert "CascadeLLM.stream_chat" in [span.name for span in exported.get_finished_spans()]


def _sum(spans: tuple[ReadableSpan, ...], attribute: str) -> int:
    return sum(int((span.attributes or {}).get(attribute, 0)) for span in spans)  # type: ignore[arg-type]
