"""What ``cascade_llamaindex`` adds, measured on models in memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.llms.openai_like import OpenAILike
from overhead import Case, case, import_times, medians

from cascade_core import ModelSpec, Policy
from cascade_core.strategies import SingleModel
from cascade_llamaindex import CascadeLLM

CONCURRENT = 2_000
CONCURRENT_HTTP = 200
LATENCY_S = 0.05
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
        Policy.uncalibrated([ModelSpec(name="small"), ModelSpec(name="large")]), strategy=SingleModel(model=0)
    )
    small, large = Fake(model="small"), Fake(model="large")
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

    def slow(name: str) -> Any:
        return Fake(model=name, latency=LATENCY_S)

    yield _throughput("in memory", slow, policy, CONCURRENT)
    with _served() as url:

        def remote(name: str) -> Any:
            return OpenAILike(model=name, api_base=url, api_key="none", is_chat_model=True, max_retries=0)

        yield _throughput("over HTTP", remote, policy, CONCURRENT_HTTP)


def _throughput(where: str, model: Callable[[str], Any], policy: Policy, concurrent: int) -> Case:
    """Bare and composite are run in turn, in one event loop; of each, the best counts."""
    pair = model("small"), CascadeLLM([model("small"), model("large")], policy)

    async def measured() -> list[list[float]]:
        return [[await _seconds(llm, concurrent) for llm in pair] for _ in range(6)][
            1:
        ]  # the first opens connections

    bare_s, cascade_s = map(min, zip(*asyncio.run(measured()), strict=True))
    return case(
        f"{concurrent} concurrent achat {where} at {LATENCY_S * 1e3:.0f} ms; throughput to the bare model's",
        (cascade_s - bare_s) / concurrent,
        bare_s / cascade_s,
    )


async def _seconds(llm: Any, concurrent: int) -> float:
    start = perf_counter()
    await asyncio.gather(*(llm.achat(MESSAGES) for _ in range(concurrent)))
    return perf_counter() - start


@contextmanager
def _served() -> Iterator[str]:
    """Address of an OpenAI-compatible server in a process of its own."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    yield here.recv()
    here.send("enough")
    process.join()


def _serve(pipe: Connection) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.openai_server import OpenAIServer

    with OpenAIServer({"small": "".join(WORDS)}, latency=LATENCY_S) as server:
        pipe.send(server.base_url)
        pipe.recv()
