"""The outer run is a chain run, the models' runs are below it, and every token is counted once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.callbacks import (
    CallbackManager,
    UsageMetadataCallbackHandler,
    get_usage_metadata_callback,
)
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnablePassthrough
from langchain_core.runnables.config import var_child_runnable_config

from cascade_core import Policy
from cascade_langchain import ChatCascade
from tests.langchain.support import RunTree, always_both, cascading, only, pair
from tests.support.openai_server import HttpError, OpenAIServer, Reply

UNSURE = Reply("perhaps four", logprobs=-2.0)
Entry = Callable[[ChatCascade, RunnableConfig], Awaitable[list[AIMessage]]]


async def _invoke(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [model.invoke("2+2?", config)]


async def _ainvoke(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [await model.ainvoke("2+2?", config)]


async def _stream(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [_sum(list(model.stream("2+2?", config)))]


async def _astream(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [_sum([chunk async for chunk in model.astream("2+2?", config)])]


async def _batch(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return model.batch(["2+2?", "2+2?", "2+2?"], config)


async def _abatch(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return await model.abatch(["2+2?", "2+2?", "2+2?"], config)


async def _generate(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    result = model.generate([[HumanMessage("2+2?")]], callbacks=config.get("callbacks"))
    assert result.run is not None
    return [result.generations[0][0].message]  # type: ignore[union-attr]


async def _agenerate(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    conversations = [[HumanMessage("2+2?")], [HumanMessage("2+2?")]]
    result = await model.agenerate(conversations, callbacks=config.get("callbacks"))
    return [generations[0].message for generations in result.generations]  # type: ignore[union-attr]


async def _events_v2(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    events = [event async for event in model.astream_events("2+2?", config, version="v2")]
    assert events[0]["event"] == "on_chain_start"
    assert [e["data"]["chunk"] for e in events if e["event"] == "on_chain_stream"], "the outer run streams"
    return [events[-1]["data"]["output"]]


async def _events_v3(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [model.stream_events("2+2?", config, version="v3").output]


async def _aevents_v3(model: ChatCascade, config: RunnableConfig) -> list[AIMessage]:
    return [await (await model.astream_events("2+2?", config, version="v3"))]


ENTRIES = (
    _invoke,
    _ainvoke,
    _stream,
    _astream,
    _batch,
    _abatch,
    _generate,
    _agenerate,
    _events_v2,
    _events_v3,
    _aevents_v3,
)


def _sum(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return chunks[0] + chunks[1:]


def _counted_by(server: OpenAIServer) -> dict[str, tuple[int, int]]:
    return {model: (count.input_tokens, count.output_tokens) for model, count in server.tokens.items()}


def _counted_in(usage: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {model: (count["input_tokens"], count["output_tokens"]) for model, count in usage.items()}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("policy", "models"),
    [(only("small"), ["small"]), (only("large"), ["large"]), (cascading(), ["small", "large"])],
    ids=["one call", "one call, of the last", "draft rejected"],
)
async def test_the_tree_is_nested_and_tokens_are_counted_once(
    openai_server: OpenAIServer, entry: Entry, policy: Policy, models: list[str]
) -> None:
    openai_server.models = {"small": UNSURE, "large": "four"}
    tree, usage = RunTree(), UsageMetadataCallbackHandler()
    answers = await entry(ChatCascade(pair(openai_server), policy=policy), {"callbacks": [tree, usage]})
    assert tree.roots == [["ChatCascade", *([model] for model in models)]] * len(answers)
    assert not tree.open
    assert [kind for kind in tree.kinds.values()].count("chain") == len(answers)
    assert _counted_in(usage.usage_metadata) == _counted_by(openai_server)
    for answer in answers:
        record = answer.response_metadata["cascade"]
        assert [call["model"] for call in record["calls"]] == models
        assert record["model"] == models[-1] == answer.response_metadata["model_name"]


@pytest.mark.parametrize("entry", ENTRIES)
async def test_tokens_are_counted_once_by_handlers_from_the_context(
    openai_server: OpenAIServer, entry: Entry
) -> None:
    openai_server.models = {"small": UNSURE, "large": "four"}
    with get_usage_metadata_callback() as usage:
        await entry(ChatCascade(pair(openai_server), policy=cascading()), {})
    assert _counted_in(usage.usage_metadata) == _counted_by(openai_server)
    assert set(usage.usage_metadata) == {"small", "large"}


@pytest.mark.parametrize("entry", ENTRIES)
async def test_a_failed_call_is_closed_below_the_outer_run(openai_server: OpenAIServer, entry: Entry) -> None:
    openai_server.models = {"small": HttpError(500), "large": "four"}
    tree = RunTree()
    answers = await entry(ChatCascade(pair(openai_server), policy=cascading()), {"callbacks": [tree]})
    assert tree.roots == [["ChatCascade", ["small"], ["large"]]] * len(answers)
    assert not tree.open
    assert {answer.text.strip() for answer in answers} == {"four"}


def test_the_composite_nests_in_a_chain_under_the_name_it_is_given(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=always_both())
    chain = (
        ChatPromptTemplate.from_template("{question}")
        | model.with_config(run_name="answer")
        | StrOutputParser()
    )
    tree = RunTree()
    chain.invoke({"question": "2+2?"}, {"callbacks": [tree]})
    assert tree.roots == [
        ["RunnableSequence", ["ChatPromptTemplate"], ["answer", ["small"], ["large"]], ["StrOutputParser"]]
    ]


def test_drafts_are_tagged_and_the_last_call_is_not(openai_server: OpenAIServer) -> None:
    tree = RunTree()
    ChatCascade(pair(openai_server), policy=always_both()).invoke(
        "2+2?", {"callbacks": [tree], "tags": ["mine"]}
    )
    tags = {tree.nodes[run_id][0]: tags for run_id, tags in tree.tags.items()}
    assert "nostream" in tags["small"]
    assert "nostream" not in tags["large"]
    assert all("mine" in of_run for of_run in tags.values())


def test_decisions_are_custom_events_of_the_outer_run(openai_server: OpenAIServer) -> None:
    tree = RunTree()
    answer = ChatCascade(pair(openai_server), policy=always_both()).invoke("2+2?", {"callbacks": [tree]})
    outer = next(run_id for run_id, kind in tree.kinds.items() if kind == "chain")
    assert [(name, run_id) for name, _, run_id in tree.custom] == [
        ("cascade_call", outer),
        ("cascade_call", outer),
        ("cascade_stop", outer),
    ]
    assert [data["final"] for name, data, _ in tree.custom if name == "cascade_call"] == [False, True]
    assert tree.custom[-1][1] == answer.response_metadata["cascade"]


@pytest.mark.parametrize("entry", ENTRIES)
async def test_what_the_composite_was_built_with_holds_for_its_models_runs(
    openai_server: OpenAIServer, entry: Entry
) -> None:
    """A handler that counted the tokens of a bare model counts those of the composite in its place."""
    tree, usage = RunTree(), UsageMetadataCallbackHandler()
    model = ChatCascade(
        pair(openai_server),
        policy=always_both(),
        callbacks=[tree, usage],
        tags=["joke"],
        metadata={"user": "me"},
    )
    answers = await entry(model, {"callbacks": [usage]})
    assert tree.roots == [["ChatCascade", ["small"], ["large"]]] * len(answers)
    assert not tree.open
    assert _counted_in(usage.usage_metadata) == _counted_by(openai_server), "told once, though given twice"
    assert all("joke" in tags for tags in tree.tags.values())
    assert {metadata["user"] for metadata in tree.metadata.values()} == {"me"}


def test_a_manager_may_be_what_it_was_built_with(openai_server: OpenAIServer) -> None:
    usage = UsageMetadataCallbackHandler()
    model = ChatCascade(pair(openai_server), policy=always_both(), callbacks=CallbackManager([usage]))
    model.invoke("2+2?")
    assert _counted_in(usage.usage_metadata) == _counted_by(openai_server)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_bindings_inside_nest_in_a_chain_as_well(
    openai_server: OpenAIServer, asynchronous: bool
) -> None:
    """Bindings merge their configuration with the implicit one, which inside a chain is the chain's."""
    small, large = pair(openai_server)
    model = ChatCascade([small.bind(seed=1), large.with_config(tags=["mine"])], policy=always_both())
    chain = RunnablePassthrough() | model.bind_tools([_add])
    nested = [["RunnableSequence", ["RunnablePassthrough"], ["ChatCascade", ["small"], ["large"]]]]
    tree, streamed = RunTree(), RunTree()
    if asynchronous:
        await chain.ainvoke("2+2?", {"callbacks": [tree]})
        assert [chunk async for chunk in chain.astream("2+2?", {"callbacks": [streamed]})]
    else:
        chain.invoke("2+2?", {"callbacks": [tree]})
        assert list(chain.stream("2+2?", {"callbacks": [streamed]}))
    assert tree.roots == streamed.roots == nested
    assert var_child_runnable_config.get() is None


def _add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
