"""Models at the loopback server, policies that make a known number of calls, and a drawing of the run tree."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import Field

from cascade_core import ModelSpec, Policy, Price
from cascade_core.strategies import SingleModel, ThresholdCascade
from tests.support.openai_server import OpenAIServer

PRICES = {"small": Price(input=1, output=2), "large": Price(input=10, output=20)}


def chat(server: OpenAIServer, model: str = "small", **settings: Any) -> ChatOpenAI:
    settings = {"max_retries": 0, "stream_usage": True, **settings}
    return ChatOpenAI(model=model, base_url=server.base_url, api_key="none", **settings)  # type: ignore[arg-type]


def pair(server: OpenAIServer, **settings: Any) -> list[ChatOpenAI]:
    """Two models: ``small``, which says how sure it is, and ``large``, which does not."""
    return [chat(server, "small", logprobs=True, **settings), chat(server, "large", **settings)]


def cascading(threshold: float = 0.8, names: tuple[str, ...] = ("small", "large")) -> Policy:
    """Goes on from a model to the next while the answer looks less sure than the threshold."""
    specs = [ModelSpec(name=name, price=PRICES.get(name, Price(input=1, output=1))) for name in names]
    return replace(Policy.uncalibrated(specs), strategy=ThresholdCascade(threshold=threshold))


def always_both() -> Policy:
    """No answer is ever good enough: both models are called, and that of the last is returned."""
    return cascading(threshold=2.0)


def only(model: str) -> Policy:
    """One call, known to be the last."""
    policy = cascading()
    return replace(policy, strategy=SingleModel(model=policy.names.index(model)))


class Plain(ChatOpenAI):
    """A model that can neither call tools nor fill a schema."""

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("no tools here")

    def with_structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("no schema here")


class Scripted(BaseChatModel):
    """A model in memory: says what ``say`` makes of the last message, or raises what it raises, word by word.

    ``sure`` is the probability it gives each word; ``words`` counts those it has said while streaming.
    """

    model_name: str = "scripted"
    say: Callable[[str], str] = str
    sure: float = 0.99
    words: list[str] = Field(default_factory=list)

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = self.say(str(messages[-1].text))
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(content=text, **self._about(text, messages)))]
        )

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        text = self.say(str(messages[-1].text))
        for word in text.split(" "):
            self.words.append(word)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", **self._about(text, messages)))

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk

    def _about(self, text: str, messages: list[BaseMessage]) -> dict[str, Any]:
        used, made = len(str(messages[-1].text)), len(text.split())
        logprobs = {"content": [{"token": word, "logprob": math.log(self.sure)} for word in text.split()]}
        return {
            "usage_metadata": {"input_tokens": used, "output_tokens": made, "total_tokens": used + made},
            "response_metadata": {
                "model_name": self.model_name,
                "logprobs": logprobs,
                "finish_reason": "stop",
            },
        }

    @property
    def _llm_type(self) -> str:
        return "scripted"


class RunTree(BaseCallbackHandler):
    """Draws the runs it is told of as nested lists: ``[name, child, …]``; says which are still open."""

    run_inline = True

    def __init__(self) -> None:
        self.nodes: dict[UUID, list[Any]] = {}
        self.tags: dict[UUID, list[str]] = {}
        self.metadata: dict[UUID, dict[str, Any]] = {}
        self.kinds: dict[UUID, str] = {}
        self.ended: dict[UUID, str] = {}
        self.roots: list[list[Any]] = []
        self.custom: list[tuple[str, Any, UUID]] = []

    @property
    def open(self) -> list[str]:
        return [node[0] for run_id, node in self.nodes.items() if run_id not in self.ended]

    def _start(
        self, kind: str, serialized: Any, run_id: UUID, parent_run_id: UUID | None, **about: Any
    ) -> None:
        node = [about.get("name") or (serialized or {}).get("name") or kind]
        assert run_id not in self.nodes, "a run started twice"
        self.nodes[run_id], self.kinds[run_id] = node, kind
        self.tags[run_id] = list(about.get("tags") or [])
        self.metadata[run_id] = dict(about.get("metadata") or {})
        (self.roots if parent_run_id is None else self.nodes[parent_run_id]).append(node)

    def _end(self, how: str, run_id: UUID) -> None:
        assert run_id not in self.ended, f"run {self.nodes[run_id][0]} ended twice"
        self.ended[run_id] = how

    def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:
        self._start("chain", serialized, **about)

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:
        about["name"] = (about.get("invocation_params") or {}).get("model") or about.get("name")
        self._start("chat_model", serialized, **about)

    def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> None:
        self._start("tool", serialized, **about)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        self._end("end", run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(type(error).__name__, run_id)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        self._end("end", run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(type(error).__name__, run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end("end", run_id)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        self.custom.append((name, data, run_id))


def leaves(tree: list[Any]) -> Iterator[str]:
    """Names of the runs without children, in order."""
    for child in tree[1:]:
        yield from leaves(child)
    if len(tree) == 1:
        yield tree[0]
