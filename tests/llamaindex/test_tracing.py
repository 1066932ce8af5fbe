"""Spans nest as the calls do; decisions are events; no key is in any of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.events.span import SpanDropEvent
from llama_index.core.llms import ChatMessage
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from cascade_core import AllModelsFailedError
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM
from tests.llamaindex.conftest import SECRET, UNSURE, CascadeOf, Recorder
from tests.support.openai_server import HttpError, OpenAIServer

MESSAGES = [ChatMessage("What colour is the sky?")]


async def _consumed(stream: Any) -> list[Any]:
    return [chunk async for chunk in await stream]


CALLS: dict[str, Callable[[CascadeLLM], Any]] = {
    "chat": lambda llm: llm.chat(MESSAGES),
    "achat": lambda llm: asyncio.run(llm.achat(MESSAGES)),
    "stream_chat": lambda llm: list(llm.stream_chat(MESSAGES)),
    "astream_chat": lambda llm: asyncio.run(_consumed(llm.astream_chat(MESSAGES))),
    "complete": lambda llm: llm.complete("What colour?"),
    "acomplete": lambda llm: asyncio.run(llm.acomplete("What colour?")),
    "stream_complete": lambda llm: list(llm.stream_complete("What colour?")),
    "astream_complete": lambda llm: asyncio.run(_consumed(llm.astream_complete("What colour?"))),
    "chat_with_tools": lambda llm: llm.chat_with_tools([], user_msg="What colour?"),
    "achat_with_tools": lambda llm: asyncio.run(llm.achat_with_tools([], user_msg="What colour?")),
    "stream_chat_with_tools": lambda llm: list(llm.stream_chat_with_tools([], user_msg="What colour?")),
}


@pytest.fixture
def llm(openai_server: OpenAIServer, cascade: CascadeOf) -> CascadeLLM:
    openai_server.models = {"small": UNSURE, "large": "Blue."}
    return cascade()


@pytest.mark.parametrize("method", CALLS)
def test_the_members_spans_are_below_the_composites(
    method: str, llm: CascadeLLM, spans: SimpleSpanHandler
) -> None:
    CALLS[method](llm)
    names = _parents(spans)
    (outer,) = [span for span in names if span.startswith(f"CascadeLLM.{method}-")]
    assert names[outer] is None
    inner = [span for span, parent in names.items() if parent == outer and "_prepare" not in span]
    assert len(inner) == 2, "draft and answer"
    assert not spans.open_spans


def test_in_many_threads_too(llm: CascadeLLM, spans: SimpleSpanHandler) -> None:
    threads = [threading.Thread(target=llm.chat, args=(MESSAGES,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = _parents(spans)
    outers = [span for span in names if span.startswith("CascadeLLM.chat")]
    assert len(outers) == 8
    for outer in outers:
        assert len([span for span, parent in names.items() if parent == outer]) == 2


async def test_and_in_many_tasks(llm: CascadeLLM, spans: SimpleSpanHandler) -> None:
    await asyncio.gather(*(llm.achat(MESSAGES) for _ in range(8)))
    names = _parents(spans)
    for outer in [span for span in names if span.startswith("CascadeLLM.achat")]:
        assert len([span for span, parent in names.items() if parent == outer]) == 2


def _parents(spans: SimpleSpanHandler) -> dict[str, str | None]:
    return {span.id_: span.parent_id for span in spans.completed_spans}


@pytest.mark.parametrize("method", CALLS)
def test_every_answer_has_one_decision_event_in_its_span(
    method: str, llm: CascadeLLM, events: Recorder
) -> None:
    CALLS[method](llm)
    (event,) = events.of(CascadeDecisionEvent)
    assert event.span_id.startswith(f"CascadeLLM.{method}-")
    assert [call["model"] for call in event.record["calls"]] == ["small", "large"]
    assert event.model_dump()["class_name"] == "CascadeDecisionEvent"


def test_a_record_holds_no_text(llm: CascadeLLM, events: Recorder) -> None:
    llm.chat(MESSAGES)
    (event,) = events.of(CascadeDecisionEvent)
    assert "sky" not in str(event.record)
    assert "Blue" not in str(event.record)


def test_no_key_is_in_any_event_payload_or_representation(
    openai_server: OpenAIServer, llm: CascadeLLM, events: Recorder
) -> None:
    class Payloads(BaseCallbackHandler):
        def __init__(self) -> None:
            super().__init__([], [])
            self.seen: list[str] = []

        def on_event_start(self, event_type: Any, payload: Any = None, *args: Any, **kwargs: Any) -> str:
            self.seen.append(str(payload))
            return ""

        def on_event_end(self, event_type: Any, payload: Any = None, *args: Any, **kwargs: Any) -> None:
            self.seen.append(str(payload))

        def start_trace(self, trace_id: str | None = None) -> None: ...

        def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...

    payloads = Payloads()
    llm.callback_manager = CallbackManager([payloads])
    for call in CALLS.values():
        call(llm)
    SummaryIndex.from_documents([Document(text="The sky is blue.")]).as_query_engine(llm=llm).query(
        "What colour?"
    )
    openai_server.models["small"] = HttpError(401, f"the key {SECRET} is not valid")
    record = llm.chat(MESSAGES).additional_kwargs["cascade"]
    assert record["calls"][0]["error"] == "AuthenticationError"
    assert SECRET not in str(record)
    assert payloads.seen
    own = [event for event in events.events if isinstance(event, CascadeDecisionEvent)]
    assert SECRET not in "".join(str(event) for event in own)
    shown = [str(event.model_dump()) for event in events.events if "Exception" not in event.class_name()]
    assert not [text for text in shown if SECRET in text and "not valid" not in text]
    assert not [text for text in payloads.seen if SECRET in text and "not valid" not in text]
    assert SECRET not in repr(llm) + str(llm) + str(llm.to_payload())


def test_a_failure_drops_the_span_and_is_raised(
    openai_server: OpenAIServer, cascade: CascadeOf, events: Recorder, spans: SimpleSpanHandler
) -> None:
    openai_server.models = {"small": HttpError(500), "large": HttpError(500)}
    with pytest.raises(AllModelsFailedError):
        cascade().chat(MESSAGES)
    dropped = [event.span_id.split("-")[0] for event in events.of(SpanDropEvent)]
    assert dropped.count("CascadeLLM.chat") == 1
    assert set(dropped) == {"CascadeLLM.chat", "OpenAILike.chat"}
    assert not spans.open_spans
