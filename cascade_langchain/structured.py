"""Structured output of a composite: each model's own method, and an answer that does not parse is not accepted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig

from cascade_core.values import Answer, Call, DecisionRecord
from cascade_langchain._driver import adrive, arun_to_end, drive, run_to_end
from cascade_langchain._job import Job
from cascade_langchain._members import Members
from cascade_langchain._messages import answer_of, with_record

if TYPE_CHECKING:
    from cascade_langchain._members import AnyRunnable
    from cascade_langchain.chat_model import ChatCascade


class StructuredCascade(Runnable[LanguageModelInput, Any]):
    """What ``ChatCascade.with_structured_output`` returns.

    A draft that does not parse counts as a failure of its model, so that the next one is asked. Objects are
    streamed as they grow where the model's own method does that and the coming call is certainly the last.
    """

    def __init__(
        self,
        cascade: ChatCascade,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool,
        settings: dict[str, Any],
    ) -> None:
        def prepared(*, raw: bool) -> Members:
            return cascade.members.prepared(
                lambda model: model.with_structured_output(schema, include_raw=raw, **settings)  # type: ignore[attr-defined]
            )

        self.name = cascade.get_name()
        self._cascade = cascade
        self._schema = schema
        self._include_raw = include_raw
        self._members = prepared(raw=True)
        self._parsed_members = prepared(raw=False)

    @property
    def OutputType(self) -> Any:  # noqa: N802
        """The schema, where it is a type and nothing else is returned."""
        return Any if self._include_raw or not isinstance(self._schema, type) else self._schema

    def __repr__(self) -> str:
        """The composite and the name of the schema."""
        return f"{type(self).__name__}({self._cascade!r}, {getattr(self._schema, '__name__', 'schema')})"

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The object, or with ``include_raw`` a dictionary of ``raw``, ``parsed`` and ``parsing_error``."""
        return run_to_end(self._job(input, kwargs), config)

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """As :meth:`invoke`."""
        return await arun_to_end(self._job(input, kwargs), config)

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """The object as it grows, or once."""
        yield from drive(self._job(input, kwargs), config, stream=True)

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """As :meth:`stream`."""
        async with aclosing(adrive(self._job(input, kwargs), config, stream=True)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _job(self, input: LanguageModelInput, kwargs: dict[str, Any]) -> Job:
        return self._cascade.job(
            input,
            kwargs,
            members=self._members,
            of=_StructuredJob,
            include_raw=self._include_raw,
            parsed_members=self._parsed_members,
        )


class _StructuredJob(Job):
    listens = True

    def __init__(self, *, include_raw: bool, parsed_members: Members, **job: Any) -> None:
        super().__init__(**job)
        self._include_raw = include_raw
        self._parsed_members = parsed_members

    def live(self, call: Call) -> bool:
        return super().live(call) and not self._include_raw

    def member(self, call: Call, *, live: bool) -> AnyRunnable:
        return self._parsed_members(call.model, draft=False) if live else super().member(call, live=live)

    def read(self, output: Any, latency: float) -> Answer:
        if self.released:
            said = self.log.messages[-1:]
            return answer_of(said[0], latency) if said else Answer(text=str(output), latency=latency)
        answer = answer_of(output["raw"], latency, parse_error=output["parsed"] is None)
        if answer.text or not answer.tool_calls:
            return answer
        # The object came as the arguments of a tool call: they are what is compared and asked about.
        made = json.dumps(output["raw"].tool_calls[0]["args"], ensure_ascii=False)
        return answer.model_copy(update={"text": made})

    def seal(self, output: Any, record: DecisionRecord) -> Any:
        if self.released:
            return output
        if self._include_raw:
            return {**output, "raw": with_record(output["raw"], record)}
        if output["parsing_error"] is not None:
            raise output["parsing_error"]
        return output["parsed"]

    def chunk(self, output: Any) -> Any:
        return output
