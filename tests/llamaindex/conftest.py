"""Members that talk to the loopback server, composites over them, and recorders of what LlamaIndex reports."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core import Settings
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.llms.openai_like import OpenAILike
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from cascade_core import ModelSpec, Policy
from cascade_llamaindex import CascadeLLM
from tests.support.openai_server import OpenAIServer, Reply, embedding

UNSURE = Reply("Hm, not sure.", logprobs=-3.0)
"""What a member says whose answer the uncalibrated policy rejects."""

SECRET = "sk-never-shown"

MemberOf = Callable[..., OpenAILike]
CascadeOf = Callable[..., CascadeLLM]


class BagOfWords(BaseEmbedding):
    """Texts that share words are near each other; needs no model."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return embedding(text)

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embedding(query)


class Recorder(BaseEventHandler):
    """Keeps every event."""

    events: list[Any]

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


NOT_OURS = (
    # LlamaIndex and its tracers use what pydantic and the workflows call deprecated.
    "ignore::DeprecationWarning:(inspect|llama_index|openinference)",
    # An agent's memory outlives the event loop that LlamaIndex made for it.
    "ignore:Exception in thread .*_connection_worker:pytest.PytestUnhandledThreadExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True, scope="session")
def _one_ssl_context() -> Iterator[None]:
    """A client is made for each call, as several event loops need; reading certificates each time would be slow."""
    from httpx._transports import default

    made = default.create_ssl_context
    default.create_ssl_context = functools.lru_cache(made)  # type: ignore[assignment]
    yield
    default.create_ssl_context = made
    assert httpx.__version__


@pytest.fixture
def member(openai_server: OpenAIServer) -> MemberOf:
    """Makes an LLM of a name; the server knows it by that name."""

    def make(name: str, **settings: Any) -> OpenAILike:
        defaults: dict[str, Any] = {
            "api_base": openai_server.base_url,
            "api_key": SECRET,
            "context_window": 16_000,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "logprobs": True,
            "top_logprobs": 2,
            "max_retries": 0,
            "reuse_client": False,
            "timeout": 300,
        }
        return OpenAILike(model=name, **{**defaults, **settings})

    return make


def uncalibrated(*names: str) -> Policy:
    return Policy.uncalibrated([ModelSpec(name=name) for name in names])


@pytest.fixture
def cascade(member: MemberOf) -> CascadeOf:
    """Makes a composite over members of these names, by default ``small`` and ``large``."""

    def make(*names: str, **settings: Any) -> CascadeLLM:
        names = names or ("small", "large")
        settings.setdefault("policy", uncalibrated(*names))
        return CascadeLLM([member(name) for name in names], **settings)

    return make


@pytest.fixture
def events() -> Iterator[Recorder]:
    recorder = Recorder(events=[])
    root_dispatcher.add_event_handler(recorder)
    yield recorder
    root_dispatcher.event_handlers.remove(recorder)


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    handler = SimpleSpanHandler()
    root_dispatcher.add_span_handler(handler)
    yield handler
    root_dispatcher.span_handlers.remove(handler)


@pytest.fixture(autouse=True)
def _settings_as_before() -> Iterator[None]:
    """Leave LlamaIndex's global settings as they were; until then, with models that need no network."""
    before = dict(vars(Settings))
    Settings.embed_model = BagOfWords()
    Settings.llm = MockLLM()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
    vars(Settings).update(before)
