"""The values that flow between a framework, a policy and an episode. All are frozen.

A driver (LangChain, LlamaIndex, a script) turns its prompt into a :class:`Query`, asks the episode for the next
step (:class:`Call` or :class:`Stop`), turns what the model returned into an :class:`Answer`, and in the end
keeps the :class:`DecisionRecord`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_CHARS_PER_TOKEN = 4.0


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Usage(_Value):
    """Tokens of one model call. ``cached_input_tokens`` is the part of ``input_tokens`` served from a cache."""

    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cached_input_tokens: int = Field(default=0, ge=0)

    @classmethod
    def estimated(cls, sent_chars: int, text: str) -> Usage:
        """What a call took about, at four characters a token, where the provider does not say.

        Example:
            >>> Usage.estimated(20, "Paris").output_tokens
            2
        """
        return cls(
            input_tokens=round(sent_chars / _CHARS_PER_TOKEN) + 1,
            output_tokens=round(len(text) / _CHARS_PER_TOKEN) + 1,
        )


class Price(_Value):
    """List price in US dollars per million tokens.

    Example:
        >>> Price(input=2.5, output=10).dollars(Usage(input_tokens=1000, output_tokens=200))
        0.0045
    """

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def dollars(self, usage: Usage) -> float:
        """Cost of one call in US dollars."""
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = max(usage.input_tokens - usage.cached_input_tokens, 0)
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        return (fresh * self.input + cached * cached_price + usage.output_tokens * self.output) / 1e6


class Query(_Value):
    """What the user asks, as the estimators see it.

    Attributes:
        text: the question itself (of a chat: the last human message).
        id: names the query in random draws, so that the same query gets the same decision. Defaults to a hash
            of ``text``.
        prompt_chars: characters of everything that is sent (history, context, instructions), for the cost
            estimate. Defaults to the length of ``text``.
        features: further ex-ante signals by name, such as the retrieval scores of a RAG pipeline.
    """

    text: str
    id: str = ""
    prompt_chars: int | None = Field(default=None, ge=0)
    features: Mapping[str, float] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """``id``, or a hash of the text."""
        return self.id or hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def sent_chars(self) -> int:
        """Characters sent to a model for this query."""
        return len(self.text) if self.prompt_chars is None else self.prompt_chars


class CheckCall(_Value):
    """One call that checking an answer took.

    Attributes:
        model: the model that was called.
        usage: tokens; estimated where the provider does not report them.
        latency: seconds the call took.
        cost: what it cost in US dollars, where its price is known.
    """

    model: str
    usage: Usage | None = None
    latency: float | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)


class Answer(_Value):
    """What one model returned, as the estimators see it.

    Attributes:
        text: the answer's text.
        usage: tokens, where the provider reports them.
        latency: seconds the call took.
        logprobs: natural logarithm of each output token's probability, where the provider returns them.
        top_logprobs: per output token, the log-probabilities of the likeliest alternatives, best first.
        finish_reason: ``"stop"``, ``"length"``, ``"tool_calls"``, …, as the provider says it.
        parse_error: whether a structured answer could not be parsed.
        tool_calls: number of tool calls in the answer.
        check: what a check of the answer came to (:mod:`cascade_core.checks`), in [0, 1]; None without one.
        check_calls: the calls that the check took. In ``usage`` and ``latency`` they are not.
    """

    text: str
    usage: Usage | None = None
    latency: float | None = Field(default=None, ge=0)
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[tuple[float, ...], ...] | None = None
    finish_reason: str | None = None
    parse_error: bool = False
    tool_calls: int = Field(default=0, ge=0)
    check: float | None = Field(default=None, ge=0, le=1)
    check_calls: tuple[CheckCall, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can be returned: it could be parsed, and holds a text or a tool call."""
        return not self.parse_error and bool(self.text.strip() or self.tool_calls)

    @property
    def check_dollars(self) -> float:
        """US dollars that checking the answer cost."""
        return sum(call.cost or 0.0 for call in self.check_calls)

    @property
    def check_seconds(self) -> float:
        """Seconds that checking the answer took."""
        return sum(call.latency or 0.0 for call in self.check_calls)

    @property
    def seconds(self) -> float | None:
        """Seconds until the answer was there and checked."""
        return None if self.latency is None else self.latency + self.check_seconds


class Call(_Value):
    """Step: run this model next.

    Attributes:
        model: the model.
        final: the episode stops after this call whatever it returns. A driver may then stream the answer live, and
            says so by ``observe(answer, released=True)``.
        checks: the call is no attempt at an answer but checks that of this model; what it returns is told to the
            episode like any other and shown to nobody. None for a call for an answer.
        prompt: what to send, as a text by itself; None for what the user sent.
    """

    model: str
    final: bool
    checks: str | None = None
    prompt: str | None = Field(default=None, repr=False)


StopReason = Literal["good_enough", "exhausted", "limit", "released", "failed"]


class Stop(_Value):
    """Step: return the answer of this model.

    Reasons: ``good_enough`` — no further call is worth its cost; ``exhausted`` — every model has run or failed;
    ``limit`` — a limit on cost or calls forbids the next call; ``released`` — a final answer was streamed
    live; ``failed`` — the models that were worth running failed and an earlier answer is returned.
    """

    model: str
    reason: StopReason


class CallRecord(_Value):
    """One call of an episode. Costs in the policy's unit; quality is what was believed before and after.

    ``billed`` is the part of ``cost`` that is money, US dollars, where time is the other; else None.
    ``error`` is the type of the exception raised, or why the answer could not be used; never its message.
    ``checks`` marks a call that checked the answer of the model it names; ``check``, of an answer, is what that came
    to. The expected cost of a call includes that of the check it leads to, where the policy was fitted with one.
    """

    model: str
    checks: str | None = None
    expected_quality: float | None = None
    expected_cost: float | None = None
    quality: float | None = None
    check: float | None = None
    cost: float | None = None
    billed: float | None = None
    usage: Usage | None = None
    latency: float | None = None
    error: str | None = None


class DecisionRecord(_Value):
    """What an episode did and why. Holds no text of the query or of an answer.

    Attributes:
        query: key of the query (a hash unless the user gave an id).
        strategy: name of the strategy that decided.
        model: whose answer was returned.
        reason: why it stopped there.
        calls: every call in order, failed ones and those of checks included.
        cost: sum over the calls, rejected drafts and checks included.
        unit: unit of all costs: ``"usd"`` or ``"seconds"``.
        usd_per_second: price of time in the costs; None where they are money or time alone.
        reference_model: the dearest model.
        reference_cost: what the dearest model alone would have cost (its bill if it ran, else its estimate; None
            if the policy has no prices).
        calibrated: whether the policy was fitted to data.
    """

    query: str
    strategy: str
    model: str
    reason: StopReason
    calls: tuple[CallRecord, ...]
    cost: float
    unit: Literal["usd", "seconds"]
    usd_per_second: float | None = None
    reference_model: str
    reference_cost: float | None
    calibrated: bool

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models run for an answer, in order."""
        return tuple(call.model for call in self.calls if call.checks is None)

    def payload(self) -> dict[str, Any]:
        """Plain JSON-compatible dictionary, as put into a message's metadata."""
        return self.model_dump(mode="json", exclude_none=True)
