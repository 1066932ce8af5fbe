"""The responses inside a structured prediction.

``structured_predict`` returns the object and nothing of the response that it was made from. LlamaIndex's own end
events hold that response; a listener on the dispatcher that sends them keeps it for whoever asked in this context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMCompletionEndEvent
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

_wanted: ContextVar[list[Any] | None] = ContextVar("cascade_llamaindex_responses", default=None)


@contextmanager
def responses_into(responses: list[Any]) -> Iterator[None]:
    """Append to ``responses`` what models return within the block, in this thread or task."""
    _listen()
    token = _wanted.set(responses)
    try:
        yield
    finally:
        _wanted.reset(token)


class _Listener(BaseEventHandler):
    @classmethod
    def class_name(cls) -> str:
        """Name of the handler."""
        return "CascadeResponseListener"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep the response of a call that has ended."""
        responses = _wanted.get()
        if (
            responses is not None
            and isinstance(event, (LLMChatEndEvent, LLMCompletionEndEvent))
            and event.response
        ):
            responses.append(event.response)


@cache
def _listen() -> None:
    get_dispatcher("llama_index.core.llms.callbacks").add_event_handler(_Listener())
