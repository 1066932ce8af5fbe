"""What ``cascade_llamaindex`` adds, measured on models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.llms.openai_like import OpenAILike
from overhead import LATENCY_S, Case, case, import_times, medians, served, throughput

from cascade_core import ModelSpec, Policy
from cascade_core.strategies import SingleModel
from cascade_llamaindex import CascadeLLM

CONCURRENT = 2_000
CONCURRENT_HTTP = 200
NAMES = ("small", "large")
MESSAGES = [ChatMessage("What is the capital of France?")]
WORDS = ("An ", "answer ", "of ", "a ", "few ", "words.")


class Fake(CustomLLM):
    """Answers at once, or after ``latency`` seconds where it may wait for nothing else."""

    model: str
    latency: float = 0.0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_chat_model=True)

    @llm_chat_callback()
    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(role="assistant", content="".join(WORDS)))

    @llm_chat_callback()
    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        await asyncio.sleep(self.latency)
        return ChatResponse(message=ChatMessage(role="assistant", content="".join(WORDS)))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="".join(WORDS))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Iterator[CompletionResponse]:
        def words() -> Iterator[CompletionResponse]:
            text = ""
            for word in WORDS:
                text += word
                yield CompletionResponse(text=text, delta=word)

        return words()


def cases() -> Iterator[Case]:
    policy = replace(
        Policy.uncalibrated([ModelSpec(name=name) for name in NAMES]), strategy=SingleModel(model=0)
    )
    small, large = (Fake(model=name) for name in NAMES)
    composite = CascadeLLM([small, large], policy)

    def once(llm: Any) -> Any:
        return lambda: llm.chat(MESSAGES)

    def first_chunk(llm: Any) -> Any:
        return lambda: next(llm.stream_chat(MESSAGES))

    bare, with_cascade = medians([once(small), once(composite)])
    yield case("one-call chat; ratio to the bare model's", with_cascade - bare, with_cascade / bare)

    bare, with_cascade = medians([first_chunk(small), first_chunk(composite)])
    yield case(
        "first token of a live stream; ratio to the bare model's", with_cascade - bare, with_cascade / bare
    )

    bare, with_cascade = import_times(["import llama_index.core.llms", "import cascade_llamaindex"])
    yield case(
        "import cascade_llamaindex; ratio to that of the models", with_cascade - bare, with_cascade / bare
    )

    yield throughput(
        "achat in memory",
        *_asking([Fake(model=name, latency=LATENCY_S) for name in NAMES], policy),
        CONCURRENT,
    )
    with served() as url:
        remote = [
            OpenAILike(model=name, api_base=url, api_key="none", is_chat_model=True, max_retries=0)
            for name in NAMES
        ]
        yield throughput("achat over HTTP", *_asking(remote, policy), CONCURRENT_HTTP)


def _asking(llms: Sequence[LLM], policy: Policy) -> list[Callable[[], Awaitable[Any]]]:
    """One query to the first model, and to a composite of them."""
    return [lambda llm=llm: llm.achat(MESSAGES) for llm in (llms[0], CascadeLLM(llms, policy))]  # type: ignore[misc]
