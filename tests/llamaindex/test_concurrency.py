"""Many queries at once: each keeps its own state, and the loop is never blocked."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.prompts import PromptTemplate

from cascade_llamaindex import CascadeLLM
from tests.llamaindex.conftest import UNSURE, CascadeOf, uncalibrated
from tests.llamaindex.fakes import Foreign
from tests.support.openai_server import OpenAIServer, Request
from tests.support.waiting import LIMIT_S, Waiting, fitted_with

QUERIES = 2000


class Gate(Foreign):
    """Answers only when all ``QUERIES`` calls have come: a loop that is blocked by one never gets there."""

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        self._seen.append(list(messages))
        if len(self._seen) == QUERIES:
            _opened.set()
        await _opened.wait()
        return ChatResponse(message=ChatMessage(role="assistant", content=f"re: {messages[-1].content}"))


_opened = asyncio.Event()


async def test_two_thousand_queries_are_in_flight_at_once() -> None:
    _opened.clear()
    llm = CascadeLLM([Gate(model="gate"), Foreign()], uncalibrated("gate", "foreign"))
    answers = await asyncio.gather(*(llm.achat([ChatMessage(str(number))]) for number in range(QUERIES)))
    assert [answer.message.content for answer in answers] == [f"re: {number}" for number in range(QUERIES)]
    assert {answer.additional_kwargs["cascade"]["model"] for answer in answers} == {"gate"}


@pytest.mark.parametrize("how", ["achat", "astream_chat", "apredict"])
async def test_the_loop_is_free_while_an_embedding_is_waited_for(
    openai_server: OpenAIServer, cascade: CascadeOf, how: str
) -> None:
    embedding = Waiting()
    llm = cascade(policy=fitted_with(embedding))
    embedding.held = True

    async def ask() -> Any:
        if how == "astream_chat":
            return [chunk async for chunk in await llm.astream_chat([ChatMessage("2+2?")])]
        if how == "apredict":
            return await llm.apredict(PromptTemplate("2+2?"))
        return await llm.achat([ChatMessage("2+2?")])

    task = asyncio.create_task(ask())
    assert await asyncio.to_thread(embedding.asked.wait, LIMIT_S)
    embedding.let_go.set()
    assert await task


def test_threads_do_not_mix_their_answers(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    def small(request: Request) -> Any:
        return UNSURE if int(request.text) % 2 else f"small {request.text}"

    openai_server.models = {"small": small, "large": lambda request: f"large {request.text}"}
    llm = cascade()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: llm.complete(str(number)).text, range(60)))
    assert answers == [f"{'large' if number % 2 else 'small'} {number}" for number in range(60)]
