"""A chat engine that streams: a draft that is rejected is never shown, a last word comes as it is made.

python -m examples.llamaindex_chat
"""

from __future__ import annotations

from collections.abc import Mapping

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import LLM

from cascade_core import ModelSpec, Policy
from cascade_llamaindex import CascadeLLM
from examples.local_models import local_models

QUESTIONS = (
    "What is the capital of France?",
    "What is the currency of Japan?",
    "What is the plural of wolf?",
)


def run(llms: Mapping[str, LLM]) -> list[str]:
    """Talk; what was said."""
    llm = CascadeLLM(llms, Policy.uncalibrated([ModelSpec(name=name) for name in llms]))
    engine = SimpleChatEngine.from_defaults(llm=llm)
    for question in QUESTIONS:
        print(f"> {question}")
        for token in engine.stream_chat(question).response_gen:
            print(token, end="", flush=True)
        print()
    return [message.content or "" for message in engine.chat_history]


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as models:
        run({name: model.openai_like() for name, model in models.items()})
