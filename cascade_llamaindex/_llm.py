"""``CascadeLLM``: several models of the user's that look to LlamaIndex like one."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import wrapt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation.events.llm import LLMPredictEndEvent, LLMPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field, InstanceOf, PlainSerializer, PrivateAttr, SerializeAsAny

from cascade_core.default_policy import Prices, policy_for
from cascade_core.errors import ConfigurationError, PolicyError
from cascade_core.health import Health
from cascade_core.policy import Policy
from cascade_llamaindex._answer import text_of
from cascade_llamaindex._drive import aanswer, answer, astream, stream
from cascade_llamaindex._members import SharedCallbacks, by_name, joint_metadata, tool_takers, with_room
from cascade_llamaindex._messages import copied, for_any_provider, query_of
from cascade_llamaindex._prompts import filled_in
from cascade_llamaindex._turn import MemberCall, Turn
from cascade_llamaindex.signals import with_signals

if TYPE_CHECKING:
    from llama_index.core.program.utils import FlexibleModel
    from llama_index.core.tools.types import BaseTool

_dispatcher = get_dispatcher(__name__)

Object = TypeVar("Object", bound=BaseModel)
"""What a structured prediction returns."""


class CascadeLLM(FunctionCallingLLM):
    """Several models as one: each query is answered by the cheapest run of them that the policy thinks good enough.

    Every call is delegated to a member's own method of the same name, so that each keeps its own way with tools,
    structured output and prompt templates. A member that fails is replaced by another. The decision record is in the
    response's ``additional_kwargs["cascade"]`` and in a :class:`CascadeDecisionEvent`. The argument ``model`` of a
    call pins a member, by its name.

    Args:
        llms: two or more LLMs, or a dictionary of name to LLM. Without names, each is called by its model's name.
        policy: a policy, or the path of its file. None takes the order of ``llms``, cheapest first, and keeps
            an answer that looks sure of itself (:meth:`cascade_core.Policy.uncalibrated`); it says so once.
        prices: price of each model by name, where there is no policy; list prices by name for those left out.
        context_window: overrides the smallest of the members'. Prompts that do not fit a member are then kept from
            it, and the response synthesizers split less.
        num_output: overrides the smallest of the members'.
        is_chat_model: overrides "any member is".
        is_function_calling_model: overrides "all members are". Tools then go to those members only that take them.
        **kwargs: fields of every LlamaIndex LLM: ``system_prompt``, ``callback_manager``, ``output_parser``, ….

    Raises:
        ConfigurationError: fewer than two models, two with one name, something that is not an LLM, a setting that
            there is not.
        PolicyError: a policy made for other models, or a file that cannot be read.

    Examples:
        ```python
        from llama_index.core import Document, Settings, SummaryIndex
        from llama_index.llms.openai import OpenAI

        from cascade_llamaindex import CascadeLLM

        Settings.llm = CascadeLLM(
            [OpenAI(model="gpt-4.1-nano", logprobs=True), OpenAI(model="gpt-5")], policy="policy.json"
        )
        index = SummaryIndex.from_documents([Document(text="The sky is blue.")])
        print(index.as_query_engine().query("What colour is the sky?"))
        ```

        >>> from llama_index.core.llms import ChatMessage, MockLLM
        >>> from cascade_core import ModelSpec, Policy
        >>> policy = Policy.uncalibrated([ModelSpec(name="small"), ModelSpec(name="large")])
        >>> llm = CascadeLLM({"small": MockLLM(max_tokens=2), "large": MockLLM(max_tokens=4)}, policy=policy)
        >>> response = llm.chat([ChatMessage("How are you?")])
        >>> response.message.content, response.additional_kwargs["cascade"]["model"]
        ('text text', 'small')
    """

    llms: dict[str, SerializeAsAny[LLM]]
    policy: Annotated[
        InstanceOf[Policy], PlainSerializer(lambda policy: json.loads(policy.to_json()), return_type=dict)
    ]
    context_window: int | None = Field(default=None, gt=0)
    num_output: int | None = None
    is_chat_model: bool | None = None
    is_function_calling_model: bool | None = None

    _health: Health = PrivateAttr(default_factory=Health)
    _callbacks: SharedCallbacks = PrivateAttr()

    def __init__(
        self,
        llms: Sequence[LLM] | Mapping[str, LLM | Mapping[str, Any]],
        policy: Policy | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        prices: Prices | None = None,
        **kwargs: Any,
    ) -> None:
        members = by_name(llms)
        # A stored one comes with its class's name.
        unknown = sorted(kwargs.keys() - type(self).model_fields.keys() - {"class_name"})
        if unknown:
            raise ConfigurationError(
                f"CascadeLLM has no setting {unknown[0]!r}: it has what its docstring names and what every LLM has; "
                "temperature and the like belong to the models inside"
            )
        if isinstance(policy, Mapping):  # as it was stored
            policy = Policy.from_json(json.dumps(policy))
        fitting = policy_for(members, policy, prices)
        if kwargs.get("callback_manager") is None:
            kwargs["callback_manager"] = CallbackManager([])
        super().__init__(llms=members, policy=fitting, **kwargs)
        self._callbacks = SharedCallbacks(members)
        self._callbacks.forward(self.callback_manager, self.llms)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a field. LlamaIndex assigns ``callback_manager`` late: it is passed on to the members."""
        super().__setattr__(name, value)
        if name == "callback_manager" and "_callbacks" in (getattr(self, "__pydantic_private__", None) or ()):
            self._callbacks.forward(value, self.llms)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling, without callback handlers.

        LlamaIndex's version takes what cannot be pickled off the live object and off its members: give it copies.
        """
        bare = {"callback_manager": CallbackManager([])}
        members = {name: llm.model_copy(update=bare) for name, llm in self.llms.items()}
        copy = self.model_copy(update={**bare, "llms": members})
        copy._callbacks = SharedCallbacks(members)
        state = super(CascadeLLM, copy).__getstate__()
        if "policy" not in state["__dict__"]:  # taken off in silence, and it would come back uncalibrated
            raise PolicyError(
                "the policy cannot be pickled, as the embedding or estimator of yours that it is connected to cannot "
                "be: connect one that can, such as a function of a module's"
            )
        return state

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The members' names and the strategy; a member's own representation may hold its key."""
        yield "llms", list(self.llms)
        yield "policy", self.policy.strategy.name

    @classmethod
    def class_name(cls) -> str:
        """Name under which it is stored."""
        return "CascadeLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the members can do together, see the constructor's arguments."""
        names = ("context_window", "num_output", "is_chat_model", "is_function_calling_model")
        overrides = {name: value for name in names if (value := getattr(self, name)) is not None}
        return joint_metadata(self.llms, overrides)

    # -- chat and completion -------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return answer(self._chat(messages, kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return await aanswer(self._chat(messages, kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation in pieces; of the answer that is accepted only."""
        return stream(self._chat(messages, kwargs))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer a conversation in pieces; of the answer that is accepted only."""
        return await astream(self._chat(messages, kwargs))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt."""
        return answer(self._complete(prompt, formatted, kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt."""
        return await aanswer(self._complete(prompt, formatted, kwargs))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Complete a prompt in pieces; of the answer that is accepted only."""
        return stream(self._complete(prompt, formatted, kwargs))

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Complete a prompt in pieces; of the answer that is accepted only."""
        return await astream(self._complete(prompt, formatted, kwargs))

    def _chat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Turn[ChatResponse]:
        kwargs, only = self._pinned(kwargs)
        return self._turn(
            messages, lambda _: MemberCall("chat", (self._sendable(messages),), {**kwargs}), only=only
        )

    def _complete(self, prompt: str, formatted: bool, kwargs: Mapping[str, Any]) -> Turn[CompletionResponse]:
        kwargs, only = self._pinned(kwargs)
        return self._turn(
            [ChatMessage(prompt)],
            lambda _: MemberCall("complete", (prompt, formatted), {**kwargs}),
            only=only,
        )

    # -- tools ---------------------------------------------------------------------------------------------------

    @_dispatcher.span
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Answer a conversation with text or tool calls."""
        kwargs |= {
            "verbose": verbose,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
        }
        return answer(self._with_tools(tools, user_msg, chat_history, kwargs))

    @_dispatcher.span
    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Answer a conversation with text or tool calls."""
        kwargs |= {
            "verbose": verbose,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
        }
        return await aanswer(self._with_tools(tools, user_msg, chat_history, kwargs))

    @_dispatcher.span
    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseGen:
        """Answer a conversation with text or tool calls, in pieces; of the answer that is accepted only."""
        kwargs |= {
            "verbose": verbose,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
        }
        return stream(self._with_tools(tools, user_msg, chat_history, kwargs))

    @_dispatcher.span
    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        """Answer a conversation with text or tool calls, in pieces; of the answer that is accepted only."""
        kwargs |= {
            "verbose": verbose,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
        }
        return await astream(self._with_tools(tools, user_msg, chat_history, kwargs))

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls in a response, read by the model that made them."""
        maker = response.additional_kwargs.get("cascade", {}).get("model")
        member: Any = self.llms[maker if maker in self.llms else tool_takers(self.llms)[0]]
        selections: list[ToolSelection] = member.get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )
        return selections

    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Not used: what one provider prepares, another cannot read."""
        raise NotImplementedError(
            "each member of a CascadeLLM prepares its own arguments: call chat_with_tools or one of its kin"
        )

    def _with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None,
        chat_history: Sequence[ChatMessage] | None,
        kwargs: Mapping[str, Any],
    ) -> Turn[ChatResponse]:
        history = list(chat_history or [])
        kwargs, only = self._pinned(kwargs)
        asked = [ChatMessage(user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []

        def call(_: LLM) -> MemberCall:
            return MemberCall(
                "chat_with_tools",
                (list(tools),),
                {
                    **kwargs,
                    "user_msg": copied(user_msg) if isinstance(user_msg, ChatMessage) else user_msg,
                    "chat_history": self._sendable(history),
                },
            )

        return self._turn([*history, *asked], call, only=only or tool_takers(self.llms))

    # -- structured prediction -----------------------------------------------------------------------------------

    def structured_predict(
        self,
        output_cls: type[Object],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Object:
        """An object of ``output_cls``, made the member's own way. An answer that does not parse leads on."""
        result: Object = answer(self._structured(output_cls, prompt, llm_kwargs, prompt_args))
        return result

    async def astructured_predict(
        self,
        output_cls: type[Object],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Object:
        """An object of ``output_cls``, made the member's own way. An answer that does not parse leads on."""
        result: Object = await aanswer(self._structured(output_cls, prompt, llm_kwargs, prompt_args))
        return result

    def stream_structured_predict(
        self,
        output_cls: type[Object],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Object | FlexibleModel, None, None]:
        """The object as it grows; of the answer that is accepted only."""
        turn = self._structured(output_cls, prompt, llm_kwargs, prompt_args)
        objects: Generator[Object | FlexibleModel, None, None] = stream(turn)
        return objects

    async def astream_structured_predict(
        self,
        output_cls: type[Object],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Object | FlexibleModel, None]:
        """The object as it grows; of the answer that is accepted only."""
        turn = self._structured(output_cls, prompt, llm_kwargs, prompt_args)
        objects: AsyncGenerator[Object | FlexibleModel, None] = await astream(turn)
        return objects

    def _structured(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> Turn[Any]:
        messages = prompt.format_messages(llm=self, **prompt_args)
        if self.system_prompt or self.output_parser:
            # The members put their own before it, as they do with every prompt.
            messages = self._get_messages(prompt, **prompt_args)
            prompt, prompt_args = ChatPromptTemplate(message_templates=messages), {}

        options, only = self._pinned(llm_kwargs or {})

        def call(_: LLM) -> MemberCall:
            kwargs = {**prompt_args, "llm_kwargs": {**options}}
            return MemberCall("structured_predict", (output_cls, prompt), kwargs)

        return self._turn(messages, call, only=only, structured=True)

    # -- prompts -------------------------------------------------------------------------------------------------

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt and answer it, each member with its own system prompt and template."""
        return self._predicted(answer(self._predict(prompt, prompt_args)))

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt and answer it, each member with its own system prompt and template."""
        return self._predicted(await aanswer(self._predict(prompt, prompt_args)))

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Fill in a prompt and answer it in pieces; of the answer that is accepted only."""
        self._refuse_parser(prompt)
        chunks = stream(self._predict(prompt, prompt_args))
        return (chunk.delta or "" for chunk in chunks)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Fill in a prompt and answer it in pieces; of the answer that is accepted only."""
        self._refuse_parser(prompt)
        chunks = await astream(self._predict(prompt, prompt_args))
        return (chunk.delta or "" async for chunk in chunks)

    def _predict(self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> Turn[Any]:
        _dispatcher.event(LLMPredictStartEvent(template=prompt, template_args=dict(prompt_args)))
        self._log_template_data(prompt, **prompt_args)
        messages = prompt.format_messages(llm=self, **prompt_args)
        return self._turn(messages, lambda member: filled_in(prompt, prompt_args, member, self))

    def _predicted(self, response: ChatResponse | CompletionResponse) -> str:
        member = self.llms[response.additional_kwargs["cascade"]["model"]]
        output = self._parse_output(member._parse_output(text_of(response)))
        _dispatcher.event(LLMPredictEndEvent(output=output))
        return output

    def _refuse_parser(self, prompt: BasePromptTemplate) -> None:
        if prompt.output_parser is not None or self.output_parser is not None:
            raise NotImplementedError("Output parser is not supported for streaming.")

    # -- turns ---------------------------------------------------------------------------------------------------

    def _turn(
        self,
        messages: Sequence[ChatMessage],
        call: Callable[[LLM], MemberCall],
        *,
        only: Collection[str] | None = None,
        structured: bool = False,
    ) -> Turn[Any]:
        self._callbacks.forward(self.callback_manager, self.llms)
        query = with_signals(query_of(messages), messages)
        roomy = with_room(self.llms, query.sent_chars, only or self.llms)
        return Turn(self, query, call, only=roomy, structured=structured)

    def _pinned(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str] | None]:
        """Arguments for the members without ``model``, which is no model of theirs; and whom it names, if anybody."""
        others = {**kwargs}
        name = others.pop("model", None)
        if name is not None and name not in self.llms:
            raise ConfigurationError(f"unknown model {name!r}: expected one of {list(self.llms)}")
        return others, None if name is None else [name]

    def _sendable(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Copies for one member; of a provider of its own if the members are of several."""
        several = len({type(llm) for llm in self.llms.values()}) > 1
        return [for_any_provider(message) if several else copied(message) for message in messages]


for _endpoint in ("chat", "complete", "stream_chat", "stream_complete", "predict", "structured_predict"):
    for _name in (_endpoint, f"a{_endpoint}"):
        # LlamaIndex's span around each of them asks for its signature at every call: worked out once, not each time.
        _method = inspect.unwrap(getattr(CascadeLLM, _name))
        _method.__signature__ = inspect.signature(_method)


@wrapt.when_imported("llama_index.core.llms.loading")
def _make_known(loading: Any) -> None:
    """Enter the class into the table by which LlamaIndex restores stored models, an extractor's for one.

    Not before that module is imported anyway: it imports every provider that is installed.
    """
    loading.RECOGNIZED_LLMS[CascadeLLM.class_name()] = CascadeLLM
