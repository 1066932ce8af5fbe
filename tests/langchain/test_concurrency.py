"""State lives in the call: thousands of queries go through one composite at once and know nothing of each other."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import Field

from cascade_langchain import ChatCascade
from tests.langchain.support import Scripted, cascading, pair
from tests.support.openai_server import OpenAIServer, Reply, Request
from tests.support.waiting import LIMIT_S, Waiting, fitted_with

QUERIES = 2_000


class Slow(Scripted):
    """Lets every other query have its turn before it answers, and sees how many wait with it."""

    waiting: list[int] = Field(default_factory=lambda: [0, 0])

    async def _agenerate(self, messages, *_, **__):  # type: ignore[no-untyped-def]
        self.waiting[0] += 1
        self.waiting[1] = max(self.waiting)
        await asyncio.sleep(0)
        self.waiting[0] -= 1
        return self._generate(messages)


def _model() -> ChatCascade:
    small = Slow(model_name="small", say=lambda text: f"small on {text}", sure=0.5)
    large = Slow(model_name="large", say=lambda text: f"large on {text}")
    return ChatCascade([small, large], policy=cascading())


async def test_two_thousand_queries_at_once_each_get_their_own_answer() -> None:
    model = _model()
    answers = await asyncio.gather(*(model.ainvoke(f"question {n}") for n in range(QUERIES)))
    assert [answer.text for answer in answers] == [f"large on question {n}" for n in range(QUERIES)]
    records = [answer.response_metadata["cascade"] for answer in answers]
    assert len({record["query"] for record in records}) == QUERIES
    assert {tuple(call["model"] for call in record["calls"]) for record in records} == {("small", "large")}
    assert {tuple(call["usage"]["output_tokens"] for call in record["calls"]) for record in records} == {
        (4, 4)
    }
    assert model.models["small"].waiting[1] > QUERIES / 2, "they did run at once"


@pytest.mark.parametrize("how", ["ainvoke", "astream", "structured"])
async def test_the_loop_is_free_while_an_embedding_is_waited_for(
    openai_server: OpenAIServer, how: str
) -> None:
    embedding = Waiting()
    model = ChatCascade(pair(openai_server), policy=fitted_with(embedding))
    embedding.held = True

    async def ask() -> Any:
        if how == "astream":
            return [chunk async for chunk in model.astream("2+2?")]
        if how == "structured":
            schema = {"title": "Sum", "description": "A sum.", "type": "object", "properties": {}}
            return await model.with_structured_output(schema, method="json_mode").ainvoke("json: 2+2?")
        return await model.ainvoke("2+2?")

    task = asyncio.create_task(ask())
    assert await asyncio.to_thread(embedding.asked.wait, LIMIT_S)
    embedding.let_go.set()
    assert await task is not None


def test_batches_from_many_threads_share_nothing(openai_server: OpenAIServer) -> None:
    def small(request: Request) -> Reply:
        return Reply(f"small on {request.text}", logprobs=-3.0 if int(request.text) % 2 else -0.01)

    openai_server.models = {"small": small, "large": lambda request: Reply(f"large on {request.text}")}
    model = ChatCascade(pair(openai_server), policy=cascading())
    groups = [[str(n) for n in range(start, start + 10)] for start in range(0, 80, 10)]
    with ThreadPoolExecutor(8) as threads:
        answered = list(threads.map(model.batch, groups))
    for group, answers in zip(groups, answered, strict=True):
        expected = [f"{'large' if int(text) % 2 else 'small'} on {text}" for text in group]
        assert [answer.text for answer in answers] == expected
    assert len(openai_server.requests_to("small")) == 80
    assert len(openai_server.requests_to("large")) == 40


async def test_streams_interleave_without_mixing() -> None:
    model = _model()
    streams = [model.astream(f"question {n}") for n in range(20)]
    texts = [""] * len(streams)
    pending = dict(enumerate(streams))
    while pending:
        for n, stream in list(pending.items()):
            try:
                texts[n] += (await anext(stream)).text
            except StopAsyncIteration:
                del pending[n]
    assert [text.strip() for text in texts] == [f"large on question {n}" for n in range(20)]
