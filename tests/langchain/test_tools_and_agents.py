"""Tools are bound by each model's own provider, and agents and graphs take the composite for any chat model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel, Field

from cascade_core.errors import ConfigurationError
from cascade_langchain import CascadeMiddleware, ChatCascade
from tests.langchain.support import Plain, RunTree, Scripted, always_both, cascading, chat, only, pair
from tests.support.openai_server import OpenAIServer, Reply, Request


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Report(BaseModel):
    city: str
    sky: str


class OtherProvider(Scripted):
    """Binds tools its own way, as another provider would."""

    bound: list[Any] = Field(default_factory=list)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        self.bound.append((tools, kwargs))
        return self.bind(other_tools=[each.name for each in tools])


def test_each_model_gets_its_own_binding_of_the_tools_themselves(openai_server: OpenAIServer) -> None:
    other = OtherProvider(model_name="small")
    model = ChatCascade([other, chat(openai_server, "large")], policy=always_both())
    bound = model.bind_tools([weather], tool_choice="any", strict=True)
    answer = bound.invoke("weather in Rome?")
    assert other.bound[0] == ([weather], {"tool_choice": "any", "strict": True})
    body = openai_server.requests[-1].body
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"]["strict"] is True
    assert isinstance(answer, AIMessage)
    assert [call["name"] for call in answer.tool_calls] == ["weather"]


def test_a_binding_shows_openai_tools_and_keeps_what_a_provider_defines() -> None:
    web_search = {"type": "web_search_preview"}
    model = ChatCascade(
        [OtherProvider(model_name="a"), OtherProvider(model_name="b")], policy=cascading(0.8, ("a", "b"))
    )
    with pytest.raises(AttributeError):
        model.bind_tools([web_search])  # this provider wants tools with names
    openai = ChatCascade({"a": _offline(), "b": _offline()}, policy=cascading(0.8, ("a", "b")))
    bound = openai.bind_tools([weather, web_search])
    assert isinstance(bound, RunnableBinding)
    shown = bound.kwargs["tools"]
    assert shown[0]["function"]["name"] == "weather"
    assert shown[1] == web_search


def _offline() -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", api_key="none", base_url="http://127.0.0.1:9/v1")  # type: ignore[arg-type]


def test_a_model_without_tools_is_left_out_and_none_at_all_is_an_error(openai_server: OpenAIServer) -> None:
    plain = Plain(model="small", base_url=openai_server.base_url, api_key="none")  # type: ignore[arg-type]
    model = ChatCascade([plain, chat(openai_server, "large")], policy=always_both())
    answer = model.bind_tools([weather]).invoke("weather in Rome?")
    assert isinstance(answer, AIMessage)
    assert answer.tool_calls
    assert [request.model for request in openai_server.requests] == ["large"]
    with pytest.raises(NotImplementedError, match="no tools here"):
        ChatCascade({"small": plain, "large": plain}, policy=always_both()).bind_tools([weather])


def test_a_model_whose_profile_denies_tools_is_left_out(openai_server: OpenAIServer) -> None:
    denies = chat(openai_server, "small", profile={"tool_calling": False})
    model = ChatCascade([denies, chat(openai_server, "large")], policy=always_both())
    model.bind_tools([weather]).invoke("weather in Rome?")
    assert [request.model for request in openai_server.requests] == ["large"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_calls_tools_and_answers(openai_server: OpenAIServer, asynchronous: bool) -> None:
    agent = create_agent(ChatCascade(pair(openai_server), policy=always_both()), [weather])
    tree, usage = RunTree(), UsageMetadataCallbackHandler()
    asked = {"messages": [HumanMessage("weather in Rome?")]}
    config: Any = {"callbacks": [tree, usage]}
    state = await agent.ainvoke(asked, config) if asynchronous else agent.invoke(asked, config)
    kinds = [type(message).__name__ for message in state["messages"]]
    assert kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
    assert not tree.open
    for model, count in openai_server.tokens.items():
        assert usage.usage_metadata[model]["input_tokens"] == count.input_tokens
        assert usage.usage_metadata[model]["output_tokens"] == count.output_tokens


def test_an_agent_escalates_in_the_middle_of_its_loop(openai_server: OpenAIServer) -> None:
    """The small model calls the tool; unsure what to make of its result, it hands over to the large one."""

    def small(request: Request) -> Reply:
        if request.messages[-1]["role"] == "tool":
            return Reply("hm", logprobs=-3.0)
        return Reply(tool_calls=[("weather", {"city": "Rome"})])

    openai_server.models = {"small": small, "large": "It is sunny in Rome."}
    agent = create_agent(ChatCascade(pair(openai_server), policy=cascading()), [weather])
    state = agent.invoke({"messages": [HumanMessage("weather in Rome?")]})
    assert [request.model for request in openai_server.requests] == ["small", "small", "large"]
    assert state["messages"][-1].text == "It is sunny in Rome."
    # The large model read the small one's tool call and its result.
    roles = [message["role"] for message in openai_server.requests[-1].messages]
    assert roles == ["user", "assistant", "tool"]


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy, lambda schema: schema])
def test_an_agent_gives_structured_responses_in_both_strategies(
    openai_server: OpenAIServer, strategy: Any
) -> None:
    model = ChatCascade(pair(openai_server), policy=always_both())
    agent = create_agent(model, [], response_format=strategy(Report))
    state = agent.invoke({"messages": [HumanMessage("weather in Rome?")]})
    assert isinstance(state["structured_response"], Report)
    assert [request.model for request in openai_server.requests] == ["small", "large"]


@pytest.mark.parametrize(("able", "expected"), [(True, "response_format"), (False, "tools")])
def test_the_agents_strategy_follows_the_common_profile(
    openai_server: OpenAIServer, able: bool, expected: str
) -> None:
    models = [
        chat(openai_server, "small", profile={"structured_output": True, "tool_calling": True}),
        chat(openai_server, "large", profile={"structured_output": able, "tool_calling": True}),
    ]
    agent = create_agent(ChatCascade(models, policy=only("small")), [], response_format=Report)
    agent.invoke({"messages": [HumanMessage("weather in Rome?")]})
    assert expected in openai_server.requests[-1].body


def test_a_graph_with_a_tool_node(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=always_both()).bind_tools([weather])

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", answer)
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    state = graph.compile().invoke({"messages": [HumanMessage("weather in Rome?")]})
    assert any(isinstance(message, ToolMessage) for message in state["messages"])
    assert isinstance(state["messages"][-1], AIMessage)


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_langgraphs_own_agent_takes_it_bound_and_unbound(openai_server: OpenAIServer) -> None:
    """It looks for the tools in the binding's arguments and binds them itself where it finds none."""
    from langgraph.prebuilt import create_react_agent

    model = ChatCascade(pair(openai_server), policy=always_both())
    for given in (model, model.bind_tools([weather])):
        state = create_react_agent(given, [weather]).invoke({"messages": [HumanMessage("weather in Rome?")]})
        assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_middleware_puts_the_composite_in_the_place_of_the_agents_model(
    openai_server: OpenAIServer, asynchronous: bool
) -> None:
    middleware = CascadeMiddleware(pair(openai_server), policy=always_both())
    agent = create_agent(chat(openai_server, "never-asked"), [weather], middleware=[middleware])
    asked = {"messages": [HumanMessage("weather in Rome?")]}
    state = await agent.ainvoke(asked) if asynchronous else agent.invoke(asked)
    assert [request.model for request in openai_server.requests] == ["small", "large"] * 2
    assert state["messages"][-1].response_metadata["cascade"]["model"] == "large"


def test_middleware_takes_a_composite_that_exists(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=only("large"))
    assert CascadeMiddleware(model).cascade is model


def test_a_message_with_an_image_goes_to_models_that_take_images(openai_server: OpenAIServer) -> None:
    blind = chat(openai_server, "small", profile={"image_inputs": False})
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    message = HumanMessage([{"type": "text", "text": "What is this?"}, image])
    model = ChatCascade([blind, chat(openai_server, "large")], policy=always_both())
    model.invoke([message])
    assert [request.model for request in openai_server.requests] == ["large"]
    assert openai_server.requests[-1].messages[0]["content"][1] == image
    both_blind = [blind, chat(openai_server, "large", profile={"image_inputs": False})]
    with pytest.raises(ConfigurationError, match="small lacks image_inputs, large lacks image_inputs"):
        ChatCascade(both_blind, policy=always_both()).invoke([message])
