"""The same decisions over any runnables."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.errors import GraphInterrupt
from pydantic import BaseModel

from cascade_core import AllModelsFailedError, Answer, ConfigurationError, Price, Query
from cascade_langchain import ChatCascade, RunnableCascade, UncalibratedWarning
from tests.langchain.support import RunTree, always_both, cascading, chat, only, pair
from tests.support.openai_server import OpenAIServer, Reply

NAMES = ("naive", "thorough")


def _say(text: str) -> RunnableLambda[Any, str]:
    return RunnableLambda(lambda _: text)


def _rag(server: OpenAIServer, model: str, documents: int) -> Runnable[str, str]:
    """A chain that reads so many documents before its model answers."""
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents([Document(f"Fact {n}.") for n in range(documents)])
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    retrieved = store.as_retriever(search_kwargs={"k": documents}) | RunnableLambda(
        lambda found: " ".join(document.page_content for document in found)
    )
    return (
        {"context": retrieved, "question": RunnablePassthrough()}
        | prompt
        | chat(server, model, logprobs=True)
        | StrOutputParser()
    )


# Chains


async def test_a_cascade_of_rag_chains_escalates_and_counts_every_token(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "I don't know.", "large": "Fact 3."}
    cascade = RunnableCascade(
        {"naive": _rag(openai_server, "small", 1), "thorough": _rag(openai_server, "large", 4)},
        policy=cascading(0.8, NAMES),
    )
    tree, usage = RunTree(), UsageMetadataCallbackHandler()
    assert cascade.invoke("Which fact?", {"callbacks": [tree, usage]}) == "Fact 3."
    assert await cascade.ainvoke("Which fact?") == "Fact 3."
    (root,) = tree.roots
    assert root[0] == "RunnableCascade"
    assert [child[0] for child in root[1:]] == ["RunnableSequence", "RunnableSequence"]
    assert not tree.open
    record = tree.custom[-1][1]
    for call, model in zip(record["calls"], ("small", "large"), strict=True):
        assert call["usage"]["input_tokens"] == usage.usage_metadata[model]["input_tokens"]
        assert call["usage"]["output_tokens"] == openai_server.tokens[model].output_tokens // 2
    assert record["cost"] == pytest.approx(sum(call["cost"] for call in record["calls"]))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize(("logprob", "arm"), [(-0.01, "naive"), (-2.0, "thorough")])
async def test_a_chain_that_returns_a_text_is_as_sure_as_its_model(
    openai_server: OpenAIServer, way: str, logprob: float, arm: str
) -> None:
    openai_server.models = {"small": Reply("Fact 1.", logprobs=logprob), "large": "Fact 3."}
    cascade = RunnableCascade(
        {"naive": _rag(openai_server, "small", 1), "thorough": _rag(openai_server, "large", 4)},
        policy=cascading(0.8, NAMES),
    )
    tree = RunTree()
    config: Any = {"callbacks": [tree]}
    if way == "ainvoke":
        await cascade.ainvoke("Which fact?", config)
    elif way == "stream":
        list(cascade.stream("Which fact?", config))
    else:
        cascade.invoke("Which fact?", config)
    record = tree.custom[-1][1]
    assert record["model"] == arm
    assert record["calls"][0]["quality"] == pytest.approx(math.exp(logprob), abs=1e-6)


def test_a_model_whose_words_are_not_the_arms_says_nothing_of_it(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Reply("fact 1", logprobs=-2.0)}
    shouting = chat(openai_server, "small", logprobs=True) | StrOutputParser() | RunnableLambda(str.upper)
    cascade = RunnableCascade({"naive": shouting, "thorough": _say("?")}, policy=cascading(0.8, NAMES))
    assert cascade.invoke("Which fact?") == "FACT 1"


def test_it_shows_its_arms_and_no_key(openai_server: OpenAIServer) -> None:
    cascade = RunnableCascade(
        {"naive": _rag(openai_server, "small", 1), "thorough": _say("?")}, policy=cascading(0.8, NAMES)
    )
    assert repr(cascade) == "RunnableCascade(arms=['naive', 'thorough'], policy='threshold')"


def test_it_composes_and_nests_in_a_chain(openai_server: OpenAIServer) -> None:
    cascade = RunnableCascade({"naive": _say(""), "thorough": _say("yes")}, policy=cascading(0.8, NAMES))
    chain = RunnablePassthrough() | cascade | RunnableLambda(str.upper)
    tree = RunTree()
    assert chain.invoke("?", {"callbacks": [tree]}) == "YES"
    inside = ["RunnableCascade", ["RunnableLambda"], ["RunnableLambda"]]
    assert tree.roots == [["RunnableSequence", ["RunnablePassthrough"], inside, ["upper"]]]


async def test_batches_and_async_batches(openai_server: OpenAIServer) -> None:
    def naive(text: str) -> str:
        return text if len(text) > 1 else ""

    cascade: RunnableCascade[str, str] = RunnableCascade(
        {"naive": naive, "thorough": lambda text: text * 2}, policy=cascading(0.8, NAMES)
    )
    assert cascade.batch(["a", "bc"]) == ["aa", "bc"]
    assert await cascade.abatch(["a", "bc"]) == ["aa", "bc"]


# Agents


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def test_a_cascade_of_agents(openai_server: OpenAIServer) -> None:
    def small(request: Any) -> Reply:
        return Reply("I cannot say.")

    openai_server.models = {"small": small}
    cascade = RunnableCascade(
        {
            "naive": create_agent(chat(openai_server, "small"), [weather]),
            "thorough": create_agent(chat(openai_server, "large"), [weather]),
        },
        policy=cascading(0.8, NAMES),
    )
    asked = {"messages": [HumanMessage("weather in Rome?")]}
    for state in (cascade.invoke(asked), await cascade.ainvoke(asked)):
        assert any(message.type == "tool" for message in state["messages"])
    assert [request.model for request in openai_server.requests] == ["small", "large", "large"] * 2


# Streaming


def _words(text: str) -> RunnableGenerator[Any, str]:
    def words(_: Iterator[Any]) -> Iterator[str]:
        yield from text.split(" ")

    async def awords(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for word in text.split(" "):
            yield word

    return RunnableGenerator(words, awords)


async def test_the_last_arm_streams_live_and_a_draft_is_shown_whole_or_not_at_all() -> None:
    def cascade(first: str) -> RunnableCascade[str, str]:
        return RunnableCascade(
            {"naive": _words(first), "thorough": _words("one two")}, policy=cascading(0.8, NAMES)
        )

    assert list(cascade("").stream("?")) == ["one", "two"]
    assert [chunk async for chunk in cascade("").astream("?")] == ["one", "two"]
    assert list(cascade("a b").stream("?")) == ["ab"]
    tree = RunTree()
    list(cascade("").stream("?", {"callbacks": [tree]}))
    assert not tree.open


async def test_models_inside_a_draft_show_nothing(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "I cannot say.", "large": "Fact 3."}
    cascade = RunnableCascade(
        {"naive": _rag(openai_server, "small", 1), "thorough": _rag(openai_server, "large", 4)},
        policy=cascading(0.8, NAMES),
    )
    tree = RunTree()
    events = [event async for event in cascade.astream_events("?", {"callbacks": [tree]}, version="v2")]
    said = "".join(str(e["data"]["chunk"].text) for e in events if e["event"] == "on_chat_model_stream")
    assert said == "Fact 3."
    assert (
        "".join(e["data"]["chunk"] for e in events if e["event"] == "on_chain_stream" and not e["parent_ids"])
        == said
    )
    assert sorted(tree.kinds.values()).count("chat_model") == 2, "who traces sees both"


def test_arms_that_are_chat_models_carry_the_record(openai_server: OpenAIServer) -> None:
    small, large = pair(openai_server)
    cascade = RunnableCascade({"small": small, "large": large}, policy=always_both())
    answer = cascade.invoke("2+2?")
    assert isinstance(answer, AIMessage)
    assert answer.response_metadata["cascade"]["model"] == "large"
    chunks = list(cascade.stream("2+2?"))
    assert ["cascade" in chunk.response_metadata for chunk in chunks][-1]
    nested = RunnableCascade(
        {"small": ChatCascade([small, large], policy=only("small")), "large": large}, policy=only("small")
    )
    assert nested.invoke("2+2?").response_metadata["cascade"]["models" if False else "model"] == "small"


# Reading inputs and outputs


class Sum(BaseModel):
    total: int


@pytest.mark.parametrize(
    ("input", "text"),
    [
        ("2+2?", "2+2?"),
        ({"question": "2+2?", "context": "…"}, "2+2?"),
        ({"messages": [HumanMessage("2+2?"), AIMessage("hm")]}, "2+2?"),
        ([HumanMessage("2+2?")], "2+2?"),
        (ChatPromptTemplate.from_template("2+2?").invoke({}), "2+2?"),
        (Sum(total=4), "total=4"),
    ],
)
def test_the_query_is_found_in_what_runnables_take(input: Any, text: str) -> None:
    tree = RunTree()
    cascade = RunnableCascade({"naive": _say("4"), "thorough": _say("four")}, policy=cascading(0.8, NAMES))
    assert cascade.invoke(input, {"callbacks": [tree]}) == "4"
    assert tree.custom[-1][1]["query"] == Query(text=text).key


@pytest.mark.parametrize(
    ("output", "usable"),
    [
        ("4", True),
        ("", False),
        ("I cannot say.", False),
        ({"answer": "4", "context": []}, True),
        ({"answer": ""}, False),
        ({"messages": [HumanMessage("2+2?"), AIMessage("4")]}, True),
        ({"messages": [HumanMessage("2+2?"), AIMessage("")]}, False),
        (AIMessage("4"), True),
        (Sum(total=4), True),
        (None, False),
        ([], False),
    ],
)
def test_the_answer_is_found_in_what_runnables_return(output: Any, usable: bool) -> None:
    cascade = RunnableCascade(
        {"naive": RunnableLambda(lambda _: output), "thorough": _say("thorough")},
        policy=cascading(0.8, NAMES),
    )
    assert (cascade.invoke("?") == "thorough") is not usable


def test_inputs_and_outputs_may_be_read_by_the_users_own_functions() -> None:
    cascade = RunnableCascade(
        {"naive": RunnableLambda(lambda _: 3), "thorough": RunnableLambda(lambda _: 4)},
        policy=cascading(0.8, NAMES),
        read_query=lambda given: Query(text="sum", id=str(given)),
        read_answer=lambda number: Answer(text=str(number), logprobs=(-5.0,) if number == 3 else (-0.01,)),
    )
    tree = RunTree()
    assert cascade.invoke((2, 2), {"callbacks": [tree]}) == 4
    assert tree.custom[-1][1]["query"] == "(2, 2)"


# Failures


async def test_it_falls_back_on_exceptions_and_says_who_said_what() -> None:
    def broken(_: Any) -> str:
        raise ValueError("out of order")

    cascade: RunnableCascade[Any, str] = RunnableCascade(
        {"naive": broken, "thorough": _say("yes")}, policy=cascading(0.8, NAMES)
    )
    assert cascade.invoke("?") == await cascade.ainvoke("?") == "yes"
    assert list(cascade.stream("?")) == ["yes"]
    both: RunnableCascade[Any, str] = RunnableCascade(
        {"naive": broken, "thorough": broken}, policy=cascading(0.8, NAMES)
    )
    with pytest.raises(AllModelsFailedError, match="naive: ValueError: out of order; thorough: ValueError"):
        both.invoke("?")


def test_an_interrupt_of_a_graph_passes() -> None:
    def interrupted(_: Any) -> str:
        raise GraphInterrupt()

    cascade: RunnableCascade[Any, str] = RunnableCascade(
        {"naive": interrupted, "thorough": _say("yes")}, policy=cascading(0.8, NAMES)
    )
    with pytest.raises(GraphInterrupt):
        cascade.invoke("?")


# What a runnable is expected to do


def test_types_are_those_of_the_arms() -> None:
    def naive(question: str) -> int:
        return 3

    def thorough(question: str) -> int:
        return 4

    cascade: RunnableCascade[str, int] = RunnableCascade(
        {"naive": naive, "thorough": thorough}, policy=cascading(2.0, NAMES)
    )
    first = RunnableLambda(naive)
    assert (cascade.InputType, cascade.OutputType) == (first.InputType, first.OutputType)
    assert cascade.get_input_jsonschema() == first.get_input_jsonschema()
    assert cascade.get_output_jsonschema()["type"] == "integer"
    assert cascade.invoke("?") == 4


def test_config_retry_and_configurable_fields(openai_server: OpenAIServer) -> None:
    seen: list[Any] = []

    def naive(_: Any, config: Any) -> str:
        seen.append((config["tags"], config["configurable"].get("user")))
        if len(seen) == 1:
            raise ValueError("once")
        return "yes"

    def broken(_: Any) -> str:
        raise ValueError("always")

    cascade: RunnableCascade[Any, str] = RunnableCascade(
        {"naive": naive, "thorough": broken}, policy=cascading(0.8, NAMES)
    )
    configured = cascade.with_config(tags=["mine"], configurable={"user": "me"})
    assert configured.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("?") == "yes"
    assert all("mine" in tags and user == "me" for tags, user in seen)
    configurable = cascade.configurable_fields(policy=ConfigurableField(id="policy"))
    swapped = configurable.with_config(configurable={"policy": only_arm("naive")})
    assert swapped.invoke("?") == "yes"


def only_arm(name: str) -> Any:
    from dataclasses import replace

    from cascade_core.strategies import SingleModel

    return replace(cascading(0.8, NAMES), strategy=SingleModel(model=NAMES.index(name)))


def test_the_graph_shows_the_arms_side_by_side() -> None:
    cascade = RunnableCascade({"naive": _say("a"), "thorough": _say("b")}, policy=cascading(0.8, NAMES))
    drawing = cascade.get_graph().draw_mermaid()
    for name in NAMES:
        assert name in drawing
    assert (RunnablePassthrough() | cascade).get_graph().draw_ascii() if _grandalf() else True
    assert (RunnablePassthrough() | cascade).get_graph().draw_mermaid()


def _grandalf() -> bool:
    from importlib.util import find_spec

    return find_spec("grandalf") is not None


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([], "the arms must be a dictionary"),
        ({"naive": _say("a")}, "only one model, 'naive'"),
        ({"naive": _say("a"), "thorough": 3}, "arm 'thorough' is not a runnable"),
        ({"": _say("a"), "thorough": _say("b")}, "the arms must be a dictionary"),
    ],
)
def test_bad_arms_are_one_clear_error(arms: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RunnableCascade(arms)
    with pytest.raises(ConfigurationError, match="no setting 'polcy'"):
        RunnableCascade({"naive": _say("a"), "thorough": _say("b")}, polcy=None)


def test_each_arm_has_a_price_of_its_own(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Reply("4", input_tokens=1_000_000, output_tokens=0)}
    chain = chat(openai_server, "small") | StrOutputParser()
    with pytest.warns(UncalibratedWarning):
        cascade = RunnableCascade(
            {"naive": chain, "thorough": chain},
            prices={"naive": Price(input=3, output=1), "thorough": Price(input=30, output=10)},
        )
    tree = RunTree()
    cascade.invoke("2+2?", {"callbacks": [tree]})
    assert tree.custom[-1][1]["cost"] == pytest.approx(3.0)
