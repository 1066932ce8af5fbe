"""One query of a composite on its way, without I/O: what to call, what has come back, what may be shown.

A driver (:mod:`cascade_langchain._driver`) makes the calls and tells the job of them. A call that is not certainly
the last runs to its end as a draft, unseen, and the episode then decides. One that is may be shown as it runs, but
for the chunk that ends it, which waits for the decision record.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.messages import BaseMessageChunk

from cascade_core.errors import AllModelsFailedError
from cascade_core.values import Answer, Call, DecisionRecord, Query, Stop
from cascade_langchain._messages import answer_of, as_last_chunk, is_last_chunk, merged, with_record
from cascade_langchain._model_log import ModelLog

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig

    from cascade_core.episode import Episode
    from cascade_core.health import Health
    from cascade_core.policy import Policy
    from cascade_langchain._members import AnyRunnable, Members

_log = logging.getLogger("cascade_langchain")
_NOTHING: Any = object()

AnyManager = TypeVar("AnyManager", CallbackManager, AsyncCallbackManager)


class Job:
    """One query of a composite: what to call with what, and what has come back so far.

    A subclass says what the members' outputs mean.

    Args:
        name: of the outer run.
        input: what every member is called with.
        query: the same as the policy sees it.
        policy: decides.
        health: which members are down; shared by all jobs of the composite.
        members: what is called.
        allowed: names of the members that may be called.
        hidden: call every member as a draft, even the last: somebody further out decides what is shown.
        kwargs: further arguments for the members.
        scope: what has callbacks, tags and metadata for all runs of the query, and verbosity for the outer; None if
            nothing has.
    """

    listens: ClassVar[bool] = False
    """Whether the job must be told of the models inside its members, even if nobody else is."""

    episode: Episode
    """Decides."""

    log: ModelLog
    """What it was told of during the last call."""

    def __init__(
        self,
        *,
        name: str,
        input: Any,
        query: Query,
        policy: Policy,
        health: Health,
        members: Members,
        allowed: Collection[str],
        hidden: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        scope: BaseChatModel | None = None,
    ) -> None:
        self._start = partial(policy.start, query, only=allowed, down=health.down())
        self.waits = policy.estimator.waits
        self.name = name
        self.input = input
        self.kwargs = kwargs or {}
        self.scope = scope
        self.run_id: UUID | None = None
        self.output: Any = None
        self._health = health
        self._members = members
        self._hidden = hidden
        self._outputs: dict[str, Any] = {}
        self._chunks: list[Any] = []
        self._held: Any = None
        self._calls = 0
        self._step: Call | None = None
        self._taken: Any = _NOTHING
        self._started = 0.0

    # -- what a subclass knows -----------------------------------------------------------------------------------

    def read(self, output: Any, latency: float) -> Answer:
        """A member's output as the policy sees it."""
        return answer_of(output, latency)

    def seal(self, output: Any, record: DecisionRecord) -> Any:
        """The output with the record on it."""
        return with_record(output, record)

    def chunk(self, output: Any) -> Any:
        """A whole output as the only chunk of a stream; a chunk as it is."""
        return output if isinstance(output, BaseMessageChunk) else as_last_chunk(output)

    # -- the episode ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin the episode. Like ``answered``, this may wait for an embedding: ``waits`` says so."""
        self.episode = self._start()

    def next(self) -> Call | Stop:
        """The next step. The outcome of a call must be told: by ``answered`` or ``fail``."""
        try:
            step = self.episode.next()
        except AllModelsFailedError as error:
            raise error from next(iter(error.failures.values()))
        if isinstance(step, Call):
            self._step, self._taken = step, _NOTHING
            self._calls += 1
            self._started = perf_counter()
        return step

    def live(self, call: Call) -> bool:
        """Whether the call may be shown as it runs."""
        return call.final and not self._hidden

    def member(self, call: Call, *, live: bool) -> AnyRunnable:
        """What to call. ``live``: it will be streamed to the caller."""
        if call.checks is not None:
            return self._members.checking(call.model, bare=call.prompt is not None)
        return self._members(call.model, draft=self._hidden or not call.final)

    def sent(self, call: Call) -> tuple[Any, Mapping[str, Any]]:
        """What it is called with: input and further arguments, which a text of the policy's own has none of."""
        return (self.input, self.kwargs) if call.prompt is None else (call.prompt, {})

    @property
    def released(self) -> bool:
        """Whether part of the answer has been passed on."""
        return bool(self._chunks)

    def take(self, output: Any) -> None:
        """The output of a call that ran to its end unseen."""
        self._taken = output

    def release(self, chunk: Any) -> Iterator[Any]:
        """What of a live call may be passed on now. A chunk that ends the message waits for the record."""
        chunk = self.chunk(chunk)
        self._chunks.append(chunk)
        ready = [] if self._held is None else [self._held.model_copy(update={"chunk_position": None})]
        self._held = chunk if is_last_chunk(chunk) else None
        if self._held is None:
            ready.append(chunk)
        for item in ready:
            passed_on = perf_counter()
            yield item
            self._started += (
                perf_counter() - passed_on
            )  # what the consumer does meanwhile is not the model's latency

    def answered(self) -> None:
        """The call has come to a good end."""
        output = merged(self._chunks) if self.released else self._taken
        if output is _NOTHING:
            self.fail(ValueError("the stream ended without a chunk"))
            return
        assert self._step is not None
        latency = perf_counter() - self._started
        if self._step.checks is None:
            self._outputs[self._step.model] = output
        answer = self.read(output, latency) if self._step.prompt is None else answer_of(output, latency)
        self.episode.observe(answer, released=self.released)
        self._health.succeeded(self._step.model)

    def fail(self, error: Exception) -> None:
        """The call has failed.

        Raises:
            Exception: the same, if it is not ours to handle, or if part of the answer has been passed on.
        """
        if _passes_through(error):
            raise error
        assert self._step is not None
        self._health.failed(self._step.model)
        if self.released:
            raise error
        _log.warning("model %r failed with %s", self._step.model, type(error).__name__)
        self.episode.fail(error)

    def finish(self, stop: Stop) -> DecisionRecord:
        """Settle the output."""
        record = self.episode.record
        self.output = self.seal(self._outputs[stop.model], record)
        return record

    def rest(self, record: DecisionRecord) -> Iterator[Any]:
        """What a streaming caller has not got yet."""
        if not self.released:
            yield self.chunk(self.output)
        elif self._held is not None:
            yield self.seal(self._held, record)

    # -- the run tree --------------------------------------------------------------------------------------------

    def configured(self, managers: type[AnyManager], config: RunnableConfig) -> AnyManager:
        """The callback manager of the outer run.

        What the composite was built with holds for its models' runs, too: they are where tokens are counted, and
        where whoever shows a stream looks for its tags.
        """
        given, own = (config.get("callbacks"), config.get("tags"), config.get("metadata")), self.scope
        of_its_own = (None, False) if own is None else (own.callbacks, own.verbose)
        manager = managers.configure(given[0], *of_its_own, given[1], None, given[2], None)
        if own is not None and manager.handlers:
            handlers = own.callbacks or []
            for handler in handlers if isinstance(handlers, list) else handlers.handlers:
                manager.add_handler(handler)  # if it was given for this query as well, it is told once
            manager.add_tags(own.tags or [])
            manager.add_metadata(own.metadata or {})
        return manager

    def start_arguments(self, config: RunnableConfig) -> dict[str, Any]:
        """Arguments for the start of the outer run."""
        return {"name": config.get("run_name") or self.name, "run_id": config.pop("run_id", None)}

    def below(self, config: RunnableConfig, run: Any) -> RunnableConfig:
        """Configuration of the call, a child of the outer run; where nobody watches that, nobody is told of it."""
        child = config.copy()
        child.pop("run_name", None)
        watched = self.listens or run.inheritable_handlers
        child["callbacks"] = self.watching(run.get_child(self._tag())) if watched else None
        return child

    def _tag(self) -> str:
        checks = self._step is not None and self._step.checks is not None
        return f"cascade:{'check' if checks else 'call'}:{self._calls}"

    def watching(self, callbacks: Any) -> Any:
        """Who is told of the call: the job, too."""
        self.log = ModelLog()
        callbacks.add_handler(self.log)
        return callbacks


def _passes_through(error: Exception) -> bool:
    """Whether an exception is no failure but LangGraph's way to interrupt: it must reach the graph."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphBubbleUp)
