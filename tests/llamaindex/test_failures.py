"""A member that fails is replaced; an answer in hand is never lost; nothing is swallowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.instrumentation.events.span import SpanDropEvent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from cascade_core import AllModelsFailedError, CascadeError
from cascade_llamaindex import CascadeLLM
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, Recorder, uncalibrated
from tests.llamaindex.fakes import Pulled
from tests.support.openai_server import Break, Hang, HttpError, Malformed, OpenAIServer

MESSAGES = [ChatMessage("What colour is the sky?")]


async def _joined(stream: Any) -> str:
    return "".join([chunk.delta async for chunk in await stream])


CALLS: dict[str, Callable[[CascadeLLM], str | None]] = {
    "chat": lambda llm: llm.chat(MESSAGES).message.content,
    "achat": lambda llm: asyncio.run(llm.achat(MESSAGES)).message.content,
    "stream_chat": lambda llm: "".join(chunk.delta or "" for chunk in llm.stream_chat(MESSAGES)),
    "astream_chat": lambda llm: asyncio.run(_joined(llm.astream_chat(MESSAGES))),
    "complete": lambda llm: llm.complete("What colour?").text,
    "acomplete": lambda llm: asyncio.run(llm.acomplete("What colour?")).text,
    "predict": lambda llm: llm.predict(PromptTemplate("What colour?")),
    "apredict": lambda llm: asyncio.run(llm.apredict(PromptTemplate("What colour?"))),
    "stream": lambda llm: "".join(llm.stream(PromptTemplate("What colour?"))),
    "chat_with_tools": lambda llm: llm.chat_with_tools([], user_msg="What colour?").message.content,
}

FAULTS = {
    "429": HttpError(429),
    "401": HttpError(401),
    "400 context length": HttpError(400, "maximum context length is 10 tokens"),
    "500": HttpError(500),
    "503": HttpError(503),
    "cut": Break(after=0),
    "malformed": Malformed(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_another_member_answers(
    fault: str, call: str, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": FAULTS[fault], "large": "Blue."}
    assert CALLS[call](cascade()) == "Blue."


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_in_hand_is_never_lost(
    fault: str, call: str, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": UNSURE, "large": FAULTS[fault]}
    assert CALLS[call](cascade()) == UNSURE.text


@pytest.mark.parametrize("call", CALLS)
def test_if_none_answers_every_member_and_its_failure_is_named(
    call: str, openai_server: OpenAIServer, cascade: CascadeOf, events: Recorder
) -> None:
    openai_server.models = {"small": HttpError(429, "slow down"), "large": HttpError(500, "out of order")}
    with pytest.raises(
        AllModelsFailedError, match=r"small: RateLimitError.*slow down.*large: .*out of order"
    ) as raised:
        CALLS[call](cascade())
    assert isinstance(raised.value, CascadeError)
    assert set(raised.value.failures) == {"small", "large"}
    assert raised.value.__cause__ is raised.value.failures["large"]
    assert [event for event in events.of(SpanDropEvent) if event.span_id.startswith("CascadeLLM.")]


def test_a_refused_connection_leads_on(
    openai_server: OpenAIServer, member: MemberOf, refused_url: str
) -> None:
    openai_server.models = {"large": "Blue."}
    llm = CascadeLLM([member("small", api_base=refused_url), member("large")], uncalibrated("small", "large"))
    assert llm.chat(MESSAGES).message.content == "Blue."


def test_an_empty_answer_leads_on(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": "", "large": "Blue."}
    response = cascade().chat(MESSAGES)
    assert response.message.content == "Blue."
    assert response.additional_kwargs["cascade"]["calls"][0]["error"] == "unusable answer"


def test_a_model_that_keeps_failing_pauses(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": HttpError(500), "large": "Blue."}
    llm = cascade()
    llm._health._clock = lambda: 0.0  # no pause ends meanwhile
    for _ in range(10):
        llm.chat(MESSAGES)
    assert len(openai_server.requests_to("small")) == 3
    assert len(openai_server.requests_to("large")) == 10


def test_where_all_pause_all_are_tried(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": HttpError(500), "large": HttpError(500)}
    llm = cascade()
    for _ in range(4):
        with pytest.raises(AllModelsFailedError):
            llm.chat(MESSAGES)
    openai_server.models = {"small": HttpError(500), "large": "Blue."}
    assert llm.chat(MESSAGES).message.content == "Blue."


def test_what_is_no_error_of_a_model_passes() -> None:
    class Interrupted(Pulled):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            raise KeyboardInterrupt

    llm = CascadeLLM([Interrupted(model="a"), Pulled(model="b")], uncalibrated("a", "b"))
    with pytest.raises(KeyboardInterrupt):
        llm.complete("Hello")


async def test_a_cancelled_query_stops_at_once(
    openai_server: OpenAIServer, cascade: CascadeOf, spans: SimpleSpanHandler
) -> None:
    hang = Hang()
    openai_server.models = {"small": hang, "large": "Blue."}
    task = asyncio.create_task(cascade().achat(MESSAGES))
    await asyncio.to_thread(hang.arrived.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not openai_server.requests_to("large"), "cancelling is not a failure of the member"
    assert not spans.open_spans


@pytest.mark.parametrize("call", CALLS)
def test_a_slow_member_that_times_out_is_replaced(
    call: str, openai_server: OpenAIServer, member: MemberOf
) -> None:
    openai_server.models = {"small": Hang(), "large": "Blue."}
    impatient: OpenAILike = member("small", timeout=0.05)
    llm = CascadeLLM([impatient, member("large")], uncalibrated("small", "large"))
    assert CALLS[call](llm) == "Blue."
