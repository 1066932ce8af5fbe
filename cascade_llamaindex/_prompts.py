"""How a prompt template becomes one member's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as default_messages_to_prompt
from llama_index.core.llms.llm import LLM, default_completion_to_prompt
from llama_index.core.prompts import BasePromptTemplate

from cascade_llamaindex._members import metadata_of
from cascade_llamaindex._turn import MemberCall


def filled_in(
    prompt: BasePromptTemplate, prompt_args: Mapping[str, Any], member: LLM, cascade: LLM
) -> MemberCall:
    """The prompt as the member would fill it in itself, with the cascade's own instructions around it."""
    told = metadata_of(member)
    if told is None or told.is_chat_model:
        messages = prompt.format_messages(llm=member, **prompt_args)
        for llm in (member, cascade):
            if llm.output_parser is not None:
                messages = llm.output_parser.format_messages(messages)
            messages = llm._extend_messages(messages)
        return MemberCall("chat", (messages,), {})
    own_chat = cascade.messages_to_prompt is not default_messages_to_prompt
    own_completion = cascade.completion_to_prompt is not default_completion_to_prompt
    text = prompt.format(
        llm=member,
        messages_to_prompt=(cascade if own_chat else member).messages_to_prompt,
        completion_to_prompt=(cascade if own_completion else member).completion_to_prompt,
        **prompt_args,
    )
    for llm in (member, cascade):
        if llm.output_parser is not None:
            text = llm.output_parser.format(text)
        text = llm._extend_prompt(text)
    return MemberCall("complete", (text,), {"formatted": True})
