"""Checks that cost calls, through the real client: seen by nobody, counted by everybody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.globals import set_llm_cache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from cascade_core import ConfigurationError, Policy, SelfConsistency, Verification
from cascade_core.calibration import Quality
from cascade_langchain import ChatCascade, RunnableCascade, acalibrate, calibrate
from tests.langchain.support import PRICES, RunTree, cascading, chat, pair
from tests.support.openai_server import HttpError, OpenAIServer, Reply, Request

SAMPLES = SelfConsistency(of=("small",), samples=2)
ASKED = Verification(of=("small",), by="small")


def checked(check: SelfConsistency | Verification) -> Policy:
    return replace(cascading(), check=check)


class Unsteady:
    """Says one thing after another, and then the last for ever."""

    def __init__(self, *said: str) -> None:
        self.said: Iterator[str] = iter(said)
        self.last = said[-1]

    def __call__(self, request: Request) -> Reply:
        return Reply(next(self.said, self.last))


def verifier(verdict: str, answer: str = "4") -> Any:
    def say(request: Request) -> Reply:
        return Reply(verdict if "Proposed answer" in request.text else answer)

    return say


async def run(llm: Any, how: str, question: Any) -> Any:
    """The answer that was shown, by each of the four ways to run a query."""
    if how == "invoke":
        return llm.invoke(question)
    if how == "ainvoke":
        return await llm.ainvoke(question)
    chunks = list(llm.stream(question)) if how == "stream" else [c async for c in llm.astream(question)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


WAYS = pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])


@WAYS
async def test_samples_that_agree_end_the_cascade_and_are_counted_once(
    openai_server: OpenAIServer, how: str
) -> None:
    openai_server.models = {"small": Unsteady("4", "It is 4.", "2 + 2 = 4"), "large": "four"}
    llm, tree = ChatCascade(pair(openai_server), policy=checked(SAMPLES)), RunTree()
    with get_usage_metadata_callback() as usage:
        answer = await run(llm.with_config(callbacks=[tree]), how, "2+2?")
    assert answer.text == "4"
    assert tree.roots == [["ChatCascade", ["small"], ["small"], ["small"]]]
    assert not tree.open
    counted = openai_server.tokens["small"]
    assert usage.usage_metadata["small"]["input_tokens"] == counted.input_tokens
    assert usage.usage_metadata["small"]["output_tokens"] == counted.output_tokens
    record = answer.response_metadata["cascade"]
    assert [call.get("checks") for call in record["calls"]] == [None, "small", "small"]
    assert record["calls"][0]["check"] == 1.0
    price = PRICES["small"]
    dollars = (counted.input_tokens * price.input + counted.output_tokens * price.output) / 1e6
    assert record["cost"] == pytest.approx(dollars, rel=1e-12)
    assert record["reference_model"] == "large"


@WAYS
async def test_samples_that_differ_lead_on(openai_server: OpenAIServer, how: str) -> None:
    openai_server.models = {"small": Unsteady("5", "6", "7"), "large": "four"}
    answer = await run(ChatCascade(pair(openai_server), policy=checked(SAMPLES)), how, "2+2?")
    assert answer.text == "four"
    assert [request.model for request in openai_server.requests] == ["small", "small", "small", "large"]


@WAYS
async def test_a_verification_is_a_question_of_its_own_to_the_model_named(
    openai_server: OpenAIServer, how: str
) -> None:
    check = Verification(of=("small",), by="large")
    openai_server.models = {"small": "5", "large": verifier("No", "four")}
    answer = await run(
        ChatCascade(pair(openai_server), policy=checked(check)),
        how,
        [("system", "Be brief."), ("user", "2+2?")],
    )
    assert answer.text == "four"
    asked = openai_server.requests[1]
    assert asked.model == "large"
    assert [message["role"] for message in asked.messages] == ["user"]
    assert "2+2?" in asked.text
    assert "Proposed answer:\n5" in asked.text
    calls = answer.response_metadata["cascade"]["calls"]
    assert [(call["model"], call.get("checks")) for call in calls] == [
        ("small", None),
        ("large", "small"),
        ("large", None),
    ]


@WAYS
async def test_a_check_that_fails_is_missing_and_nothing_else(openai_server: OpenAIServer, how: str) -> None:
    openai_server.models = {
        "small": lambda request: HttpError(500) if "Proposed" in request.text else Reply("4")
    }
    answer = await run(ChatCascade(pair(openai_server), policy=checked(ASKED)), how, "2+2?")
    assert answer.text == "4"  # as sure of itself as without a check
    record = answer.response_metadata["cascade"]
    assert record["calls"][1]["error"].endswith("Error")
    assert record["reason"] == "good_enough"


async def test_what_is_checked_is_not_shown_to_whoever_streams(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Unsteady("4", "5", "6"), "large": "four"}
    llm = ChatCascade(pair(openai_server), policy=checked(SAMPLES))
    assert "".join(chunk.text for chunk in llm.stream("2+2?")) == "four"
    openai_server.models["small"] = Unsteady("4", "5", "6")
    events = llm.astream_events("2+2?", version="v2")
    shown = [
        event["data"]["chunk"].text async for event in events if event["event"] == "on_chat_model_stream"
    ]
    assert "".join(shown) == "four"


def test_events_tell_of_checks_but_not_of_their_texts(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": verifier("Yes")}
    tree = RunTree()
    ChatCascade(pair(openai_server), policy=checked(ASKED)).invoke("2+2?", {"callbacks": [tree]})
    told = [data for name, data, _ in tree.custom if name == "cascade_call"]
    assert told == [{"model": "small", "final": False}, {"model": "small", "final": False, "checks": "small"}]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda model: model,
        lambda model: model.bind(stop=["!"]),
        lambda model: model.with_retry(),
        lambda model: model.configurable_fields(temperature=ConfigurableField(id="temperature")),
    ],
    ids=["plain", "bound", "retrying", "configurable"],
)
def test_no_cache_answers_for_a_sample(openai_server: OpenAIServer, wrapped: Any) -> None:
    openai_server.models = {"small": Unsteady("4", "5", "6"), "large": "four"}
    small, large = pair(openai_server)
    set_llm_cache(InMemoryCache())
    try:
        answer = ChatCascade({"small": wrapped(small), "large": large}, policy=checked(SAMPLES)).invoke(
            "2+2?"
        )
    finally:
        set_llm_cache(None)
    assert answer.response_metadata["cascade"]["calls"][0]["check"] == 0.0


class Sum(BaseModel):
    """The sum of two numbers."""

    value: int


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_objects_are_checked_as_json_by_a_model_without_the_schema(
    openai_server: OpenAIServer, method: str
) -> None:
    def small(request: Request) -> Any:
        if "Proposed answer" in request.text:
            assert not {"tools", "response_format"} & request.body.keys()
            return Reply("Yes" if '"value"' in request.text else "No")
        if method == "json_schema":
            return Reply('{"value": 4}')
        return Reply(tool_calls=[("Sum", {"value": 4})])

    openai_server.models = {"small": small}
    llm = ChatCascade(pair(openai_server), policy=checked(ASKED)).with_structured_output(Sum, method=method)
    tree = RunTree()
    assert llm.invoke("2+2?", {"callbacks": [tree]}) == Sum(value=4)
    record = next(data for name, data, _ in tree.custom if name == "cascade_stop")
    assert record["calls"][0]["check"] == pytest.approx(math.exp(-0.1))  # how sure it is of its yes

    openai_server.requests.clear()
    llm = ChatCascade(pair(openai_server), policy=checked(SAMPLES)).with_structured_output(Sum, method=method)
    assert llm.invoke("2+2?") == Sum(value=4)
    assert len(openai_server.requests_to("small")) == 3
    assert all(
        request.body.get("tools") or request.body.get("response_format") for request in openai_server.requests
    )


def test_an_answer_that_calls_tools_is_not_checked(openai_server: OpenAIServer) -> None:
    def look_up(word: str) -> str:
        """Look up a word."""
        return word

    llm = ChatCascade(pair(openai_server), policy=checked(ASKED)).bind_tools([look_up])
    answer = llm.invoke("look_up 'sky'")
    assert answer.tool_calls
    assert len(openai_server.requests) == 1


def test_whole_chains_are_sampled_and_asked_about_only_by_a_chat_model(openai_server: OpenAIServer) -> None:
    prompt = ChatPromptTemplate.from_template("Answer: {question}")
    small, large = pair(openai_server)
    arms = {"small": prompt | small | StrOutputParser(), "large": prompt | large | StrOutputParser()}
    with pytest.raises(
        ConfigurationError, match="the verification asks 'large', which is a RunnableSequence"
    ):
        RunnableCascade(arms, policy=checked(Verification(of=("small",), by="large")))

    openai_server.models = {"small": Unsteady("4", "4", "5"), "large": "four"}
    chain = RunnableCascade(arms, policy=checked(SAMPLES))
    tree = RunTree()
    assert chain.invoke({"question": "2+2?"}, {"callbacks": [tree]}) == "four"
    record = next(data for name, data, _ in tree.custom if name == "cascade_stop")
    assert record["calls"][0]["check"] == 0.5

    openai_server.models = {"small": "5", "large": verifier("No", "four")}
    mixed = {"small": StrOutputParser() | small | StrOutputParser(), "large": large}
    asked = RunnableCascade(mixed, policy=checked(Verification(of=("small",), by="large")))
    assert asked.invoke("2+2?").text == "four"


def arithmetic(request: Request) -> Reply:
    """Knows even sums, guesses at odd ones, and knows which is which."""
    if "Proposed answer" in request.text:
        asked, said = request.text.split("Proposed answer:\n")
        numbers = [int(word) for word in asked.replace("?", " ").split() if word.isdigit()]
        return Reply("Yes" if str(sum(numbers)) == said.split("\n")[0] else "No")
    numbers = [int(word) for word in request.text.replace("?", " ").split() if word.isdigit()]
    return Reply(str(sum(numbers) + (sum(numbers) % 2 if request.model == "small" else 0)))


def test_a_policy_is_calibrated_with_the_check_and_serves_with_it(
    openai_server: OpenAIServer, tmp_path: Any
) -> None:
    openai_server.models = {"small": arithmetic, "large": arithmetic}
    prompts = [
        {"text": f"What is {n} + {n * n + n // 3}?", "reference": str(n + n * n + n // 3)} for n in range(90)
    ]
    models = {"small": chat(openai_server, "small"), "large": chat(openai_server, "large")}
    options: dict[str, Any] = {
        "prices": PRICES,
        "check": ASKED,
        "make_input": lambda prompt: f"Sum! {prompt.text}",
    }
    found = calibrate(models, prompts, "exact", Quality(0.97), tmp_path / "kept.sqlite", **options)
    assert len(openai_server.requests) == 90 * 3
    assert found.policy.provenance["check"] == "kept"
    bill = sum(
        count.input_tokens * PRICES[name].input + count.output_tokens * PRICES[name].output
        for name, count in openai_server.tokens.items()
    )
    assert found.table.cost.sum() == pytest.approx(bill / 1e6, rel=1e-9)
    asked = [request for request in openai_server.requests if "Proposed answer" in request.text]
    assert len(asked) == 90
    assert not any("Sum!" in request.text for request in asked)

    calibrate(models, prompts, "exact", Quality(0.97), tmp_path / "kept.sqlite", **options)
    assert len(openai_server.requests) == 90 * 3  # nothing is paid twice

    found.policy.save(tmp_path / "policy.json")
    llm = ChatCascade(models, policy=tmp_path / "policy.json")
    assert llm.invoke("What is 20 + 30?").text == "50"
    assert llm.invoke("What is 20 + 31?").text == "51"


async def test_async_calibration_asks_the_same(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": arithmetic, "large": arithmetic}
    models = {"small": chat(openai_server, "small"), "large": chat(openai_server, "large")}
    prompts = [{"text": f"What is {n} + {n * n}?", "reference": str(n + n * n)} for n in range(45)]
    found = await acalibrate(
        models, prompts, "exact", Quality(0.9), ":memory:", prices=PRICES, check=ASKED, config={"tags": ["x"]}
    )
    asked = [request for request in openai_server.requests if "Proposed answer" in request.text]
    assert len(asked) == 45
    assert all(row[0] is not None and row[0].check in (0.0, 1.0) for row in found.table.answers)


def test_arms_that_take_no_text_cannot_be_asked_while_calibrating(openai_server: OpenAIServer) -> None:
    small, large = pair(openai_server)
    arms = {"small": small | StrOutputParser(), "large": large | StrOutputParser()}
    with pytest.raises(ConfigurationError, match="expected a chat model"):
        calibrate(arms, ["2+2?"], "exact", Quality(0.9), check=Verification(of=("small",), by="large"))
