"""Streams show the accepted answer only, live where no other can follow, and end with the decision record."""

from __future__ import annotations

import inspect
from typing import Any

import httpx
import openai
import pytest
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from cascade_core import AllModelsFailedError, Policy
from cascade_core.estimation import Uncalibrated
from cascade_core.policy import ModelSpec
from cascade_core.strategies import SingleModel
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, Recorder, uncalibrated
from tests.llamaindex.fakes import Pulled
from tests.support.openai_server import Break, HttpError, OpenAIServer, Reply

MESSAGES = [ChatMessage("Tell me a tale.")]
TALE = "Once there was a fox."


def only_the_first(*names: str) -> Policy:
    """Its first call is its last, so that it is streamed live."""
    return Policy(
        models=tuple(ModelSpec(name=name) for name in names),
        estimator=Uncalibrated(prices=(None,) * len(names)),
        strategy=SingleModel(model=0),
        unit="seconds",
    )


@pytest.mark.parametrize("small", [UNSURE, Reply(TALE, logprobs=-0.01)], ids=["live", "replayed"])
async def test_what_is_shown_is_the_accepted_answer(
    small: Reply, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": small, "large": TALE}
    llm = cascade()
    for chunks in (
        list(llm.stream_chat(MESSAGES)),
        [chunk async for chunk in await llm.astream_chat(MESSAGES)],
    ):
        assert "".join(chunk.delta for chunk in chunks) == TALE
        assert chunks[-1].message.content == TALE
        shown = ""
        for chunk in chunks:
            shown += chunk.delta
            assert chunk.message.content == shown, "content is cumulative"
        assert chunks[-1].raw is not None
    for texts in (
        list(llm.stream_complete("Tell me a tale.")),
        [chunk async for chunk in await llm.astream_complete("Tell me a tale.")],
    ):
        assert "".join(chunk.delta for chunk in texts) == TALE
        assert texts[-1].text == TALE


async def test_endpoints_return_real_generators(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": Reply(TALE, logprobs=-0.01)}
    llm = cascade()
    assert inspect.isgenerator(llm.stream_chat(MESSAGES))
    assert inspect.isgenerator(llm.stream_complete("Hello"))
    assert inspect.isasyncgen(await llm.astream_chat(MESSAGES))
    assert inspect.isasyncgen(await llm.astream_complete("Hello"))


def test_the_decision_is_made_before_the_stream_is_read(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": UNSURE, "large": TALE}
    stream = cascade().stream_chat(MESSAGES)
    assert [request.model for request in openai_server.requests] == ["small", "large"]
    assert [request.body.get("stream", False) for request in openai_server.requests] == [False, True]
    assert "".join(chunk.delta for chunk in stream) == TALE


def test_the_first_word_of_a_last_call_is_shown_when_it_comes() -> None:
    live = Pulled()
    llm = CascadeLLM([live, Pulled(model="other")], only_the_first("pulled", "other"))
    stream = llm.stream_chat(MESSAGES)
    assert next(stream).delta == "one"
    assert live._pulled == 1, "nothing beyond it was waited for"
    assert [chunk.delta for chunk in stream] == [" two", " three", ""]


def test_the_record_is_on_the_last_chunk_and_in_the_event(
    openai_server: OpenAIServer, cascade: CascadeOf, events: Recorder
) -> None:
    openai_server.models = {"small": UNSURE, "large": TALE}
    *chunks, last = cascade().stream_chat(MESSAGES)
    record = last.additional_kwargs["cascade"]
    assert [call["model"] for call in record["calls"]] == ["small", "large"]
    assert record["reason"] == "released"
    assert [event.record for event in events.of(CascadeDecisionEvent)] == [record]
    assert all(chunk.additional_kwargs["cascade"] == {"model": "large"} for chunk in chunks)


def test_a_stream_left_early_is_in_the_record_all_the_same(events: Recorder) -> None:
    live = Pulled()
    llm = CascadeLLM([live, Pulled(model="other")], only_the_first("pulled", "other"))
    stream = llm.stream_chat(MESSAGES)
    next(stream)
    stream.close()
    (event,) = events.of(CascadeDecisionEvent)
    assert event.record["model"] == "pulled"


def test_and_the_providers_stream_is_closed_with_it() -> None:
    live = Pulled()
    stream = CascadeLLM([live, Pulled(model="other")], only_the_first("pulled", "other")).stream_chat(
        MESSAGES
    )
    next(stream)
    stream.close()
    assert live._closed


def test_log_probabilities_of_a_live_stream_are_read(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": Reply(TALE, logprobs=-0.2)}
    *_, last = cascade(policy=only_the_first("small", "large")).stream_chat(MESSAGES)
    (call,) = last.additional_kwargs["cascade"]["calls"]
    assert call["quality"] == pytest.approx(0.8187, abs=1e-3)


def test_usage_of_a_live_stream_is_read_where_it_was_asked_for(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    openai_server.models = {"small": Reply(TALE, input_tokens=20, output_tokens=6)}
    asking = member("small", additional_kwargs={"stream_options": {"include_usage": True}})
    *_, last = CascadeLLM([asking, member("large")], only_the_first("small", "large")).stream_chat(MESSAGES)
    (call,) = last.additional_kwargs["cascade"]["calls"]
    assert call["usage"]["output_tokens"] == 6


@pytest.mark.parametrize(
    "fault", [HttpError(500), Break(after=0), Break(after=1)], ids=["500", "cut", "cut later"]
)
async def test_a_failure_before_anything_is_shown_leads_on(
    fault: Any, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": lambda request: Reply(tool_calls=[]), "large": TALE}
    openai_server.fail_next(fault, model="small", times=2)
    if isinstance(fault, Break) and fault.after == 1:
        # The first event of a chat carries a role and no text: cut after it, nothing has been shown.
        openai_server.models["small"] = Reply("")
    llm = cascade(policy=only_the_first("small", "large"))
    chunks = list(llm.stream_chat(MESSAGES))
    assert "".join(chunk.delta for chunk in chunks) == TALE
    chunks = [chunk async for chunk in await llm.astream_chat(MESSAGES)]
    assert "".join(chunk.delta for chunk in chunks) == TALE


async def test_a_failure_after_something_was_shown_is_raised() -> None:
    broken = Pulled(fail_at=2)
    llm = CascadeLLM([broken, Pulled(model="other")], only_the_first("pulled", "other"))
    stream = llm.stream_chat(MESSAGES)
    assert [next(stream).delta, next(stream).delta] == ["one", " two"]
    with pytest.raises(ConnectionError, match="line went dead"):
        next(stream)
    astream = await llm.astream_chat(MESSAGES)
    assert [(await anext(astream)).delta, (await anext(astream)).delta] == ["one", " two"]
    with pytest.raises(ConnectionError, match="line went dead"):
        await anext(astream)


async def test_a_break_in_mid_stream_is_raised_and_ends_the_spans(
    openai_server: OpenAIServer, cascade: CascadeOf, spans: SimpleSpanHandler
) -> None:
    openai_server.models = {"small": TALE, "large": "Another."}
    openai_server.fail_next(Break(after=3), model="small", times=2)
    llm, shown = cascade(policy=only_the_first("small", "large")), ["", ""]

    def read() -> None:
        for chunk in llm.stream_chat(MESSAGES):
            shown[0] += chunk.delta

    async def aread() -> None:
        async for chunk in await llm.astream_chat(MESSAGES):
            shown[1] += chunk.delta

    with pytest.raises((httpx.HTTPError, openai.APIError)):
        read()
    with pytest.raises((httpx.HTTPError, openai.APIError)):
        await aread()
    assert shown[0] == shown[1] != ""
    assert TALE.startswith(shown[0])
    assert not openai_server.requests_to("large"), "what was shown cannot be taken back"
    assert not spans.open_spans


def test_an_empty_stream_leads_on(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": "", "large": TALE}
    chunks = cascade(policy=only_the_first("small", "large")).stream_chat(MESSAGES)
    assert "".join(chunk.delta for chunk in chunks) == TALE


def test_a_stream_fails_when_it_is_asked_for_if_no_member_answers(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": HttpError(500), "large": HttpError(503)}
    with pytest.raises(AllModelsFailedError):
        cascade().stream_chat(MESSAGES)


@pytest.mark.parametrize("small", [UNSURE, Reply(TALE, logprobs=-0.01)], ids=["live", "replayed"])
def test_a_chat_engine_keeps_what_was_shown(
    small: Reply, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": small, "large": TALE}
    engine = SimpleChatEngine.from_defaults(llm=cascade())
    shown = "".join(engine.stream_chat("Tell me a tale.").response_gen)
    assert shown == TALE == engine.chat_history[-1].content


async def test_a_members_own_chunks_are_not_changed(openai_server: OpenAIServer) -> None:
    live = Pulled()
    bare = [chunk.delta for chunk in live.stream_chat(MESSAGES)]
    llm = CascadeLLM([live, Pulled(model="other")], only_the_first("pulled", "other"))
    assert [chunk.delta for chunk in llm.stream_chat(MESSAGES)] == [*bare, ""]


def test_thoughts_of_a_replayed_answer_are_shown() -> None:
    from llama_index.core.base.llms.types import ChatResponse, TextBlock, ThinkingBlock

    class Thinker(OpenAILike):
        def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            blocks = [ThinkingBlock(content="Hm."), TextBlock(text="Yes.")]
            return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks))

    thinkers = [Thinker(model=name, api_key="none", is_chat_model=True) for name in ("a", "b")]
    (chunk,) = CascadeLLM(thinkers, uncalibrated("a", "b")).stream_chat(MESSAGES)
    assert chunk.additional_kwargs["thinking_delta"] == "Hm."
    assert chunk.delta == "Yes."
