"""Checks that cost calls, through the real client: seen by nobody, counted by everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from cascade_core import ConfigurationError, ModelSpec, Policy, Price, SelfConsistency, Verification
from cascade_core.calibration import Quality
from cascade_llamaindex import CascadeLLM, acalibrate, calibrate
from tests.llamaindex.conftest import CascadeOf, MemberOf, Recorder
from tests.support.openai_server import HttpError, OpenAIServer, Reply, Request

PRICES = {"small": Price(input=1, output=2), "large": Price(input=20, output=40)}
SAMPLES = SelfConsistency(of=("small",), samples=2)
ASKED = Verification(of=("small",), by="small")
MESSAGES = [ChatMessage("2+2?")]


def checked(check: SelfConsistency | Verification) -> Policy:
    return Policy.uncalibrated(
        [ModelSpec(name=name, price=price) for name, price in PRICES.items()], check=check
    )


def in_turn(*said: str) -> Any:
    """Says one thing after another, and then the last for ever."""
    left: Iterator[str] = iter(said)
    return lambda request: Reply(next(left, said[-1]))


def is_verification(request: Request) -> bool:
    return "Proposed answer" in request.text


async def _last(stream: Any) -> Any:
    return [chunk async for chunk in await stream][-1]


WAYS = pytest.mark.parametrize(
    "ask",
    [
        lambda llm: llm.chat(MESSAGES),
        lambda llm: list(llm.stream_chat(MESSAGES))[-1],
        lambda llm: asyncio.run(llm.achat(MESSAGES)),
        lambda llm: asyncio.run(_last(llm.astream_chat(MESSAGES))),
        lambda llm: llm.complete("2+2?"),
        lambda llm: llm.chat_with_tools([], user_msg="2+2?"),
    ],
    ids=["chat", "stream_chat", "achat", "astream_chat", "complete", "chat_with_tools"],
)


def said(response: Any) -> str:
    return str(response.message.content if hasattr(response, "message") else response.text)


@WAYS
def test_samples_that_agree_end_the_cascade_and_are_counted_once(
    ask: Any, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": in_turn("4", "It is 4.", "2 + 2 = 4"), "large": "four"}
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = cascade(policy=checked(SAMPLES), callback_manager=CallbackManager([counter]))
    response = ask(llm)
    assert said(response) == "4"
    count = openai_server.tokens["small"]
    assert len(counter.llm_token_counts) == count.calls == 3
    assert counter.prompt_llm_token_count == count.input_tokens
    assert counter.completion_llm_token_count == count.output_tokens
    record = response.additional_kwargs["cascade"]
    assert [call.get("checks") for call in record["calls"]] == [None, "small", "small"]
    assert record["calls"][0]["check"] == 1.0
    dollars = (count.input_tokens * 1 + count.output_tokens * 2) / 1e6
    assert record["cost"] == pytest.approx(dollars, rel=1e-12)


@WAYS
def test_a_verification_is_a_question_of_its_own_to_the_model_named(
    ask: Any, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {
        "small": "5",
        "large": lambda request: "No." if is_verification(request) else "four",
    }
    response = ask(cascade(policy=checked(Verification(of=("small",), by="large"))))
    assert said(response) == "four"
    assert [request.model for request in openai_server.requests] == ["small", "large", "large"]
    assert [message["role"] for message in openai_server.requests[1].messages] == ["user"]
    assert "Proposed answer:\n5" in openai_server.requests[1].text


@WAYS
def test_a_check_that_fails_is_missing_and_nothing_else(
    ask: Any, openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": lambda request: HttpError(500) if is_verification(request) else "4"}
    response = ask(cascade(policy=checked(ASKED)))
    assert said(response) == "4"
    record = response.additional_kwargs["cascade"]
    assert record["reason"] == "good_enough"
    assert record["calls"][1]["error"]


def test_what_is_checked_is_not_shown_to_whoever_streams(
    openai_server: OpenAIServer, cascade: CascadeOf, events: Recorder
) -> None:
    openai_server.models = {"small": in_turn("4", "5", "6"), "large": "four"}
    shown = [chunk.delta for chunk in cascade(policy=checked(SAMPLES)).stream_chat(MESSAGES)]
    assert "".join(shown) == "four"


class Sum(BaseModel):
    """The sum of two numbers."""

    value: int


def test_objects_are_checked_as_json_by_a_model_without_the_schema(
    openai_server: OpenAIServer, cascade: CascadeOf, events: Recorder
) -> None:
    def small(request: Request) -> Reply:
        if is_verification(request):
            assert not {"tools", "response_format"} & request.body.keys()
            return Reply("Yes" if '{"value":4}' in request.text else "No", logprobs=0)
        return Reply(tool_calls=[("Sum", {"value": 4})])

    openai_server.models = {"small": small}
    prompt = PromptTemplate("2+2?")
    assert cascade(policy=checked(ASKED)).structured_predict(Sum, prompt) == Sum(value=4)
    assert cascade(policy=checked(SAMPLES)).structured_predict(Sum, prompt) == Sum(value=4)
    from cascade_llamaindex import CascadeDecisionEvent

    records = [event.record for event in events.of(CascadeDecisionEvent)]
    assert [record["calls"][0]["check"] for record in records] == [1.0, 1.0]
    assert [len(record["calls"]) for record in records] == [2, 3]


def test_an_answer_that_calls_tools_is_not_checked(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    def look_up(word: str) -> str:
        """Look up a word."""
        return word

    llm = cascade(policy=checked(ASKED))
    response = llm.chat_with_tools([FunctionTool.from_defaults(look_up)], user_msg="look_up 'sky'")
    assert llm.get_tool_calls_from_response(response)
    assert len(openai_server.requests) == 1


def guesses_at_odd_sums(request: Request) -> Reply:
    """Knows even sums, is wrong about odd ones, and knows which is which."""
    question, _, answer = request.text.partition("\n\nProposed answer:\n")
    left, right = question.split("\n")[-1].rstrip("?").split("+")
    right_sum = int(left) + int(right)
    if is_verification(request):
        return Reply("Yes" if answer.split("\n")[0] == str(right_sum) else "No")
    return Reply(str(right_sum + (right_sum % 2 if request.model == "small" else 0)))


def test_a_policy_is_calibrated_with_the_check_and_serves_with_it(
    openai_server: OpenAIServer, member: MemberOf, tmp_path: Path
) -> None:
    openai_server.models = {"small": guesses_at_odd_sums, "large": guesses_at_odd_sums}
    members = [member(name, logprobs=False, top_logprobs=0) for name in ("small", "large")]
    prompts = [{"text": f"{n}+{n * n + n // 3}?", "reference": str(n + n * n + n // 3)} for n in range(90)]
    options: dict[str, Any] = {
        "prices": PRICES,
        "check": ASKED,
        "make_input": lambda prompt: f"Add.\n{prompt.text}",
        "store": tmp_path / "kept.sqlite",
    }
    found = calibrate(members, prompts, "exact", Quality(0.97), **options)
    assert found.policy.check == ASKED
    bill = sum(
        count.input_tokens * PRICES[name].input + count.output_tokens * PRICES[name].output
        for name, count in openai_server.tokens.items()
    )
    assert found.table.cost.sum() == pytest.approx(bill / 1e6, rel=1e-9)
    asked = [request for request in openai_server.requests if is_verification(request)]
    assert len(asked) == 90
    assert not any("Add." in request.text for request in asked)

    calibrate(members, prompts, "exact", Quality(0.97), **options)
    assert len(openai_server.requests) == 90 * 3  # nothing is paid twice

    found.policy.save(tmp_path / "policy.json")
    llm = CascadeLLM(members, policy=tmp_path / "policy.json")
    assert said(llm.chat([ChatMessage("20+30?")])) == "50"
    assert said(llm.chat([ChatMessage("20+31?")])) == "51"


async def test_async_calibration_asks_the_same(openai_server: OpenAIServer, member: MemberOf) -> None:
    openai_server.models = {"small": guesses_at_odd_sums, "large": guesses_at_odd_sums}
    members = [member(name, logprobs=False, top_logprobs=0) for name in PRICES]
    prompts = [{"text": f"{n}+{n * n}?", "reference": str(n + n * n)} for n in range(45)]
    found = await acalibrate(members, prompts, "exact", Quality(0.9), ":memory:", prices=PRICES, check=ASKED)
    assert len([request for request in openai_server.requests if is_verification(request)]) == 45
    assert all(row[0] is not None and row[0].check in (0.0, 1.0) for row in found.table.answers)


def test_a_check_of_models_that_are_not_there_is_refused_before_anything_is_called(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    members = [member(name) for name in PRICES]
    prompts = [{"text": f"{n}+{n}?", "reference": str(2 * n)} for n in range(40)]
    for check, wrong in (
        (SelfConsistency(of=("tiny",)), "names the model 'tiny'"),
        (Verification(of=("small",), by="judge"), "names the model 'judge'"),
        (SelfConsistency(of=("small", "large")), "is of all models"),
    ):
        with pytest.raises(ConfigurationError, match=wrong):
            calibrate(members, prompts, "exact", Quality(0.9), store=":memory:", prices=PRICES, check=check)
    assert not openai_server.requests
