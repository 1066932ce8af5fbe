"""An agent whose steps are answered by several models, and a conversation that it remembers.

    python -m examples.langchain_agent

The middleware puts the composite in the place of the agent's model in every step of its loop. Tools are bound to each
model its own way. (The small local models do not call any; yours will.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from cascade_core.policy import ModelSpec, Policy
from cascade_langchain import CascadeMiddleware
from examples.local_models import local_models

QUESTIONS = ("What is the capital of Austria?", "What is the opposite of noisy?", "What is 17 + 25?")


@tool
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def run(models: Mapping[str, BaseChatModel]) -> list[AIMessage]:
    """Hold one conversation; the agent's final answers."""
    policy = Policy.uncalibrated([ModelSpec(name=name) for name in models])
    *_, strongest = models.values()
    agent: Any = create_agent(
        strongest,
        [add],
        middleware=[CascadeMiddleware(models, policy=policy)],
        checkpointer=InMemorySaver(),
    )
    conversation: Any = {"configurable": {"thread_id": "example"}}
    answers = []
    for question in QUESTIONS:
        print(f"{question} ", end="")
        asked = {"messages": [("human", question)]}
        for message, _ in agent.stream(asked, conversation, stream_mode="messages"):
            if isinstance(message, (AIMessage, AIMessageChunk)):  # the answer, never a rejected draft
                print(message.text, end="", flush=True)
        answer = agent.get_state(conversation).values["messages"][-1]
        record = answer.response_metadata["cascade"]
        print(f"  [{', then '.join(call['model'] for call in record['calls'])}]")
        answers.append(answer)
    print(f"The conversation has {len(agent.get_state(conversation).values['messages'])} messages.")
    return answers


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as local:
        # The local server gives no log-probabilities for a stream with tools; the last model needs none.
        quick, thorough = local.values()
        run({quick.model: quick.chat_openai(), thorough.model: thorough.chat_openai(logprobs=None)})
