"""Structured prediction: each member's own way; what does not parse leads on to another."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from cascade_core import AllModelsFailedError
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, Recorder, uncalibrated
from tests.llamaindex.test_streaming import only_the_first
from tests.support.openai_server import HttpError, OpenAIServer, Reply


class Animal(BaseModel):
    """An animal."""

    name: str
    legs: int


PROMPT = PromptTemplate("Name the animal called '{name}', with its 4 legs.")
REX = Animal(name="Rex", legs=4)
NOT_JSON = "It has 4 legs."


def _way(body: dict[str, Any]) -> str:
    if "response_format" in body:
        return "response_format"
    return "tools" if body.get("tools") else "text"


def test_each_member_has_its_own_way(openai_server: OpenAIServer, member: MemberOf) -> None:
    members = [
        member("formats", should_use_structured_outputs=True),
        member("calls"),
        member("writes", is_function_calling_model=False),
    ]
    openai_server.models = {"formats": NOT_JSON, "calls": UNSURE, "writes": REX.model_dump_json()}
    llm = CascadeLLM(members, uncalibrated("formats", "calls", "writes"))
    assert llm.structured_predict(Animal, PROMPT, name="Rex") == REX
    assert [_way(request.body) for request in openai_server.requests] == ["response_format", "tools", "text"]


async def test_a_failed_parse_leads_on(
    openai_server: OpenAIServer, member: MemberOf, events: Recorder
) -> None:
    members = [member(name, should_use_structured_outputs=True) for name in ("small", "large")]
    openai_server.models = {"small": NOT_JSON}
    llm = CascadeLLM(members, uncalibrated("small", "large"))
    assert llm.structured_predict(Animal, PROMPT, name="Rex") == REX
    assert await llm.astructured_predict(Animal, PROMPT, name="Rex") == REX
    assert (
        list(llm.stream_structured_predict(Animal, PROMPT, name="Rex"))[-1].model_dump() == REX.model_dump()
    )
    stream = await llm.astream_structured_predict(Animal, PROMPT, name="Rex")
    assert [partial async for partial in stream][-1].model_dump() == REX.model_dump()
    records = [event.record for event in events.of(CascadeDecisionEvent)]
    assert [[call["model"] for call in record["calls"]] for record in records] == [["small", "large"]] * 4
    assert all(record["calls"][0]["error"] == "unusable answer" for record in records)
    assert all(record["calls"][0]["usage"]["output_tokens"] > 0 for record in records), "it was paid for"


def test_an_unsure_object_leads_on(openai_server: OpenAIServer, member: MemberOf) -> None:
    members = [member(name, should_use_structured_outputs=True) for name in ("small", "large")]
    openai_server.models = {"small": Reply('{"name": "Max", "legs": 4}', logprobs=-2)}
    llm = CascadeLLM(members, uncalibrated("small", "large"))
    assert llm.structured_predict(Animal, PROMPT, name="Rex") == REX


def test_if_nothing_parses_every_members_failure_is_named(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    members = [member(name, should_use_structured_outputs=True) for name in ("small", "large")]
    llm = CascadeLLM(members, uncalibrated("small", "large"))
    for large in (NOT_JSON, HttpError(500, "out of order")):
        openai_server.models = {"small": NOT_JSON, "large": large}
        with pytest.raises(AllModelsFailedError, match=r"(?s)small: ValidationError.*large: ") as raised:
            llm.structured_predict(Animal, PROMPT, name="Rex")
        assert set(raised.value.failures) == {"small", "large"}


def test_a_model_that_cannot_be_parsed_is_not_down(openai_server: OpenAIServer, member: MemberOf) -> None:
    members = [member(name, should_use_structured_outputs=True) for name in ("small", "large")]
    openai_server.models = {"small": NOT_JSON}
    llm = CascadeLLM(members, uncalibrated("small", "large"))
    for _ in range(5):
        llm.structured_predict(Animal, PROMPT, name="Rex")
    assert len(openai_server.requests_to("small")) == 5


def test_a_last_call_grows_before_the_readers_eyes(openai_server: OpenAIServer, member: MemberOf) -> None:
    members = [member(name, should_use_structured_outputs=True) for name in ("small", "large")]
    llm = CascadeLLM(members, only_the_first("small", "large"))
    objects = list(llm.stream_structured_predict(Animal, PROMPT, name="Rex"))
    assert len(objects) > 1
    assert objects[-1].model_dump() == REX.model_dump()
    assert openai_server.requests[0].body["stream"] is True


def test_a_live_object_is_in_the_record_with_its_usage(
    openai_server: OpenAIServer, member: MemberOf, events: Recorder
) -> None:
    usage = {"stream_options": {"include_usage": True}}
    small = member("small", should_use_structured_outputs=True, additional_kwargs=usage)
    llm = CascadeLLM([small, member("large")], only_the_first("small", "large"))
    list(llm.stream_structured_predict(Animal, PROMPT, name="Rex"))
    (event,) = events.of(CascadeDecisionEvent)
    assert event.record["calls"][0]["usage"]["output_tokens"] == openai_server.tokens["small"].output_tokens


def test_options_of_the_call_are_not_shared_between_members(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": NOT_JSON}
    options = {"temperature": 0.9}
    assert cascade().structured_predict(Animal, PROMPT, llm_kwargs=options, name="Rex") == REX
    assert options == {"temperature": 0.9}
    assert [request.body["temperature"] for request in openai_server.requests] == [0.9, 0.9]


def test_system_prompts_of_cascade_and_member_are_both_sent(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    small = member("small", system_prompt="You know animals.", should_use_structured_outputs=True)
    llm = CascadeLLM([small, member("large")], uncalibrated("small", "large"), system_prompt="Be brief.")
    assert llm.structured_predict(Animal, PROMPT, name="Rex") == REX
    sent = [message["content"] for message in openai_server.requests[0].messages]
    assert sent == ["You know animals.", "Be brief.", PROMPT.format(name="Rex")]


def test_as_structured_llm(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": NOT_JSON}
    structured = cascade().as_structured_llm(Animal)
    response = structured.chat([ChatMessage("Name the animal called 'Rex', with its 4 legs.")])
    assert response.raw == REX
