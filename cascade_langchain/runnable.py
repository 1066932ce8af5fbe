"""The same decisions over any runnables: whole chains, retrievers with a model, agents."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableSerializable, coerce_to_runnable
from langchain_core.runnables.utils import Input, Output, get_unique_config_specs
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from pydantic import ConfigDict, Field

from cascade_core.errors import ConfigurationError
from cascade_core.health import Health
from cascade_core.values import Answer, Call, DecisionRecord, Query
from cascade_langchain._driver import adrive, arun_to_end, drive, run_to_end
from cascade_langchain._job import Job
from cascade_langchain._members import Members, can_check, chat_model_of
from cascade_langchain._messages import answer_of, as_last_chunk, query_of, with_record
from cascade_langchain._model_log import ModelLog

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec

    from cascade_core.default_policy import Prices
    from cascade_core.policy import Policy

ReadQuery = Callable[[Any], "Query | str"]
"""From a runnable's input to the query, or its text."""

ReadAnswer = Callable[[Any], "Answer | str"]
"""From a runnable's output to the answer, or its text."""

_QUESTION_KEYS = ("input", "question", "query", "text")
_ANSWER_KEYS = ("answer", "output", "result", "text")


class RunnableCascade(RunnableSerializable[Input, Output]):
    """Several runnables that answer as one: whole chains, retrievers with a model, agents.

    The same decisions as in :class:`ChatCascade`, over arms of any kind. Like ``RunnableWithFallbacks`` it falls back
    when an arm raises; unlike it, also when an arm's answer is not good enough.

    What the chat models inside an arm report is what the arm costs (tokens) and how sure it is (log-probabilities,
    where what the arm returns is what the last of them said). A draft's tokens are shown to nobody; traces show
    everything. Where an output is a message, it carries the decision record; elsewhere the record is the data of the
    custom event ``cascade_stop``.

    Args:
        arms: a dictionary from name to runnable (or a function or dictionary that becomes one), cheapest first.
        policy: as for :class:`ChatCascade`. A verification must ask an arm that is a chat model.
        prices: price of each arm by name, where there is no policy.
        read_query: makes the query, or its text, of an input. Without one it is found in a text, a prompt, messages,
            or a dictionary with ``messages``, ``input``, ``question``, ``query`` or ``text``.
        read_answer: makes the answer, or its text, of an output. Without one it is found in a text, a message,
            messages, or a dictionary with ``messages``, ``answer``, ``output``, ``result`` or ``text``.

    Example:
        ```python
        from langchain_core.output_parsers import StrOutputParser
        from langchain_core.prompts import ChatPromptTemplate
        from langchain_openai import ChatOpenAI

        from cascade_core import Price
        from cascade_langchain import RunnableCascade

        prompt = ChatPromptTemplate.from_template("Answer in one sentence: {question}")
        careful = ChatPromptTemplate.from_template("List the facts, then answer in one sentence: {question}")

        chain = RunnableCascade(
            {
                "quick": prompt | ChatOpenAI(model="gpt-4.1-nano", logprobs=True) | StrOutputParser(),
                "careful": careful | ChatOpenAI(model="gpt-5") | StrOutputParser(),
            },
            prices={"quick": Price(input=0.05, output=0.4), "careful": Price(input=1.25, output=10)},
        )
        chain.invoke({"question": "Why is the sky blue?"})
        ```
    """

    arms: Mapping[str, Runnable[Any, Any]] = Field(repr=False)
    """The runnables by name, in the order given."""

    policy: Any = Field(repr=False)
    """The policy that decides (a ``cascade_core.Policy``)."""

    read_query: ReadQuery | None = Field(default=None, repr=False)
    """Makes the query out of the input; None: a text, a prompt, messages, or a dictionary that holds one."""

    read_answer: ReadAnswer | None = Field(default=None, repr=False)
    """Makes the answer out of an output; None: as for inputs."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def __init__(
        self,
        arms: Mapping[str, Any],
        *,
        policy: Policy | str | os.PathLike[str] | None = None,
        prices: Prices | None = None,
        **settings: Any,
    ) -> None:
        """Check everything that can be wrong before the first query."""
        members = runnables(arms)
        unknown = sorted(settings.keys() - type(self).model_fields.keys())
        if unknown:
            raise ConfigurationError(
                f"RunnableCascade has no setting {unknown[0]!r}; it has {sorted(type(self).model_fields)} and prices"
            )
        from cascade_core.default_policy import policy_for  # with numpy: not before it is needed

        fields: dict[str, Any] = {"arms": members, "policy": policy_for(members, policy, prices)}
        can_check(fields["policy"].check, members)
        super().__init__(**fields, **settings)
        _ = self.members, self.health  # once, before threads may race for them

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The arms' names and the strategy; a model's own representation may hold its key."""
        yield "arms", list(self.arms)
        yield "policy", self.policy.strategy.name

    # -- the four ways to run one query --------------------------------------------------------------------------

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """The output of the cheapest run of arms that the policy finds good enough."""
        return run_to_end(self._job(input, kwargs), config)  # type: ignore[no-any-return]

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """As :meth:`invoke`."""
        return await arun_to_end(self._job(input, kwargs), config)  # type: ignore[no-any-return]

    def stream(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Output]:
        """Stream the output: live when the call is certainly the last, else whole once it is chosen."""
        yield from drive(self._job(input, kwargs), config, stream=True)

    async def astream(
        self, input: Input, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Output]:
        """As :meth:`stream`."""
        async with aclosing(adrive(self._job(input, kwargs), config, stream=True)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _job(self, input: Input, kwargs: dict[str, Any]) -> Job:
        return _RunnableJob(
            name=self.get_name(),
            input=input,
            query=query_in(input, self.read_query),
            policy=self.policy,
            health=self.health,
            members=self.members,
            allowed=self.members.allowed(),
            kwargs=kwargs,
            read_answer=self.read_answer,
        )

    @cached_property
    def members(self) -> Members:
        """The arms, ready to be called."""
        return Members(self.arms)

    @cached_property
    def health(self) -> Health:
        """Which arms are down at the moment; shared with copies."""
        return Health()

    # -- what a runnable says of itself --------------------------------------------------------------------------

    @property
    def InputType(self) -> type[Input]:  # noqa: N802
        """That of the first arm."""
        return self._first.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """That of the first arm."""
        return self._first.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        """That of the first arm."""
        return self._first.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        """That of the first arm."""
        return self._first.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What ``configurable`` may hold for the arms."""
        return get_unique_config_specs(spec for arm in self.arms.values() for spec in arm.config_specs)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The arms side by side between input and output."""
        from langchain_core.runnables.graph import Graph

        graph = Graph()
        start = graph.add_node(self.get_input_schema(config))
        end = graph.add_node(self.get_output_schema(config))
        for name, arm in self.arms.items():
            node = graph.add_node(arm, id=name)
            graph.add_edge(start, node, conditional=True)
            graph.add_edge(node, end)
        return graph

    @property
    def _first(self) -> Runnable[Any, Any]:
        arms: Mapping[str, Runnable[Any, Any]] = self.arms
        return next(iter(arms.values()))


class _RunnableJob(Job):
    listens = True

    def __init__(self, *, read_answer: ReadAnswer | None, **job: Any) -> None:
        super().__init__(**job)
        self._read_answer = read_answer
        self._draft = False

    def member(self, call: Call, *, live: bool) -> Runnable[Any, Any]:
        member = super().member(call, live=live)
        # Models deep inside a chain cannot be told not to stream: their drafts are kept from those who would show
        # them. Handlers that trace or count still see everything.
        self._draft = not call.final and chat_model_of(member) is None
        return member

    def watching(self, callbacks: Any) -> Any:
        if self._draft:
            for handler in list(callbacks.handlers):
                if isinstance(handler, _StreamingCallbackHandler):
                    callbacks.remove_handler(handler)
        return super().watching(callbacks)

    def read(self, output: Any, latency: float) -> Answer:
        return answer_from(output, latency, self.log, self._read_answer)

    def seal(self, output: Any, record: DecisionRecord) -> Any:
        return with_record(output, record) if isinstance(output, BaseMessage) else output

    def chunk(self, output: Any) -> Any:
        return as_last_chunk(output) if type(output) is AIMessage else output


def runnables(arms: object) -> dict[str, Runnable[Any, Any]]:
    """Runnables by name, from what a user hands over.

    Raises:
        ConfigurationError: it is not a dictionary from at least two names to runnables or what becomes one.
    """
    if not isinstance(arms, Mapping) or not all(isinstance(name, str) and name for name in arms):
        raise ConfigurationError("the arms must be a dictionary from name to runnable")
    from cascade_core.policy import check_names

    check_names(list(arms))
    found = {}
    for name, arm in arms.items():
        try:
            found[name] = coerce_to_runnable(arm)
        except TypeError as error:
            raise ConfigurationError(f"arm {name!r} is not a runnable: {error}") from error
    return found


def answer_from(output: Any, latency: float, log: ModelLog, read: ReadAnswer | None) -> Answer:
    """A runnable's output as the estimators see it, with what its models reported where the output does not say."""
    answer = _answer(output, latency, read)
    told: dict[str, Any] = {
        "usage": answer.usage or log.usage,
        "latency": latency if answer.latency is None else answer.latency,
    }
    if log.messages and answer.logprobs is None:
        said = answer_of(log.messages[-1])
        if said.text.strip() == answer.text.strip():
            told |= {"logprobs": said.logprobs, "top_logprobs": said.top_logprobs}
            told["finish_reason"] = answer.finish_reason or said.finish_reason
    return answer.model_copy(update=told)


def query_in(input: Any, read: ReadQuery | None = None) -> Query:
    """A runnable's input as the estimators see it."""
    found = read(input) if read is not None else _unwrapped(input, _QUESTION_KEYS)
    if isinstance(found, Query):
        return found
    if isinstance(found, list):
        return query_of(found)
    return Query(text=found)


def _answer(output: Any, latency: float, read: ReadAnswer | None) -> Answer:
    found = read(output) if read is not None else _unwrapped(output, _ANSWER_KEYS)
    if isinstance(found, Answer):
        return found
    if not found:
        return Answer(text="", latency=latency)
    if isinstance(found, list):
        spoken = [message for message in found if isinstance(message, AIMessage)]
        return answer_of(spoken[-1], latency) if spoken else Answer(text="", latency=latency)
    return Answer(text=found, latency=latency)


def _unwrapped(value: Any, keys: tuple[str, ...]) -> str | list[BaseMessage]:
    """The text or the messages in what a runnable takes or returns."""
    if isinstance(value, Mapping):
        held = value.get("messages") or next((value[key] for key in keys if key in value), None)
        return str(value) if held is None else _unwrapped(held, keys)
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, list) and all(isinstance(item, BaseMessage) for item in value):
        return value
    return "" if value is None else str(value)
