"""One call by the user on its way through the members: all that the sync and the async driver have in common.

A driver asks for the next step, calls the member, and tells what came of it. The turn keeps the responses, feeds
the episode, knows when a response may be shown, and in the end attaches the decision record. It never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, ThinkingBlock
from llama_index.core.instrumentation.events.chat_engine import StreamChatEndEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation import get_dispatcher

from cascade_core.errors import AllModelsFailedError
from cascade_core.values import Answer, Call, Query, Stop
from cascade_llamaindex._answer import TokenLogprobs, answer_of, logprobs_of, structured_answer_of, text_of
from cascade_llamaindex._capture import responses_into
from cascade_llamaindex._messages import copied
from cascade_llamaindex.events import CascadeDecisionEvent

if TYPE_CHECKING:
    from cascade_llamaindex._llm import CascadeLLM

_dispatcher = get_dispatcher(__name__)

Result = TypeVar("Result")
"""What a turn ends with, and what each chunk of its stream is."""


class MemberCall(NamedTuple):
    """How a member is called: its endpoint (``chat``; the driver puts ``a``, ``stream_`` before it) and arguments."""

    endpoint: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Turn(Generic[Result]):
    """State of one call by the user. Made in the body of the endpoint, so that its span is the one that is active.

    Args:
        cascade: the composite that was called.
        query: what the policy sees.
        call: how to call a member.
        only: names of the members that may be called; None for all.
        structured: whether the members return objects instead of responses.
    """

    def __init__(
        self,
        cascade: CascadeLLM,
        query: Query,
        call: Callable[[LLM], MemberCall],
        *,
        only: Collection[str] | None = None,
        structured: bool = False,
    ) -> None:
        self.cascade = cascade
        self._llms = cascade.llms
        self._health = cascade._health
        self._call = call
        self._start = partial(cascade.policy.start, query, only=only, down=self._health.down())
        self.waits = cascade.policy.estimator.waits
        self._span_id = active_span_id.get()
        self._results: dict[str, Any] = {}
        self._errors: dict[str, BaseException] = {}
        self._inner: list[Any] | None = [] if structured else None
        self._step: Call | Stop | None = None
        self._logprobs: TokenLogprobs = []
        self._seconds = 0.0

    # -- what a driver does in turn ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin the episode. Like ``answered``, this may wait for an embedding: ``waits`` says so."""
        self._episode = self._start()

    def next(self) -> Call | Stop:
        """The next step.

        Raises:
            AllModelsFailedError: no member has answered and none is left; its cause is the last failure.
        """
        try:
            self._step = self._episode.next()
        except AllModelsFailedError:
            raise self._all_failed() from next(reversed(self._errors.values()))
        if self._inner is not None:
            self._inner = []
        self._logprobs, self._seconds = [], 0.0
        return self._step

    def call(self, prefix: str) -> Any:
        """Call the member of this step; of an async endpoint, the coroutine. ``prefix`` as in ``astream_chat``."""
        asked = self._asked
        if asked is None:
            endpoint, args, kwargs = self._call(self._llms[self.model])
        else:  # a question about an answer: text for text, without the tools or the object of the call
            endpoint, args, kwargs = MemberCall("chat", ([ChatMessage(asked)],), {})
        return getattr(self._llms[self.model], prefix + endpoint)(*args, **kwargs)

    def waiting(self) -> AbstractContextManager[None]:
        """Wraps every wait for the member: the time counts as its latency, what it returns inside is kept."""
        return _Waiting(self)

    def failed(self, error: Exception) -> None:
        """The member raised before anything was shown."""
        if self._checks is None:
            self._errors[self.model] = error
        if self._inner and self._asked is None:
            # It did answer, but not with the object: that was paid for, and is no sign that the model is down.
            self._health.succeeded(self.model)
            self._episode.observe(structured_answer_of(None, self._inner, self._seconds))
        else:
            self._health.failed(self.model)
            self._episode.fail(error)

    def answered(self, result: Any) -> None:
        """The member returned, and nothing was shown yet."""
        self._health.succeeded(self.model)
        if self._checks is None:
            self._results[self.model] = result
        self._episode.observe(self._answer(result))

    def result(self) -> Any:
        """The accepted response, with the decision record.

        Raises:
            AllModelsFailedError: the members answered, but none with an object that parses.
        """
        if self.model not in self._results:
            raise self._all_failed() from self._errors[self.model]
        return self._with_record(self._results[self.model])

    # -- streams -------------------------------------------------------------------------------------------------

    def replay(self) -> Any:
        """The accepted response as the only chunk of a stream."""
        result = self.result()
        if isinstance(result, ChatResponse):
            thoughts = [
                block.content or "" for block in result.message.blocks if isinstance(block, ThinkingBlock)
            ]
            extras = {"thinking_delta": "".join(thoughts), **result.additional_kwargs} if thoughts else None
            return result.model_copy(
                update={
                    # Who reads the stream may change the message: a chat engine does.
                    "message": copied(result.message),
                    "delta": text_of(result),
                    "additional_kwargs": extras or result.additional_kwargs,
                }
            )
        if isinstance(result, CompletionResponse):
            return result.model_copy(update={"delta": result.text})
        return result

    def replayed(self) -> None:
        """The chunk was read. Tracers keep a streaming span open until it is told that its stream has ended."""
        _dispatcher.event(StreamChatEndEvent(span_id=self._span_id))

    def passing(self, chunk: Any) -> Any:
        """A chunk of a live stream, as it is shown: it names its model, so that its tool calls can be parsed."""
        self._logprobs += logprobs_of(chunk)
        return _with_extras(chunk, {"model": self.model})

    def passed(self, last: Any) -> Any | None:
        """A live stream has ended after ``last``, or was left there; the closing chunk, with the decision record."""
        self._health.succeeded(self.model)
        self._episode.observe(self._answer(last, self._logprobs), released=True)
        self._step = self._episode.next()
        closing = self._with_record(last)
        if isinstance(closing, ChatResponse):
            return closing.model_copy(update={"delta": "", "message": copied(closing.message)})
        if isinstance(closing, CompletionResponse):
            return closing.model_copy(update={"delta": ""})
        return None

    def broke(self) -> None:
        """A live stream broke after something was shown: the error is the user's."""
        self._health.failed(self.model)

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """Name of the member of this step."""
        assert self._step is not None
        return self._step.model

    @property
    def _checks(self) -> str | None:
        """Name of the member whose answer this step checks; None if it is for an answer."""
        return self._step.checks if isinstance(self._step, Call) else None

    @property
    def _asked(self) -> str | None:
        """What the member is asked, if that is not what the user asked."""
        return self._step.prompt if isinstance(self._step, Call) else None

    def _answer(self, result: Any, logprobs: TokenLogprobs | None = None) -> Answer:
        if self._inner is not None and self._asked is None:
            return structured_answer_of(result, self._inner, self._seconds)
        return answer_of(result, self._seconds, logprobs)

    def _with_record(self, result: Any) -> Any:
        record = self._episode.record.payload()
        _dispatcher.event(CascadeDecisionEvent(record=record, span_id=self._span_id))
        return _with_extras(result, record)

    def _all_failed(self) -> AllModelsFailedError:
        return AllModelsFailedError(self._errors)


def _with_extras(response: Any, extras: Mapping[str, Any]) -> Any:
    if not isinstance(response, (ChatResponse, CompletionResponse)):
        return response  # an object of the user's class, or no chunk at all
    return response.model_copy(
        update={"additional_kwargs": {**response.additional_kwargs, "cascade": extras}}
    )


class _Waiting(AbstractContextManager[None]):
    def __init__(self, turn: Turn[Any]) -> None:
        self._turn = turn
        self._capture = nullcontext() if turn._inner is None else responses_into(turn._inner)

    def __enter__(self) -> None:
        self._capture.__enter__()
        self._started = perf_counter()

    def __exit__(self, *exception: Any) -> None:
        self._turn._seconds += perf_counter() - self._started
        self._capture.__exit__(*exception)
