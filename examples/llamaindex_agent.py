"""An agent that escalates in mid-loop: each of its steps is a query of its own.

    python -m examples.llamaindex_agent

The smaller model is not good at deciding when to use a tool; the larger one steps in where it is unsure. Models as
small as these need worked examples of the agent's format, and a grammar that holds them to it; a model that calls
functions goes into a ``FunctionAgent`` just as it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.agent.react.types import ActionReasoningStep, BaseReasoningStep
from llama_index.core.agent.workflow import ReActAgent, ToolCallResult
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import LLM, ChatMessage

from cascade_core import ModelSpec, Policy
from cascade_core.strategies import ThresholdCascade
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM
from examples.local_models import local_models

QUESTION = "What is 47 + 26?"

EXAMPLES = """\
Question: What is 12 + 30?
Thought: I need a tool.
Action: add
Action Input: {"a": 12, "b": 30}
Observation: 42
Thought: I can answer.
Answer: 42

Question: What is 5 + 9?
Thought: I need a tool.
Action: add
Action Input: {"a": 5, "b": 9}
Observation: 14
Thought: I can answer.
Answer: 14

"""

GRAMMAR = r"""
root ::= call | answer
call ::= "Thought: I need a tool.\nAction: add\nAction Input: {\"a\": " number ", \"b\": " number "}"
answer ::= "Thought: I can answer.\nAnswer: " [^\n]+
number ::= [0-9]+
"""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Transcript(ReActChatFormatter):
    """The examples, the question and what has been done so far, as one text."""

    def format(
        self,
        tools: Sequence[Any],
        chat_history: list[ChatMessage],
        current_reasoning: list[BaseReasoningStep] | None = None,
    ) -> list[ChatMessage]:
        done = "".join(f"{_written(step)}\n" for step in current_reasoning or [])
        return [ChatMessage(f"{EXAMPLES}Question: {chat_history[-1].content}\n{done}")]


def _written(step: BaseReasoningStep) -> str:
    if isinstance(step, ActionReasoningStep):
        return (
            f"Thought: {step.thought}\nAction: {step.action}\nAction Input: {json.dumps(step.action_input)}"
        )
    return step.get_content()


class Steps(BaseEventHandler):
    """Prints who made each step."""

    def handle(self, event: BaseEvent, **_: object) -> None:
        if isinstance(event, CascadeDecisionEvent):
            tried = ", then ".join(call["model"] for call in event.record["calls"])
            print(f"  step by {event.record['model']} (tried: {tried})")


async def run(llms: Mapping[str, LLM]) -> str:
    """Let the agent work; its answer."""
    policy = Policy.uncalibrated([ModelSpec(name=name) for name in llms])
    # Set by hand between what the smaller model's good and bad steps score; calibrate finds it from data.
    llm = CascadeLLM(llms, replace(policy, strategy=ThresholdCascade(threshold=0.57)))
    get_dispatcher().add_event_handler(Steps())
    agent = ReActAgent(tools=[add], llm=llm, formatter=Transcript(), streaming=False)
    print(QUESTION)
    handler = agent.run(user_msg=QUESTION)
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            print(f"  {event.tool_name}({event.tool_kwargs}) = {event.tool_output.content}")
    answer = str(await handler)
    print(f"  {answer}")
    return answer


if __name__ == "__main__":
    held = {"extra_body": {"grammar": GRAMMAR}, "stop": ["\n\n", "Observation"]}
    with local_models(("smollm2", "gemma3-examples")) as models:
        asyncio.run(
            run(
                {
                    name: model.openai_like(max_tokens=60, additional_kwargs=held)
                    for name, model in models.items()
                }
            )
        )
