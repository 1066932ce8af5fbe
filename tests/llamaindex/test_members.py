"""Members unlike each other: their names, what they can do together, their prompts and their messages."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from cascade_core import ConfigurationError, Limits, Policy, PolicyError, Price
from cascade_llamaindex import CascadeLLM, UncalibratedWarning
from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf, uncalibrated
from tests.llamaindex.fakes import Foreign, Nameless, Pulled
from tests.support.openai_server import OpenAIServer, Reply

# -- construction ----------------------------------------------------------------------------------------------------


def test_members_are_named_by_their_models(member: MemberOf) -> None:
    llm = CascadeLLM(
        [member("small"), Foreign(), Nameless(model="gpt-7")], uncalibrated("small", "foreign", "gpt-7")
    )
    assert list(llm.llms) == ["small", "foreign", "gpt-7"]


def test_or_by_a_dictionary() -> None:
    llm = CascadeLLM({"a": MockLLM(), "b": MockLLM()}, uncalibrated("a", "b"))
    assert list(llm.llms) == ["a", "b"]


@pytest.mark.parametrize(
    ("llms", "said"),
    [
        ([], "no models"),
        ([MockLLM()], "only one model"),
        ([MockLLM(), MockLLM()], "dictionary"),
        ({"a": MockLLM(), "b": "gpt-4o"}, "'b' is str: expected a LlamaIndex LLM"),
        ("gpt-4o", "expected a list of LLMs"),
        (MockLLM(), "llms is MockLLM: expected a list of LLMs"),
    ],
)
def test_what_cannot_be_members_is_named(llms: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CascadeLLM(llms)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["polcy", "temperature", "max_tokens"])
def test_a_setting_that_it_has_not_is_refused(cascade: CascadeOf, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no setting '{name}'.*belong to the models inside"):
        cascade(**{name: 1})


def test_without_a_policy_it_works_and_says_so_once(openai_server: OpenAIServer, member: MemberOf) -> None:
    openai_server.models = {"small": "Fine."}
    with pytest.warns(UncalibratedWarning, match="nothing\n?.*about quality or cost") as warned:
        llm = CascadeLLM([member("small"), member("large")], prices={"small": Price(input=1, output=2)})
    assert [Path(warning.filename).name for warning in warned] == ["test_members.py"]
    record = llm.complete("How are you?").additional_kwargs["cascade"]
    assert record["model"] == "small"
    assert record["calibrated"] is False


def test_a_policy_made_for_other_models_is_refused(member: MemberOf, tmp_path: Path) -> None:
    members = [member("small"), member("large")]
    with pytest.raises(PolicyError, match="made for the models"):
        CascadeLLM(members, uncalibrated("small", "huge"))
    with pytest.raises(ConfigurationError, match="policy is of type int"):
        CascadeLLM(members, 7)  # type: ignore[arg-type]
    path = tmp_path / "policy.json"
    uncalibrated("small", "large").save(path)
    assert CascadeLLM(members, path).policy.names == ("small", "large")
    path.write_text(path.read_text()[:100])
    with pytest.raises(PolicyError, match="truncated"):
        CascadeLLM(members, str(path))


# -- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_promises_what_all_members_keep(member: MemberOf) -> None:
    chat = member("chat", context_window=8000, max_tokens=100)
    completion = member(
        "completion", is_chat_model=False, is_function_calling_model=False, context_window=2000
    )
    told = CascadeLLM(
        [chat, completion, Nameless(model="?")], uncalibrated("chat", "completion", "?")
    ).metadata
    assert told.context_window == 2000
    assert told.num_output == 100
    assert told.is_chat_model
    assert not told.is_function_calling_model
    assert told.model_name == "cascade(chat, completion, ?)"


def test_a_member_that_cannot_say_does_not_count_against_tools() -> None:
    llm = CascadeLLM([Foreign(), Nameless(model="?")], uncalibrated("foreign", "?"))
    assert llm.metadata.is_function_calling_model
    nobody = CascadeLLM([Nameless(model="a"), Nameless(model="b")], uncalibrated("a", "b"))
    assert not nobody.metadata.is_function_calling_model


def test_a_model_that_says_it_calls_functions_must_have_the_methods() -> None:
    class Boaster(Pulled):
        @property
        def metadata(self):  # type: ignore[no-untyped-def]
            return super().metadata.model_copy(update={"is_function_calling_model": True})

    assert not CascadeLLM(
        [Foreign(), Boaster()], uncalibrated("foreign", "pulled")
    ).metadata.is_function_calling_model


def test_metadata_can_be_overridden(cascade: CascadeOf) -> None:
    llm = cascade(context_window=99_000, num_output=7, is_chat_model=False, is_function_calling_model=False)
    told = llm.metadata
    assert (told.context_window, told.num_output) == (99_000, 7)
    assert not told.is_chat_model
    assert not told.is_function_calling_model


def test_a_prompt_goes_to_the_members_whose_window_takes_it(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    members = [member("small", context_window=100), member("large", context_window=10_000)]
    llm = CascadeLLM(members, uncalibrated("small", "large"), context_window=10_000)
    openai_server.models = {"small": "short", "large": "long"}
    assert llm.complete("Read this. " * 100).text == "long"
    assert llm.complete("Read this.").text == "short"
    assert llm.complete("Read this. " * 10_000).text == "short", "where none takes it, each may try"


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_a_members_system_prompt_and_templates_are_kept(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    chat = member("chat", system_prompt="You are terse.")
    completion = member("completion", is_chat_model=False, completion_to_prompt=lambda text: f"<q>{text}</q>")
    openai_server.models = {"chat": UNSURE, "completion": UNSURE}
    llm = CascadeLLM([chat, completion], uncalibrated("chat", "completion"), system_prompt="Be polite.")
    llm.predict(PromptTemplate("Why is the {what} blue?"), what="sky")
    sent = [message["content"] for message in openai_server.requests_to("chat")[0].messages]
    assert sent == ["Be polite.", "You are terse.", "Why is the sky blue?"]
    assert openai_server.requests_to("completion")[0].body["prompt"] == (
        "Be polite.\n\n<q>Why is the sky blue?</q>"
    )


def test_a_completion_is_put_into_each_members_own_template(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    a = member("a", is_chat_model=False, completion_to_prompt=lambda text: f"[a] {text}")
    b = member("b", is_chat_model=False, completion_to_prompt=lambda text: f"[b] {text}")
    openai_server.models = {"a": UNSURE, "b": "sure"}
    CascadeLLM([a, b], uncalibrated("a", "b")).complete("hello")
    assert [request.body["prompt"] for request in openai_server.requests] == ["[a] hello", "[b] hello"]


def test_a_completion_model_answers_chats_and_a_chat_model_completes(
    openai_server: OpenAIServer, member: MemberOf
) -> None:
    openai_server.models = {"chat": UNSURE, "completion": "Blue."}
    llm = CascadeLLM(
        [member("chat"), member("completion", is_chat_model=False)], uncalibrated("chat", "completion")
    )
    assert llm.chat([ChatMessage("What colour?")]).message.content == "Blue."
    assert llm.complete("What colour?").text == "Blue."
    assert "".join(c.delta or "" for c in llm.stream_chat([ChatMessage("What colour?")])) == "Blue."


# -- messages --------------------------------------------------------------------------------------------------------


def test_inputs_are_never_changed(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": UNSURE, "large": "fine"}
    history = [ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), ChatMessage("Hello?")]
    before = [message.model_copy(deep=True) for message in history]
    llm = cascade()
    llm.chat(history)
    llm.chat_with_tools([], user_msg=ChatMessage("And now?"), chat_history=history)
    list(llm.stream_chat_with_tools([], user_msg="And now?", chat_history=history))
    assert history == before
    sent = [len(request.messages) for request in openai_server.requests]
    assert sent == [2, 2, 3, 3, 3, 3], "each member got the history once"


def test_the_query_is_the_last_user_message_and_its_length_that_of_all(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": "ok"}
    llm = cascade()
    short = llm.chat([ChatMessage("Why?")]).additional_kwargs["cascade"]
    long = llm.chat([ChatMessage(role="system", content="x" * 999), ChatMessage("Why?")]).additional_kwargs[
        "cascade"
    ]
    assert short["query"] == long["query"]


def test_limits_of_the_policy_hold(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": UNSURE, "large": "sure"}
    policy: Policy = replace(uncalibrated("small", "large"), limits=Limits(max_calls=1))
    response = cascade(policy=policy).complete("Why?")
    assert response.text == UNSURE.text
    assert response.additional_kwargs["cascade"]["reason"] == "limit"


class Sum(BaseModel):
    total: int


@pytest.mark.parametrize(
    "ask",
    [
        lambda llm, model: llm.chat([ChatMessage("2+2?")], model=model),
        lambda llm, model: list(llm.stream_chat([ChatMessage("2+2?")], model=model)),
        lambda llm, model: llm.complete("2+2?", model=model),
        lambda llm, model: asyncio.run(llm.acomplete("2+2?", model=model)),
        lambda llm, model: llm.chat_with_tools([], "2+2?", model=model),
        lambda llm, model: llm.structured_predict(Sum, PromptTemplate("2+2?"), llm_kwargs={"model": model}),
    ],
    ids=["chat", "stream_chat", "complete", "acomplete", "chat_with_tools", "structured_predict"],
)
def test_a_member_can_be_pinned(openai_server: OpenAIServer, cascade: CascadeOf, ask: Any) -> None:
    llm = cascade()
    ask(llm, "large")
    assert [request.model for request in openai_server.requests] == ["large"]
    with pytest.raises(
        ConfigurationError, match=r"unknown model 'medium': expected one of \['small', 'large'\]"
    ):
        ask(llm, "medium")


def test_log_probabilities_and_usage_reach_the_record(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": Reply("4", logprobs=-0.05, input_tokens=11, output_tokens=1)}
    (call,) = cascade().complete("2+2?").additional_kwargs["cascade"]["calls"]
    assert call["quality"] == pytest.approx(0.951, abs=1e-3)
    assert call["usage"] == {"input_tokens": 11, "output_tokens": 1, "cached_input_tokens": 0}
