"""What ``cascade_langchain`` adds, measured on models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from overhead import LATENCY_S, Case, case, import_times, medians, served, throughput
from pydantic import SecretStr

from cascade_core import ModelSpec, Policy
from cascade_core.strategies import SingleModel
from cascade_langchain import ChatCascade

CONCURRENT = 2_000
CONCURRENT_HTTP = 1_000  # as many connections as OpenAI's client opens
NAMES = ("small", "large")
QUESTION = "What is the capital of France?"


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
    small, large = (Fake(model_name=name) for name in NAMES)
    policy = replace(
        Policy.uncalibrated([ModelSpec(name=name) for name in NAMES]), strategy=SingleModel(model=0)
    )
    composite = ChatCascade([small, large], policy=policy)
    fallbacks = small.with_fallbacks([large])

    def once(model: Any) -> Any:
        return lambda: model.invoke(QUESTION)

    def first_chunk(model: Any) -> Any:
        return lambda: next(iter(model.stream(QUESTION)))

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

    slow = [Fake(model_name=name, latency=LATENCY_S) for name in NAMES]
    yield throughput("ainvoke in memory", *_asking(slow[0], ChatCascade(slow, policy=policy)), CONCURRENT)
    yield throughput(
        "ainvoke of RunnableWithFallbacks in memory",
        *_asking(slow[0], slow[0].with_fallbacks([slow[1]])),
        CONCURRENT,
    )
    with served() as url:
        remote = [ChatOpenAI(model=name, base_url=url, api_key=SecretStr("none")) for name in NAMES]
        yield throughput(
            "ainvoke over HTTP",
            *_asking(remote[0], ChatCascade(remote, policy=policy)),
            CONCURRENT_HTTP,
            rounds=3,
        )


def _asking(*models: Any) -> list[Callable[[], Awaitable[Any]]]:
    """One query to each."""
    return [lambda model=model: model.ainvoke(QUESTION) for model in models]  # type: ignore[misc]
