"""What ``cascade_langchain`` adds, measured on models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from overhead import Case, case, import_times, medians
from pydantic import SecretStr

from cascade_core import ModelSpec, Policy
from cascade_core.strategies import SingleModel
from cascade_langchain import ChatCascade
from tests.support.openai_server import OpenAIServer

CONCURRENT = 2_000
CONCURRENT_HTTP = 1_000  # as many connections as OpenAI's client opens
LATENCY_S = 0.05


class Fake(BaseChatModel):
    """Answers at once, or after ``latency`` seconds where it may wait for nothing else."""

    model_name: str
    latency: float = 0.0

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("An answer of a few words."))])

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        await asyncio.sleep(self.latency)
        return self._generate()

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for word in ("An ", "answer ", "of ", "a ", "few ", "words."):
            yield ChatGenerationChunk(message=AIMessageChunk(word))

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream():
            yield chunk

    @property
    def _llm_type(self) -> str:
        return "fake"


def cases() -> Iterator[Case]:
    small, large = Fake(model_name="small"), Fake(model_name="large")
    policy = replace(
        Policy.uncalibrated([ModelSpec(name="small"), ModelSpec(name="large")]), strategy=SingleModel(model=0)
    )
    composite = ChatCascade([small, large], policy=policy)
    fallbacks = small.with_fallbacks([large])

    def once(model: Any) -> Any:
        return lambda: model.invoke("What is the capital of France?")

    def first_chunk(model: Any) -> Any:
        return lambda: next(iter(model.stream("What is the capital of France?")))

    bare, with_fallbacks, with_cascade = medians([once(small), once(fallbacks), once(composite)])
    added = with_cascade - bare
    yield case(
        "one-call invoke; ratio to what RunnableWithFallbacks adds", added, added / (with_fallbacks - bare)
    )

    bare, with_cascade = medians([first_chunk(small), first_chunk(composite)])
    yield case(
        "first token of a live stream; ratio to the bare model's", with_cascade - bare, with_cascade / bare
    )

    bare, with_cascade = import_times(
        ["import langchain_core.language_models.chat_models", "import cascade_langchain"]
    )
    yield case(
        "import cascade_langchain; ratio to that of the chat models", with_cascade - bare, with_cascade / bare
    )
    bare, with_cascade = import_times(
        ["import langchain_core.language_models.chat_models", "from cascade_langchain import ChatCascade"]
    )
    yield case(
        "import ChatCascade; ratio to that of the chat models", with_cascade - bare, with_cascade / bare
    )

    slow = [Fake(model_name=name, latency=LATENCY_S) for name in ("small", "large")]
    yield _throughput("in memory", slow[0], ChatCascade(slow, policy=policy), CONCURRENT, repetitions=5)
    with OpenAIServer(latency=LATENCY_S) as server:
        served = [
            ChatOpenAI(model=name, base_url=server.base_url, api_key=SecretStr("none"))
            for name in ("small", "large")
        ]
        yield _throughput(
            "over HTTP", served[0], ChatCascade(served, policy=policy), CONCURRENT_HTTP, repetitions=2
        )


def _throughput(
    how: str, model: BaseChatModel, composite: ChatCascade, queries: int, repetitions: int
) -> Case:
    bare, with_cascade = asyncio.run(_least_seconds(queries, repetitions, model, composite))
    return case(
        f"{queries} concurrent ainvoke at {LATENCY_S * 1e3:.0f} ms {how}; throughput to the bare model's",
        (with_cascade - bare) / queries,
        bare / with_cascade,
    )


async def _least_seconds(queries: int, repetitions: int, *models: BaseChatModel) -> list[float]:
    times: list[list[float]] = [[] for _ in models]
    for _ in range(repetitions):
        for model, taken in zip(models, times, strict=True):
            taken.append(await _seconds(model, queries))
    return [min(taken) for taken in times]


async def _seconds(model: Any, queries: int) -> float:
    start = perf_counter()
    await asyncio.gather(*(model.ainvoke("What is the capital of France?") for _ in range(queries)))
    return perf_counter() - start
