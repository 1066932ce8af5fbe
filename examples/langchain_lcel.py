"""A chain with several models in the place of one.

    python -m examples.langchain_lcel

Two small local models, no network: the first answers unless it is not sure of itself, then the second is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from cascade_core import Price
from cascade_core.policy import ModelSpec, Policy
from cascade_langchain import ChatCascade
from examples.local_models import local_models

COUNTRIES = ("Austria", "Vietnam", "Nepal")


def run(models: Mapping[str, BaseChatModel], prices: Mapping[str, Price]) -> list[str]:
    """Ask in every way that a chain can be asked; the answers of the batch."""
    # Saying that the uncalibrated policy is meant; examples/langchain_calibration.py fits one.
    policy = Policy.uncalibrated([ModelSpec(name=name, price=prices[name]) for name in models])
    model = ChatCascade(models, policy=policy)
    chain = ChatPromptTemplate.from_template("What is the capital of {country}?") | model | StrOutputParser()

    print("One after the other, with every token of every model counted once:")
    with get_usage_metadata_callback() as usage:
        answers = chain.batch([{"country": country} for country in COUNTRIES])
    for country, answer in zip(COUNTRIES, answers, strict=True):
        print(f"  {country}: {answer.strip()}")
    for name, tokens in usage.usage_metadata.items():
        print(f"  {name}: {tokens['input_tokens']} tokens in, {tokens['output_tokens']} out")

    print("Streamed:", end="")
    for text in chain.stream({"country": "Peru"}):
        print(text, end="", flush=True)
    print()

    print("Why:")
    record = model.invoke("What is the capital of Mongolia?").response_metadata["cascade"]
    for call in record["calls"]:
        print(f"  {call['model']} looked {call['quality']:.0%} sure and cost ${call['cost']:.7f}")
    print(f"  so {record['model']} answered ({record['reason']}); ", end="")
    print(f"{record['reference_model']} alone would have cost ${record['reference_cost']:.7f}")

    print("As it happens:")
    asyncio.run(_watch(model))
    return answers


async def _watch(model: ChatCascade) -> None:
    async for event in model.astream_events("What is the capital of Iceland?", version="v2"):
        if event["event"] == "on_custom_event":
            about: Any = event["data"]
            print(f"  {event['name']}: {about['model']} {about.get('reason', '')}")


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as local:
        run(
            {name: model.chat_openai() for name, model in local.items()},
            {name: Price(input=model.price, output=model.price) for name, model in local.items()},
        )
