"""When models fail: an answer in hand is never lost, runs are closed, and the error says who said what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from langchain_core.output_parsers import StrOutputParser
from langgraph.errors import GraphInterrupt

from cascade_core.errors import AllModelsFailedError
from cascade_langchain import ChatCascade
from tests.langchain.support import RunTree, Scripted, always_both, cascading, chat, only, pair
from tests.support.openai_server import Break, Fault, Hang, HttpError, Malformed, OpenAIServer, Reply

FAULTS = {
    "429": HttpError(429, "too many requests"),
    "500": HttpError(500, "out of order"),
    "malformed": Malformed(),
    "cut off": Break(0),
}


async def _invoke(model: Any, config: Any) -> str:
    return str(model.invoke("2+2?", config).text)


async def _ainvoke(model: Any, config: Any) -> str:
    return str((await model.ainvoke("2+2?", config)).text)


async def _stream(model: Any, config: Any) -> str:
    return "".join(str(chunk.text) for chunk in model.stream("2+2?", config))


async def _astream(model: Any, config: Any) -> str:
    return "".join([str(chunk.text) async for chunk in model.astream("2+2?", config)])


WAYS = (_invoke, _ainvoke, _stream, _astream)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_another_model_answers_for_one_that_fails(
    openai_server: OpenAIServer, way: Callable[..., Any], fault: Fault
) -> None:
    openai_server.models = {"small": fault, "large": "four"}
    tree = RunTree()
    assert await way(ChatCascade(pair(openai_server), policy=cascading()), {"callbacks": [tree]}) == "four"
    assert tree.roots == [["ChatCascade", ["small"], ["large"]]]
    assert not tree.open


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_answer_in_hand_is_returned_when_the_next_model_fails(
    openai_server: OpenAIServer, way: Callable[..., Any], fault: Fault
) -> None:
    openai_server.models = {"small": Reply("perhaps four", logprobs=-3.0), "large": fault}
    tree = RunTree()
    assert (
        await way(ChatCascade(pair(openai_server), policy=cascading()), {"callbacks": [tree]})
        == "perhaps four"
    )
    assert not tree.open
    assert tree.custom[-1][1]["reason"] == "failed"


@pytest.mark.parametrize("way", WAYS)
async def test_when_all_fail_the_error_names_each_and_what_it_said(
    openai_server: OpenAIServer, way: Callable[..., Any]
) -> None:
    openai_server.models = {
        "small": HttpError(429, "too many requests"),
        "large": HttpError(500, "out of order"),
    }
    tree = RunTree()
    with pytest.raises(
        AllModelsFailedError, match=r"small: .*too many requests.*large: .*out of order"
    ) as raised:
        await way(ChatCascade(pair(openai_server), policy=cascading()), {"callbacks": [tree]})
    assert set(raised.value.failures) == {"small", "large"}
    assert isinstance(raised.value.__cause__, openai.RateLimitError)
    assert not tree.open
    assert set(tree.ended.values()) >= {"AllModelsFailedError"}


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_connection_and_a_timeout_are_failures(
    openai_server: OpenAIServer, refused_url: str, way: Callable[..., Any]
) -> None:
    openai_server.models = {"slow": Hang(), "large": "four"}
    refusing = chat(openai_server, "small").model_copy()
    refusing = type(refusing)(model="small", base_url=refused_url, api_key="none", max_retries=0)  # type: ignore[arg-type]
    slow = chat(openai_server, "slow", timeout=httpx.Timeout(5.0, read=0.05))
    model = ChatCascade(
        [refusing, slow, chat(openai_server, "large")], policy=cascading(0.8, ("small", "slow", "large"))
    )
    tree = RunTree()
    assert await way(model, {"callbacks": [tree]}) == "four"
    assert tree.custom[-1][0] == "cascade_stop"
    errors = [call.get("error") for call in tree.custom[-1][1]["calls"]]
    assert errors[2] is None
    assert all(errors[:2])
    assert not tree.open


@pytest.mark.parametrize("way", [_stream, _astream])
async def test_a_break_after_the_first_chunk_is_raised(
    openai_server: OpenAIServer, way: Callable[..., Any]
) -> None:
    openai_server.models = {"small": "one two three four", "large": "four"}
    openai_server.fail_next(Break(2), model="large")
    tree = RunTree()
    with pytest.raises((httpx.HTTPError, openai.APIError)):
        await way(ChatCascade(pair(openai_server), policy=only("large")), {"callbacks": [tree]})
    assert tree.roots == [["ChatCascade", ["large"]]]
    assert not tree.open


def test_the_errors_message_is_not_logged(
    openai_server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    openai_server.models = {"small": HttpError(500, "the prompt was: 2+2?"), "large": "four"}
    with caplog.at_level(logging.DEBUG, logger="cascade_langchain"):
        answer = ChatCascade(pair(openai_server), policy=cascading()).invoke("2+2?")
    assert "the prompt was" not in caplog.text
    assert "2+2" not in str(answer.response_metadata["cascade"])


async def test_cancellation_passes_and_closes_every_run(openai_server: OpenAIServer) -> None:
    hang = Hang()
    openai_server.models = {"small": hang, "large": "four"}
    tree = RunTree()
    model = ChatCascade(pair(openai_server), policy=cascading())
    task = asyncio.create_task(model.ainvoke("2+2?", {"callbacks": [tree]}))
    await asyncio.to_thread(hang.arrived.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [request.model for request in openai_server.requests] == ["small"], "nobody was asked instead"
    assert tree.roots == [["ChatCascade", ["small"]]]
    assert not tree.open, "although a model that is cancelled leaves its own run open"
    assert set(tree.ended.values()) == {"CancelledError"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()])
def test_interrupts_pass_and_close_every_run(stop: BaseException) -> None:
    def interrupted(_: str) -> str:
        raise stop

    model = ChatCascade(
        [Scripted(model_name="small", say=interrupted), Scripted(model_name="large")], policy=always_both()
    )
    for run in (model.invoke, lambda *given: list(model.stream(*given))):
        tree = RunTree()
        with pytest.raises(type(stop)):
            run("2+2?", {"callbacks": [tree]})
        assert not tree.open
        assert len(tree.roots) == 1


def test_an_interrupt_of_a_graph_is_no_failure_of_a_model() -> None:
    def interrupted(_: str) -> str:
        raise GraphInterrupt()

    model = ChatCascade(
        [Scripted(model_name="small", say=interrupted), Scripted(model_name="large")], policy=always_both()
    )
    with pytest.raises(GraphInterrupt):
        model.invoke("2+2?")


def test_a_consumer_that_stops_early_closes_the_runs(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": "one two three four"}
    tree = RunTree()
    chunks = ChatCascade(pair(openai_server), policy=only("large")).stream("2+2?", {"callbacks": [tree]})
    next(chunks)
    chunks.close()
    assert not tree.open


async def test_an_async_consumer_that_stops_early_closes_the_runs(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": "one two three four"}
    tree = RunTree()
    chunks = ChatCascade(pair(openai_server), policy=only("large")).astream("2+2?", {"callbacks": [tree]})
    await anext(chunks)
    await chunks.aclose()
    assert not tree.open


async def test_closing_a_v3_stream_early_closes_the_runs(openai_server: OpenAIServer) -> None:
    openai_server.models = {"large": "one two three four"}
    tree = RunTree()
    model = ChatCascade(pair(openai_server), policy=only("large"))
    async with await model.astream_events("2+2?", {"callbacks": [tree]}, version="v3") as stream:
        async for _ in stream:
            break
    assert not tree.open


async def test_v3_readers_get_the_error(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": HttpError(500), "large": HttpError(500)}
    model = ChatCascade(pair(openai_server), policy=cascading())
    with pytest.raises(AllModelsFailedError):
        _ = model.stream_events("2+2?", version="v3").output
    with pytest.raises(AllModelsFailedError):
        await (await model.astream_events("2+2?", version="v3"))


def test_a_model_that_keeps_failing_is_left_out_for_a_while(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": HttpError(500), "large": "four"}
    model = ChatCascade(pair(openai_server), policy=cascading())
    model.health._clock = lambda: 0.0  # no pause ends meanwhile
    for _ in range(10):
        assert model.invoke("2+2?").text == "four"
    assert len(openai_server.requests_to("small")) == 3
    assert len(openai_server.requests_to("large")) == 10


def test_when_all_are_down_they_are_tried_all_the_same(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": HttpError(500), "large": HttpError(500)}
    model = ChatCascade(pair(openai_server), policy=cascading())
    for _ in range(4):
        with pytest.raises(AllModelsFailedError):
            model.invoke("2+2?")
    openai_server.models = {"small": "4", "large": "four"}
    assert model.invoke("2+2?").text == "4"


def test_retries_and_fallbacks_around_the_composite_work(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "4", "large": "four"}
    openai_server.fail_next(HttpError(500), times=2)
    model = ChatCascade(pair(openai_server), policy=cascading())
    assert model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("2+2?").text == "4"
    openai_server.fail_next(HttpError(500), times=2)
    chain = model.with_fallbacks([chat(openai_server, "spare")]) | StrOutputParser()
    openai_server.models["spare"] = "saved"
    assert chain.invoke("2+2?") == "saved"
