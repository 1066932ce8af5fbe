"""Between LangChain's messages and the values that a policy decides on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from cascade_core.values import Answer, DecisionRecord, Query, Usage

RECORD_KEY = "cascade"
"""Key of a message's ``response_metadata`` under which the decision record is found."""

_MODALITIES = {
    "image": "image_inputs",
    "image_url": "image_inputs",
    "audio": "audio_inputs",
    "input_audio": "audio_inputs",
    "video": "video_inputs",
}
_FINISH_KEYS = ("finish_reason", "stop_reason", "done_reason")


def query_of(messages: Sequence[BaseMessage]) -> Query:
    """The query as the estimators see it: the last human message, and how much is sent along with it."""
    chars, last = 0, ""
    for message in messages:
        text = text_of(message)
        chars += len(text)
        if isinstance(message, HumanMessage):
            last = text
    return Query(text=last or (text_of(messages[-1]) if messages else ""), prompt_chars=chars)


def text_of(message: BaseMessage) -> str:
    """The text of a message, whatever else it holds."""
    content = message.content
    return content if isinstance(content, str) else str(message.text)


def needs_of(messages: Sequence[BaseMessage]) -> frozenset[str]:
    """What a model's profile must not deny if it is to read these messages, as keys of the profile."""
    needs = set()
    for message in messages:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            if isinstance(block, Mapping):
                kind = str(block.get("type"))
                if kind in _MODALITIES:
                    needs.add(_MODALITIES[kind])
                elif kind == "file" and "pdf" in str(block.get("mime_type", "")):
                    needs.add("pdf_inputs")
    return frozenset(needs)


def answer_of(message: BaseMessage, latency: float | None = None, *, parse_error: bool = False) -> Answer:
    """A model's message as the estimators see it."""
    metadata = message.response_metadata
    logprobs, top_logprobs = _logprobs(metadata.get("logprobs"))
    calls = len(message.tool_calls) if isinstance(message, AIMessage) else 0
    return Answer(
        text=text_of(message),
        usage=usage_of(message),
        latency=latency,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        finish_reason=next((str(metadata[key]) for key in _FINISH_KEYS if metadata.get(key)), None),
        parse_error=parse_error,
        tool_calls=calls,
    )


def usage_of(message: BaseMessage) -> Usage | None:
    """Tokens of the call that made a message, where its provider reports them."""
    usage = getattr(message, "usage_metadata", None)
    if not usage or "input_tokens" not in usage:  # a cache adds a cost of 0 also where no tokens were counted
        return None
    cached = usage.get("input_token_details", {}).get("cache_read") or 0
    return Usage(
        input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"], cached_input_tokens=cached
    )


def _logprobs(
    found: object,
) -> tuple[tuple[float, ...] | None, tuple[tuple[float, ...], ...] | None]:
    """Log-probabilities of the tokens and of their alternatives, in the format that most providers share."""
    tokens = found.get("content") if isinstance(found, Mapping) else None
    if not tokens:
        return None, None
    try:
        chosen = tuple(float(token["logprob"]) for token in tokens)
        others = tuple(
            tuple(
                sorted((float(other["logprob"]) for other in token.get("top_logprobs") or ()), reverse=True)
            )
            for token in tokens
        )
    except (KeyError, TypeError, ValueError):  # another provider's format: as if there were none
        return None, None
    return chosen, others if all(others) else None


def with_record(message: BaseMessage, record: DecisionRecord) -> BaseMessage:
    """A copy of the message that carries the decision record; what the inner run logged stays as it was."""
    metadata = {**message.response_metadata, RECORD_KEY: record.payload()}
    return message.model_copy(update={"response_metadata": metadata})


def as_last_chunk(message: BaseMessage) -> BaseMessage:
    """A whole message as the only chunk of a stream."""
    if isinstance(message, AIMessageChunk):
        return message.model_copy(update={"chunk_position": "last"})
    if not isinstance(message, AIMessage):
        return message
    fields = {name: getattr(message, name) for name in AIMessage.model_fields if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")


def is_last_chunk(chunk: object) -> bool:
    """Whether a chunk says that it ends its message."""
    return getattr(chunk, "chunk_position", None) == "last"


def merged(chunks: Sequence[Any]) -> Any:
    """What the chunks of one stream add up to; the last of them if they cannot be added."""
    first, rest = chunks[0], chunks[1:]
    if not rest:
        return first
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return first + rest  # all at once: one by one would take quadratic time
    try:
        return _sum(first, rest)
    except TypeError:
        return chunks[-1]


def _sum(first: Any, rest: Iterable[Any]) -> Any:
    total = first
    for chunk in rest:
        total = total + chunk
    return total
