"""The composite chat model."""

from __future__ import annotations

import asyncio
import hashlib
import os
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult, RunInfo
from langchain_core.runnables.utils import get_unique_config_specs
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, model_validator

from cascade_core import __version__
from cascade_core.errors import ConfigurationError
from cascade_core.health import Health
from cascade_core.values import Query
from cascade_langchain._driver import adrive, arun_to_end, drive, run_to_end
from cascade_langchain._job import Job
from cascade_langchain._members import (
    Members,
    chat_model_of,
    chat_models,
    common_profile,
    handing_on,
    identity_of,
)
from cascade_langchain._messages import needs_of, query_of

if TYPE_CHECKING:
    import uuid

    from langchain_core.callbacks import Callbacks
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
    from langchain_core.language_models.model_profile import ModelProfile
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.tools import BaseTool

    from cascade_core.default_policy import Prices
    from cascade_core.policy import Policy

_TOOLS = "cascade_tools"
"""Argument under which a binding of tools keeps the members they are bound to."""

_OF_THE_MODELS = frozenset(
    {"temperature", "max_tokens", "timeout", "stop", "max_retries", "streaming", "api_key"}
)
_HANDED_ON = ("cache", "rate_limiter", "output_version")


class ChatCascade(BaseChatModel):
    """Several chat models that answer as one: each query gets the cheapest run of them that will do.

    A policy decides which model a query goes to, whether its answer is good enough, and which model is asked next.
    To LangChain the composite is one chat model; in a trace it is a chain run with the models' runs below it.

    Setup:
        Install ``cascade-routing`` with the extra ``langchain`` and the packages of the models to put inside.

        ```bash
        pip install "cascade-routing[langchain]" langchain-openai
        ```

    Key init args:
        models: the chat models, cheapest first: a list (they are named by their own model names) or a dictionary from
            name to model. Each may carry arguments of its own (``model.bind(...)``) or retries
            (``model.with_retry()``).
        policy: a ``Policy``, or the path of one saved by :func:`calibrate`. Without one, models run in the order
            given until an answer looks sure of itself; that is not calibrated, and a warning says so.
        prices: price of each model by name, where there is no policy and a model has no list price.

        What every chat model has (``callbacks``, ``tags``, ``cache``, ``rate_limiter``, ``disable_streaming``, …) it
        has, too, and its models' calls go by it. Temperature and the like belong to the models inside.

    Instantiate:
        ```python
        from langchain_openai import ChatOpenAI

        from cascade_langchain import ChatCascade

        model = ChatCascade(
            [
                ChatOpenAI(model="gpt-4.1-nano", logprobs=True),  # log-probabilities tell how sure it is
                ChatOpenAI(model="gpt-5"),
            ],
            # policy="policy.json",
        )
        ```

    Invoke:
        ```python
        messages = [
            ("system", "Translate the user's sentence to French."),
            ("human", "I love programming."),
        ]
        model.invoke(messages)
        ```

        A model is pinned by its name: ``model.invoke(messages, model="gpt-5")``.

    Stream:
        The answer is streamed token by token where the coming call is certainly the last. A draft that may still be
        rejected is run unseen, and is one chunk once it is accepted.

        ```python
        for chunk in model.stream(messages):
            print(chunk.text, end="")
        ```

    Async:
        ```python
        await model.ainvoke(messages)

        async for chunk in model.astream(messages):
            print(chunk.text, end="")

        await model.abatch([messages, messages])
        ```

    Tool calling:
        Each model binds the tools its own way; models without tools are left out.

        ```python
        from pydantic import BaseModel, Field


        class GetWeather(BaseModel):
            '''Get the current weather in a given location'''

            location: str = Field(description="The city and state, e.g. San Francisco, CA")


        with_tools = model.bind_tools([GetWeather])
        with_tools.invoke("Which is hotter today, LA or NY?").tool_calls
        ```

    Structured output:
        By each model's own method; a draft that does not parse is not accepted.

        ```python
        class Joke(BaseModel):
            '''Joke to tell user.'''

            setup: str = Field(description="The setup of the joke")
            punchline: str = Field(description="The punchline to the joke")


        structured = model.with_structured_output(Joke)
        structured.invoke("Tell me a joke about cats")
        ```

    Token usage:
        The message has the usage of the model that answered. A handler counts all calls once, rejected drafts
        included.

        ```python
        from langchain_core.callbacks import get_usage_metadata_callback

        with get_usage_metadata_callback() as usage:
            answer = model.invoke(messages)
        print(answer.usage_metadata, usage.usage_metadata)
        ```

    Response metadata:
        That of the model that answered, and the decision record: which models ran, what was expected of them and
        what they cost, why it stopped there, and what the dearest model alone would have cost.

        ```python
        record = model.invoke(messages).response_metadata["cascade"]
        print(record["model"], record["reason"], record["cost"], record["reference_cost"])
        ```
    """

    models: Mapping[str, Any] = Field(repr=False)
    """The models by name, in the order given."""

    policy: Any = Field(repr=False)
    """The policy that decides (a ``cascade_core.Policy``)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def __init__(
        self,
        models: Mapping[str, Any] | Sequence[Any] = (),
        *,
        policy: Policy | str | os.PathLike[str] | None = None,
        prices: Prices | None = None,
        **settings: Any,
    ) -> None:
        """Check everything that can be wrong before the first query."""
        named = chat_models(models)
        unknown = sorted(settings.keys() - type(self).model_fields.keys() - _OF_THE_MODELS)
        if unknown:
            raise ConfigurationError(
                f"ChatCascade has no setting {unknown[0]!r}: it has models, policy, prices and what every chat model "
                "has; settings of one provider belong to the models inside"
            )
        ignored = sorted(settings.keys() & _OF_THE_MODELS)
        if ignored:
            warnings.warn(
                f"ChatCascade ignores {', '.join(ignored)}: set it on the models inside", stacklevel=2
            )
            settings = {name: value for name, value in settings.items() if name not in _OF_THE_MODELS}
        from cascade_core.default_policy import policy_for  # with numpy: not before it is needed

        fields: dict[str, Any] = {"models": named, "policy": policy_for(named, policy, prices)}
        super().__init__(**fields, **settings)
        _ = self.members, self.health  # once, before threads may race for them

    @model_validator(mode="after")
    def _set_cascade_version(self) -> ChatCascade:
        self._add_version("cascade-routing", __version__)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a field: the models are made ready anew, as some fields hold for their calls."""
        super().__setattr__(name, value)
        self.__dict__.pop("members", None)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> ChatCascade:
        """A copy, of which the same holds."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("members", None)
        return copy

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The models' names and the strategy; a model's own representation may hold its key."""
        yield "models", list(self.models)
        yield "policy", self.policy.strategy.name

    # -- the four ways to run one query --------------------------------------------------------------------------

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the cheapest run of models that the policy finds good enough."""
        return cast("AIMessage", run_to_end(self.job(input, _with_stop(kwargs, stop)), config))

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As :meth:`invoke`."""
        return cast("AIMessage", await arun_to_end(self.job(input, _with_stop(kwargs, stop)), config))

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream the answer: live when the call is certainly the last, else whole once it is chosen."""
        yield from drive(self.job(input, _with_stop(kwargs, stop)), config, stream=True)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """As :meth:`stream`."""
        async with aclosing(adrive(self.job(input, _with_stop(kwargs, stop)), config, stream=True)) as chunks:
            async for chunk in chunks:
                yield chunk

    def job(
        self,
        input: LanguageModelInput,
        kwargs: dict[str, Any],
        *,
        members: Members | None = None,
        of: Callable[..., Job] = Job,
        **further: Any,
    ) -> Job:
        """One query, ready for a driver; takes out of ``kwargs`` what is not for the models."""
        if isinstance(input, str):
            query, needs = Query(text=input), frozenset[str]()
        else:
            messages = self._convert_input(input).to_messages()
            query, needs = query_of(messages), needs_of(messages)
        bound = kwargs.pop(_TOOLS, None)
        if bound is not None:
            kwargs.pop("tools", None)
        if bound is not None or kwargs.get("tools"):
            needs |= {"tool_calling"}
        members = members or bound or self.members
        return of(
            name=self.get_name(),
            input=input,
            query=query,
            policy=self.policy,
            health=self.health,
            members=members,
            allowed=members.allowed(kwargs.pop("model", None), needs),
            hidden=self._streaming_disabled(**kwargs),
            kwargs=kwargs,
            scope=self,
            **further,
        )

    @cached_property
    def members(self) -> Members:
        """The models, ready to be called."""
        handed = {name: value for name in _HANDED_ON if (value := getattr(self, name)) is not None}
        return Members(handing_on(self.models, handed))

    @cached_property
    def health(self) -> Health:
        """Which models are down at the moment; shared with copies."""
        return Health()

    # -- what else calls a chat model ----------------------------------------------------------------------------

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several conversations, one after the other."""
        jobs = [self.job(conversation, _with_stop({**kwargs}, stop)) for conversation in messages]
        for job in jobs:
            run_to_end(job, _config(callbacks, tags, metadata, run_name, run_id if job is jobs[0] else None))
        return _result(jobs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several conversations at once."""
        jobs = [self.job(conversation, _with_stop({**kwargs}, stop)) for conversation in messages]
        await asyncio.gather(
            *(
                arun_to_end(
                    job, _config(callbacks, tags, metadata, run_name, run_id if job is jobs[0] else None)
                )
                for job in jobs
            )
        )
        return _result(jobs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.invoke(messages, stop=stop, **kwargs))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=await self.ainvoke(messages, stop=stop, **kwargs))]
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.stream(messages, stop=stop, **kwargs):
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in self.astream(messages, stop=stop, **kwargs):
            yield ChatGenerationChunk(message=chunk)

    def _chat_model_stream_v3(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> ChatModelStream:
        from cascade_langchain._events import event_stream

        return event_stream(self.stream(input, config, stop=stop, **kwargs))

    async def _achat_model_stream_v3(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncChatModelStream:
        from cascade_langchain._events import aevent_stream

        return aevent_stream(self.astream(input, config, stop=stop, **kwargs))

    # -- tools and structured output -----------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to each model as that model binds them. Models that cannot are left out.

        Args:
            tools: as the models take them.
            tool_choice: which of them must be called, as the models take it.
            kwargs: for the models, such as ``strict`` and ``response_format``.

        Raises:
            NotImplementedError: if none of the models can call tools.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        bound = self.members.prepared(lambda model: model.bind_tools(tools, **kwargs))  # type: ignore[attr-defined]
        return self.bind(tools=[_openai_tool(tool) for tool in tools], **{_TOOLS: bound})

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers in the shape of a schema, by each model's own method; one that does not parse is not accepted.

        Args:
            schema: as the models take it.
            include_raw: return the message and the parsing error, too, as every chat model does.
            kwargs: for the models, such as ``method`` and ``strict``.

        Raises:
            NotImplementedError: if none of the models can.
        """
        from cascade_langchain.structured import StructuredCascade

        return StructuredCascade(cascade=self, schema=schema, include_raw=include_raw, settings=kwargs)

    # -- what a chat model says of itself ------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "cascade"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {
            "models": {name: identity_of(model) for name, model in self.models.items()},
            "policy": hashlib.sha256(self.policy.to_json().encode()).hexdigest(),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # A provider's model name would let tracers count and price the composite as that model.
        return super()._get_ls_params(stop=stop, **{"model": "cascade", **kwargs})

    def _resolve_model_profile(self) -> ModelProfile | None:
        return cast("ModelProfile | None", common_profile(self.models))

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What ``configurable`` may hold for the models inside."""
        return get_unique_config_specs(spec for model in self.models.values() for spec in model.config_specs)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokens of the text as the first model counts them."""
        return super().get_token_ids(text) if self.custom_get_token_ids else self._first.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Number of tokens as the first model counts them."""
        return super().get_num_tokens(text) if self.custom_get_token_ids else self._first.get_num_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Number of tokens as the first model counts them."""
        return self._first.get_num_tokens_from_messages(messages, tools=tools)

    @property
    def _first(self) -> BaseChatModel:
        return cast("BaseChatModel", chat_model_of(next(iter(self.models.values()))))


def _with_stop(kwargs: dict[str, Any], stop: list[str] | None) -> dict[str, Any]:
    return kwargs if stop is None else {**kwargs, "stop": stop}


def _config(
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
    run_id: uuid.UUID | None,
) -> RunnableConfig:
    given = {
        "callbacks": callbacks,
        "tags": tags,
        "metadata": metadata,
        "run_name": run_name,
        "run_id": run_id,
    }
    return cast("RunnableConfig", {name: value for name, value in given.items() if value is not None})


def _result(jobs: Sequence[Job]) -> LLMResult:
    runs = [RunInfo(run_id=job.run_id) for job in jobs if job.run_id is not None]
    return LLMResult(
        generations=[[ChatGeneration(message=job.output)] for job in jobs], llm_output={}, run=runs or None
    )


def _openai_tool(tool: Any) -> dict[str, Any]:
    """The tool as graphs look for it; what a provider defines itself stays as it is."""
    try:
        return convert_to_openai_tool(tool)
    except ValueError:
        if isinstance(tool, dict):
            return tool
        raise
