"""Models of other providers, in process: what a test needs to see inside and a server cannot show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    ToolCallBlock,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from pydantic import PrivateAttr


class Pulled(CustomLLM):
    """A completion model that streams words, and tells how many have been pulled from it."""

    model: str = "pulled"
    words: tuple[str, ...] = ("one", " two", " three")
    fail_at: int | None = None
    chat_model: bool = True

    _pulled: int = PrivateAttr(default=0)
    _closed: bool = PrivateAttr(default=False)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_chat_model=self.chat_model)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="".join(self.words))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Iterator[CompletionResponse]:
        def words() -> Iterator[CompletionResponse]:
            try:
                for number, word in enumerate(self.words):
                    if number == self.fail_at:
                        raise ConnectionError("the line went dead")
                    self._pulled += 1
                    yield CompletionResponse(text="".join(self.words[: number + 1]), delta=word)
            finally:
                self._closed = True

        return words()


class Foreign(FunctionCallingLLM):
    """A provider with a form of tool calls of its own: reads nothing but that, and writes nothing but that.

    ``replies`` says for each prompt what to answer: a text, or the name and arguments of a tool to call.
    """

    model: str = "foreign"
    replies: Callable[[str], str | tuple[str, dict[str, Any]]] = lambda text: f"foreign: {text}"
    window: int = 4000

    _seen: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Foreign"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            model_name=self.model,
            is_chat_model=True,
            is_function_calling_model=True,
            context_window=self.window,
            num_output=256,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        for message in messages:
            for call in message.additional_kwargs.get("tool_calls", []):
                json.dumps(call["input"])  # an object of another provider's raises here
            for block in message.blocks:
                if isinstance(block, ToolCallBlock) and not isinstance(block.tool_kwargs, dict):
                    raise TypeError("arguments must be an object")
        self._seen.append(list(messages))
        said = self.replies(messages[-1].content or "")
        if isinstance(said, str):
            return ChatResponse(message=ChatMessage(role="assistant", content=said), raw={"foreign": True})
        call = {"id": "foreign-1", "name": said[0], "input": said[1]}
        message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]})
        return ChatResponse(message=message, raw={"foreign": True})

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self.chat(messages, **kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Iterator[ChatResponse]:
        response = self.chat(messages, **kwargs)
        yield response.model_copy(update={"delta": response.message.content})

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        async def chunks() -> AsyncIterator[ChatResponse]:
            for chunk in self.stream_chat(messages, **kwargs):
                yield chunk

        return chunks()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.chat([ChatMessage(prompt)]).message.content or "")

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self.complete(prompt)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Iterator[CompletionResponse]:
        yield self.complete(prompt)

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        return {"messages": messages, "foreign_tools": [tool.metadata.name for tool in tools]}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        if any(isinstance(block, ToolCallBlock) for block in response.message.blocks):
            raise AssertionError("another provider's response")
        calls = response.message.additional_kwargs.get("tool_calls", [])
        return [
            ToolSelection(tool_id=call["id"], tool_name=call["name"], tool_kwargs=call["input"])
            for call in calls
        ]


class Nameless(Foreign):
    """A model that its integration does not know."""

    @property
    def metadata(self) -> LLMMetadata:
        raise ValueError(f"Unknown model {self.model!r}.")
