"""Tools: each member is called its own way, its tool calls are read by itself, and agents escalate in mid-loop."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import FunctionTool

from cascade_core import ConfigurationError
from cascade_llamaindex import CascadeLLM
from cascade_llamaindex._messages import for_any_provider
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, uncalibrated
from tests.llamaindex.fakes import Foreign
from tests.support.openai_server import OpenAIServer, Reply, Request


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOL = FunctionTool.from_defaults(add)
ASKED = "Please add 2 and 3."


def after_a_tool(request: Request) -> bool:
    return request.messages[-1]["role"] == "tool"


def calls_the_tool(request: Request) -> Reply:
    """Calls the tool, and then tells its result."""
    if after_a_tool(request):
        return Reply(f"It is {request.messages[-1]['content']}.", logprobs=-0.01)
    return Reply(tool_calls=[("add", {"a": 2, "b": 3})])


def gives_up_after_the_tool(request: Request) -> Reply:
    return UNSURE if after_a_tool(request) else calls_the_tool(request)


async def _run(agent: Any) -> tuple[str, list[Any]]:
    handler = agent.run(user_msg=ASKED)
    events = [event async for event in handler.stream_events()]
    return str(await handler), [event for event in events if isinstance(event, ToolCallResult)]


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_escalates_in_mid_loop(
    streaming: bool, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": gives_up_after_the_tool, "large": calls_the_tool}
    answer, results = await _run(FunctionAgent(tools=[TOOL], llm=cascade(), streaming=streaming))
    assert answer == "It is 5."
    assert len(results) == 1
    assert [request.model for request in openai_server.requests] == ["small", "small", "large"]
    sent = openai_server.requests[-1].messages
    (call,) = next(message for message in sent if message.get("tool_calls"))["tool_calls"]
    assert call["id"] == sent[-1]["tool_call_id"], "the call of one member is answered before the other"


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_member_of_another_provider_goes_on_from_its_history(
    streaming: bool, openai_server: OpenAIServer, member: MemberOf
) -> None:
    openai_server.models = {"small": gives_up_after_the_tool}
    foreign = Foreign(replies=lambda text: "Five.")
    llm = CascadeLLM([member("small"), foreign], uncalibrated("small", "foreign"))
    answer, _ = await _run(FunctionAgent(tools=[TOOL], llm=llm, streaming=streaming))
    assert answer == "Five."
    (history,) = foreign._seen
    assert [message.role for message in history][-3:] == ["user", "assistant", "tool"]
    assert [block.tool_name for block in history[-2].blocks if isinstance(block, ToolCallBlock)] == ["add"]


async def test_and_the_other_way_round(openai_server: OpenAIServer, member: MemberOf) -> None:
    openai_server.models = {"large": lambda request: Reply(f"It is {request.messages[-1]['content']}.")}
    foreign = Foreign(
        replies=lambda text: ("add", {"a": 2, "b": 3}) if text == ASKED else "I cannot say. I'm sorry"
    )
    foreign.replies = lambda text: ("add", {"a": 2, "b": 3}) if text == ASKED else "I'm sorry, I can't."
    llm = CascadeLLM([foreign, member("large")], uncalibrated("foreign", "large"))
    answer, _ = await _run(FunctionAgent(tools=[TOOL], llm=llm, streaming=False))
    assert answer == "It is 5."
    (call,) = openai_server.requests[-1].messages[-2]["tool_calls"]
    assert call["function"]["name"] == "add"
    assert call["id"] == openai_server.requests[-1].messages[-1]["tool_call_id"] == "foreign-1"


def test_tool_calls_are_read_by_the_model_that_made_them(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    openai_server.models = {"openai": calls_the_tool}
    foreign = Foreign(replies=lambda text: ("add", {"a": 1, "b": 1}))
    for order in (["openai", "foreign"], ["foreign", "openai"]):
        members = {"openai": member("openai"), "foreign": foreign}
        llm = CascadeLLM({name: members[name] for name in order}, uncalibrated(*order))
        response = llm.chat_with_tools([TOOL], user_msg=ASKED)
        (call,) = llm.get_tool_calls_from_response(response)
        assert call.tool_kwargs == ({"a": 2, "b": 3} if order[0] == "openai" else {"a": 1, "b": 1})


def test_a_response_from_elsewhere_is_read_too(cascade: CascadeOf) -> None:
    block = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=[block]))
    (call,) = cascade().get_tool_calls_from_response(response)
    assert call.tool_kwargs == {"a": 1, "b": 2}
    empty = ChatResponse(message=ChatMessage(role="assistant", content="no"))
    assert cascade().get_tool_calls_from_response(empty, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="at least one tool call"):
        cascade().get_tool_calls_from_response(empty)


def test_native_tool_calls_stay_on_responses_and_are_taken_off_inputs() -> None:
    native = {"id": "7", "name": "add", "input": {"a": 1}}
    message = ChatMessage(
        role="assistant", content="", additional_kwargs={"tool_calls": [native], "name": "x"}
    )
    neutral = for_any_provider(message)
    assert message.additional_kwargs["tool_calls"] == [native]
    assert neutral.additional_kwargs == {"name": "x"}
    assert [block for block in neutral.blocks if isinstance(block, ToolCallBlock)] == [
        ToolCallBlock(tool_call_id="7", tool_name="add", tool_kwargs={"a": 1})
    ]
    openai = {"id": "8", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    message.additional_kwargs["tool_calls"] = [openai]
    assert for_any_provider(message).blocks[-1].tool_kwargs == {"a": 1}
    partial = ChatMessage(blocks=[ToolCallBlock(tool_name="add", tool_kwargs='{"a": ')])
    assert for_any_provider(partial).blocks == partial.blocks
    message.additional_kwargs["tool_calls"] = ["what is this?"]
    assert for_any_provider(message).additional_kwargs["tool_calls"] == ["what is this?"]


def test_tools_go_to_the_members_that_take_them(openai_server: OpenAIServer, member: MemberOf) -> None:
    openai_server.models = {"plain": "I am plain.", "able": calls_the_tool}
    llm = CascadeLLM(
        [member("plain", is_function_calling_model=False), member("able")], uncalibrated("plain", "able")
    )
    assert not llm.metadata.is_function_calling_model
    response = llm.chat_with_tools([TOOL], user_msg=ASKED)
    assert response.additional_kwargs["cascade"]["model"] == "able"
    assert llm.chat([ChatMessage("Hi")]).message.content == "I am plain."


def test_models_without_tools_say_so() -> None:
    llm = CascadeLLM({"a": MockLLM(), "b": MockLLM()}, uncalibrated("a", "b"))
    with pytest.raises(ConfigurationError, match=r"none of the models \['a', 'b'\] takes tools"):
        llm.chat_with_tools([TOOL], user_msg=ASKED)


async def test_agents_of_models_without_tools_reason_in_text(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    def react(request: Request) -> Reply:
        if "Observation" in str(request.messages[-1]["content"]):
            return Reply("Thought: I know.\nAnswer: It is 5.")
        return Reply('Thought: I add.\nAction: add\nAction Input: {"a": 2, "b": 3}')

    openai_server.models = {"small": UNSURE, "large": react}
    members = [member(name, is_function_calling_model=False) for name in ("small", "large")]
    answer, results = await _run(
        ReActAgent(tools=[TOOL], llm=CascadeLLM(members, uncalibrated("small", "large")))
    )
    assert answer == "It is 5."
    assert len(results) == 1


async def test_agents_hand_over_to_each_other(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    def clerk(request: Request) -> Reply:
        offered = [tool["function"]["name"] for tool in request.body["tools"]]
        if "handoff" in offered:
            return Reply(tool_calls=[("handoff", {"to_agent": "adder", "reason": "numbers"})])
        if request.messages[-1]["content"] == "5":
            return Reply("It is 5.")
        return Reply(tool_calls=[("add", {"a": 2, "b": 3})])

    openai_server.models = {"small": clerk}
    llm = cascade()
    agents = [
        FunctionAgent(name="clerk", description="Takes orders.", llm=llm, can_handoff_to=["adder"]),
        FunctionAgent(name="adder", description="Adds.", llm=llm, tools=[TOOL], can_handoff_to=[]),
    ]
    answer, results = await _run(AgentWorkflow(agents=agents, root_agent="clerk"))
    assert answer == "It is 5."
    assert [result.tool_name for result in results] == ["handoff", "add"]


def test_options_reach_the_member(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    cascade().chat_with_tools(
        [TOOL],
        user_msg=ASKED,
        chat_history=[ChatMessage(role=MessageRole.SYSTEM, content="Be brief.")],
        allow_parallel_tool_calls=True,
        tool_required=True,
        temperature=0.7,
    )
    body = openai_server.requests[0].body
    assert body["parallel_tool_calls"] is True
    assert body["tool_choice"] == "required"
    assert body["temperature"] == 0.7
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    "method",
    [
        prefix + kind
        for kind in ("chat", "complete", "chat_with_tools", "structured_predict")
        for prefix in ("", "a", "stream_", "astream_")
    ]
    + ["predict", "apredict", "stream", "astream", "get_tool_calls_from_response"],
)
def test_signatures_are_the_frameworks(method: str) -> None:
    def parameters(cls: type) -> list[tuple[str, object, object]]:
        found = inspect.signature(getattr(cls, method)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in found]

    assert parameters(CascadeLLM) == parameters(FunctionCallingLLM)
