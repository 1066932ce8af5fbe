"""What a member returned, as the core sees it: text, usage, log-probabilities, why it stopped.

LlamaIndex's response classes carry the provider's own object as ``raw``; usage and the reason for stopping are only
there, and log-probabilities are better there: LlamaIndex keeps the likeliest alternatives of a token, but not which
of them was chosen. The shapes read are those of the OpenAI, Anthropic, Ollama, Google and Bedrock integrations; what
is not found is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, ToolCallBlock
from pydantic import BaseModel

from cascade_core.values import Answer, Usage

TokenLogprobs = list[tuple[float, tuple[float, ...]]]
"""Of each token, its own log-probability and those of the likeliest alternatives."""

_INPUT_TOKENS = ("prompt_tokens", "input_tokens", "prompt_token_count", "inputTokens", "prompt_eval_count")
_OUTPUT_TOKENS = (
    "completion_tokens",
    "output_tokens",
    "candidates_token_count",
    "outputTokens",
    "eval_count",
)


def answer_of(response: Any, latency: float, logprobs: TokenLogprobs | None = None) -> Answer:
    """The answer in a response, or in the last chunk of a stream.

    Args:
        response: ``ChatResponse``, ``CompletionResponse``, or the object of a structured prediction; None for a
            stream that ended without a chunk.
        latency: seconds the call took.
        logprobs: of a stream, what :func:`logprobs_of` found in its chunks.
    """
    if isinstance(response, BaseModel) and not isinstance(response, (ChatResponse, CompletionResponse)):
        return Answer(text=response.model_dump_json(), latency=latency)
    if response is None:
        return Answer(text="", latency=latency)
    found = logprobs_of(response) if logprobs is None else logprobs
    return Answer(
        text=text_of(response),
        usage=usage_of(response),
        latency=latency,
        logprobs=tuple(own for own, _ in found) or None,
        top_logprobs=tuple(top for _, top in found) if any(top for _, top in found) else None,
        finish_reason=_finish_reason(response.raw),
        tool_calls=_tool_calls(response),
    )


def structured_answer_of(result: BaseModel | None, responses: Sequence[Any], latency: float) -> Answer:
    """The answer of a structured prediction.

    Args:
        result: the object, or None if what the model said could not be parsed.
        responses: the model's responses that it was made from.
        latency: seconds the call took.
    """
    made = answer_of(responses[-1] if responses else None, latency)
    usages = [usage for usage in map(usage_of, responses) if usage is not None]
    return made.model_copy(
        update={
            "text": made.text if result is None else result.model_dump_json(),
            "usage": _sum(usages),
            "finish_reason": made.finish_reason if result is None else None,
            "tool_calls": 0,
            "parse_error": result is None,
        }
    )


def text_of(response: Any) -> str:
    """Text of a response, or of a chunk with all before it."""
    if isinstance(response, ChatResponse):
        return response.message.content or ""
    return str(response.text)


def shows(chunk: Any) -> bool:
    """Whether a chunk has anything for a reader: text, thoughts, a tool call, an object's field."""
    if isinstance(chunk, ChatResponse):
        message = chunk.message
        blocks = any(getattr(block, "text", True) for block in message.blocks)
        return bool(chunk.delta or blocks or message.additional_kwargs.get("tool_calls"))
    if isinstance(chunk, CompletionResponse):
        return bool(chunk.delta or chunk.text)
    return chunk is not None


def usage_of(response: ChatResponse | CompletionResponse) -> Usage | None:
    """Tokens of a response, where the provider reports them."""
    for usage in (
        get(response.raw, "usage"),
        get(response.raw, "usage_metadata"),
        response.additional_kwargs,
        response.raw,
    ):
        if not usage:
            continue
        sent, made = _first(usage, _INPUT_TOKENS), _first(usage, _OUTPUT_TOKENS)
        if isinstance(sent, int) and isinstance(made, int):
            cached = get(get(usage, "prompt_tokens_details"), "cached_tokens")
            return Usage(
                input_tokens=max(sent, 0), output_tokens=max(made, 0), cached_input_tokens=max(cached or 0, 0)
            )
    return None


def logprobs_of(response: Any) -> TokenLogprobs:
    """Log-probabilities in a response or a chunk; empty where there are none."""
    raw = get(_choice(get(response, "raw")), "logprobs")
    content = get(raw, "content")
    if content:
        return [
            (
                get(token, "logprob"),
                _best_first(get(other, "logprob") for other in get(token, "top_logprobs") or ()),
            )
            for token in content
        ]
    own = get(raw, "token_logprobs")
    if own:
        tops = get(raw, "top_logprobs") or [None] * len(own)
        return [
            (value, _best_first((top or {}).values()))
            for value, top in zip(own, tops, strict=False)
            if value is not None  # of the prompt's first token there is none
        ]
    listed = get(response, "logprobs") or ()
    tops = [_best_first(alternative.logprob for alternative in token) for token in listed]
    return [(top[0], top) for top in tops if top]


def _best_first(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(values, reverse=True))


def _finish_reason(raw: Any) -> str | None:
    reason = (
        get(_choice(raw), "finish_reason")
        or _first(raw, ("stop_reason", "done_reason", "stopReason", "finish_reason"))
        or get(next(iter(get(raw, "candidates") or ()), None), "finish_reason")
    )
    # An enumeration (Google's) says "MAX_TOKENS" where others say "max_tokens".
    return str(getattr(reason, "name", reason)).lower() if reason else None


def _tool_calls(response: ChatResponse | CompletionResponse) -> int:
    if not isinstance(response, ChatResponse):
        return 0
    blocks = sum(isinstance(block, ToolCallBlock) for block in response.message.blocks)
    return blocks or len(response.message.additional_kwargs.get("tool_calls") or ())


def _sum(usages: Sequence[Usage]) -> Usage | None:
    if not usages:
        return None
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cached_input_tokens=sum(usage.cached_input_tokens for usage in usages),
    )


def _choice(raw: Any) -> Any:
    choices = get(raw, "choices")
    return choices[0] if choices else None


def _first(of: Any, names: Iterable[str]) -> Any:
    return next((value for name in names if (value := get(of, name)) is not None), None)


def get(of: Any, name: str) -> Any:
    """A field of a provider's object, be it a mapping or a class; None where there is none."""
    if of is None:
        return None
    return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)
