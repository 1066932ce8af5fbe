"""What goes in: copies that members may change, and what the core sees of them.

Members get copies because some change what they are given: OpenAI's ``chat_with_tools`` appends to the caller's
history, others rewrite a message's content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from cascade_core.values import Query
from cascade_llamaindex._answer import get


def query_of(messages: Sequence[ChatMessage]) -> Query:
    """The query in a conversation: its last user message; the length is that of everything sent."""
    texts = [(message.role, message.content or "") for message in messages]
    asked = [text for role, text in texts if role == MessageRole.USER] or [text for _, text in texts[-1:]]
    return Query(text=asked[-1] if asked else "", prompt_chars=sum(len(text) for _, text in texts))


def copied(message: ChatMessage) -> ChatMessage:
    """A copy whose blocks and extras may be replaced without changing the original."""
    return message.model_copy(
        update={"blocks": list(message.blocks), "additional_kwargs": dict(message.additional_kwargs)}
    )


def for_any_provider(message: ChatMessage) -> ChatMessage:
    """A copy that any provider's integration accepts.

    An integration keeps the provider's own tool-call objects in ``additional_kwargs["tool_calls"]``, where another
    one chokes on them. LlamaIndex's neutral form, a ``ToolCallBlock`` for each call, takes their place. Its arguments
    become a mapping: OpenAI writes JSON text, which others hand on as it is, and their service refuses.
    """
    copy = copied(message)
    native = copy.additional_kwargs.get("tool_calls")
    if native and not any(isinstance(block, ToolCallBlock) for block in copy.blocks):
        calls = [_neutral(call) for call in native]
        if None in calls:
            return copy  # a form unknown here: whoever reads it may know better
        copy.blocks.extend(call for call in calls if call is not None)
    copy.additional_kwargs.pop("tool_calls", None)
    copy.blocks = [
        _with_mapping(block) if isinstance(block, ToolCallBlock) else block for block in copy.blocks
    ]
    return copy


def _neutral(call: Any) -> ToolCallBlock | None:
    """A tool call in the form of OpenAI (id, function) or of Anthropic (id, name, input), as object or mapping."""
    function = get(call, "function")
    name = get(call if function is None else function, "name")
    arguments = get(call, "input") if function is None else get(function, "arguments")
    if not isinstance(name, str) or not isinstance(arguments, (str, dict, type(None))):
        return None
    return ToolCallBlock(tool_call_id=get(call, "id"), tool_name=name, tool_kwargs=arguments or {})


def _with_mapping(block: ToolCallBlock) -> ToolCallBlock:
    if not isinstance(block.tool_kwargs, str):
        return block
    try:
        arguments = json.loads(block.tool_kwargs)
    except json.JSONDecodeError:
        return block
    return block.model_copy(update={"tool_kwargs": arguments}) if isinstance(arguments, dict) else block
