"""What a composite is made of, what it says of itself, and what it refuses."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_openai import ChatOpenAI

import cascade_langchain
from cascade_core import ConfigurationError, Policy, PolicyError, Price
from cascade_langchain import ChatCascade, UncalibratedWarning
from tests.langchain.support import PRICES, Scripted, always_both, cascading, chat, only, pair
from tests.support.openai_server import OpenAIServer, Reply


def two(**settings: Any) -> ChatCascade:
    return ChatCascade(
        [Scripted(model_name="small"), Scripted(model_name="large")], policy=cascading(), **settings
    )


# Names


def test_models_are_named_by_what_their_classes_call_it() -> None:
    class ByModel(FakeListChatModel):
        model: str = "by-model"

    class ById(FakeListChatModel):
        model_id: str = "by-id"

    class ByDeployment(FakeListChatModel):
        deployment_name: str = "by-deployment"

    names = ("by-name", "by-model", "by-id", "by-deployment")
    models = [
        Scripted(model_name="by-name"),
        *(each(responses=["x"]) for each in (ByModel, ById, ByDeployment)),
    ]
    assert tuple(ChatCascade(models, policy=cascading(0.8, names)).models) == names


def test_a_dictionary_names_the_models() -> None:
    same = Scripted(model_name="same")
    model = ChatCascade({"small": same, "large": same}, policy=cascading())
    assert tuple(model.models) == ("small", "large")


# What is refused, at construction


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "no models"),
        ([Scripted(model_name="small")], "only one model, 'small'"),
        (
            [Scripted(model_name="same"), Scripted(model_name="same")],
            "two models are named 'same'.*dictionary",
        ),
        (["gpt-4o", "gpt-4o-mini"], "'gpt-4o' is not a chat model.*init_chat_model"),
        ([Scripted(), 3], "type int is not a chat model"),
        ([Scripted(), RunnableLambda(str)], "RunnableCascade takes any other runnable"),
        ("gpt-4o", "models is of type str"),
        (Scripted(), "models is of type Scripted"),
        ({"": Scripted(), "b": Scripted()}, "'' is not a model's name"),
        ({1: Scripted(), "b": Scripted()}, "1 is not a model's name"),
    ],
)
def test_bad_models_are_one_clear_error(models: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ChatCascade(models)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"polcy": None}, "no setting 'polcy'"),
        ({"policy": 3}, "policy is of type int"),
        ({"policy": cascading(0.8, ("other", "large"))}, r"made for the models \['other', 'large'\]"),
        ({"policy": cascading(), "prices": PRICES}, "prices are part of the policy"),
        ({"prices": {"medium": Price(input=1, output=1)}}, "a price for 'medium'"),
        ({"prices": {"small": 3}}, "the price of 'small' is 3"),
        ({"prices": [3, 30]}, "prices is of type list"),
    ],
)
@pytest.mark.filterwarnings("ignore::cascade_langchain.UncalibratedWarning")
def test_bad_settings_are_one_clear_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, PolicyError), match=message):
        ChatCascade([Scripted(model_name="small"), Scripted(model_name="large")], **settings)


def test_a_policy_file_that_is_truncated_or_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(cascading().to_json()[:100])
    with pytest.raises(PolicyError, match=r"policy\.json.*truncated"):
        ChatCascade([Scripted(model_name="small"), Scripted(model_name="large")], policy=path)
    with pytest.raises(PolicyError, match="No such file"):
        ChatCascade(
            [Scripted(model_name="small"), Scripted(model_name="large")], policy=tmp_path / "none.json"
        )


def test_settings_of_the_models_inside_are_ignored_and_said_so() -> None:
    with pytest.warns(UserWarning, match="ignores max_tokens, temperature: set it on the models inside"):
        two(temperature=0, max_tokens=10)


# Policies


def test_without_a_policy_it_works_and_says_so_once(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "4", "large": "four"}
    with pytest.warns(UncalibratedWarning, match="promises nothing") as said:
        model = ChatCascade(pair(openai_server))
    assert Path(said[0].filename) == Path(__file__), "the warning points at the caller"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = model.invoke("2+2?")
        openai_server.models["small"] = Reply("hm", logprobs=-2.0)
        escalated = model.invoke("2+2?")
    assert answer.response_metadata["cascade"]["calibrated"] is False
    assert (answer.text, escalated.text) == ("4", "four")


def test_a_policy_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    cascading().save(path)
    for given in (path, str(path)):
        model = ChatCascade([Scripted(model_name="small"), Scripted(model_name="large")], policy=given)
        assert isinstance(model.policy, Policy)


def test_list_prices_and_own_prices_are_used_without_a_policy() -> None:
    models = {"gpt-4o-mini": Scripted(), "mine": Scripted()}
    with pytest.warns(UncalibratedWarning):
        model = ChatCascade(models, prices={"mine": Price(input=1, output=2)})
    record = model.invoke("2+2?").response_metadata["cascade"]
    assert record["unit"] == "usd"
    assert record["cost"] > 0


# What it says of itself


def test_it_shows_what_it_is_made_of_and_no_key(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=only("small"))
    assert repr(model) == "ChatCascade(models=['small', 'large'], policy='single')"


def test_two_composites_are_told_apart() -> None:
    composites = [
        two(),
        ChatCascade([Scripted(model_name="small"), Scripted(model_name="large")], policy=cascading(0.5)),
        ChatCascade({"small": Scripted(model_name="x"), "large": Scripted()}, policy=cascading()),
        ChatCascade(
            {"small": Scripted(model_name="small").bind(top_k=5), "large": Scripted()}, policy=cascading()
        ),
    ]
    strings = {model._get_llm_string() for model in composites}
    assert len(strings) == len(composites)
    assert two()._get_llm_string() in strings


def test_the_composite_reports_no_providers_name(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=cascading())
    assert model._get_ls_params()["ls_model_name"] == "cascade"
    assert not hasattr(model, "model_name")
    assert not hasattr(model, "model")


def test_it_is_not_serialized_by_design() -> None:
    assert not ChatCascade.is_lc_serializable()
    assert dumpd(two())["type"] == "not_implemented"


def test_its_version_is_recorded_beside_the_frameworks() -> None:
    metadata = two().metadata
    assert metadata is not None
    assert {"cascade-routing", "langchain-core"} <= set(metadata["lc_versions"])


def test_the_profile_is_what_all_models_can_do(openai_server: OpenAIServer) -> None:
    profiles: list[Any] = [
        {"max_input_tokens": 128_000, "image_inputs": True, "tool_calling": True, "name": "A"},
        {
            "max_input_tokens": 8_000,
            "image_inputs": False,
            "tool_calling": True,
            "name": "B",
            "pdf_inputs": True,
        },
    ]
    models = [
        chat(openai_server, name, profile=p) for name, p in zip(("small", "large"), profiles, strict=True)
    ]
    model = ChatCascade(models, policy=cascading())
    assert model.profile == {"max_input_tokens": 8_000, "image_inputs": False, "tool_calling": True}
    assert two().profile is None
    assert two(profile={"image_inputs": True}).profile == {"image_inputs": True}


def test_tokens_are_counted_by_the_first_model() -> None:
    class Counting(Scripted):
        def get_token_ids(self, text: str) -> list[int]:
            return [len(word) for word in text.split()]

    model = ChatCascade([Counting(model_name="small"), Scripted(model_name="large")], policy=cascading())
    assert model.get_token_ids("one two three") == [3, 3, 5]
    assert model.get_num_tokens("one two three") == 3
    assert model.get_num_tokens_from_messages([HumanMessage("one two")]) > 0
    own = ChatCascade(list(model.models.values()), policy=cascading(), custom_get_token_ids=lambda text: [1])
    assert own.get_num_tokens("one two three") == 1


# Configuration of the models inside


def test_stop_arguments_and_configuration_reach_the_models(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=always_both())
    model.invoke("2+2?", stop=["five"], seed=7)
    assert [(request.body["stop"], request.body["seed"]) for request in openai_server.requests] == [
        (["five"], 7)
    ] * 2


def test_a_model_may_carry_arguments_of_its_own(openai_server: OpenAIServer) -> None:
    small, large = pair(openai_server)
    model = ChatCascade([small.bind(seed=1), large.with_retry()], policy=always_both())
    assert tuple(model.models) == ("small", "large")
    model.invoke("2+2?")
    assert [request.body.get("seed") for request in openai_server.requests] == [1, None]
    model.bind_tools([_add]).invoke("add")
    assert [request.body.get("seed") for request in openai_server.requests[2:]] == [1, None]
    assert all(request.body["tools"] for request in openai_server.requests[2:])


def test_configurable_fields_of_the_models_are_those_of_the_composite(openai_server: OpenAIServer) -> None:
    small, large = pair(openai_server)
    configurable = small.configurable_fields(temperature=ConfigurableField(id="heat"))
    model = ChatCascade([configurable, large], policy=always_both())
    assert [spec.id for spec in model.config_specs] == ["heat"]
    model.with_config(configurable={"heat": 0.25}).invoke("2+2?")
    assert [request.body.get("temperature") for request in openai_server.requests] == [0.25, None]


def test_the_policy_itself_is_configurable(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=only("small"))
    configurable = model.configurable_fields(policy=ConfigurableField(id="policy"))
    configurable.with_config(configurable={"policy": only("large")}).invoke("2+2?")
    assert [request.model for request in openai_server.requests] == ["large"]


def test_a_model_can_be_pinned(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=cascading())
    model.invoke("2+2?", model="large")
    model.bind(model="large").invoke("2+2?")
    list(model.stream("2+2?", model="large"))
    assert [request.model for request in openai_server.requests] == ["large"] * 3
    with pytest.raises(
        ConfigurationError, match=r"unknown model 'medium': expected one of \['small', 'large'\]"
    ):
        model.invoke("2+2?", model="medium")


def test_log_probabilities_are_asked_for_only_where_the_user_did(openai_server: OpenAIServer) -> None:
    ChatCascade(pair(openai_server), policy=always_both()).invoke("2+2?")
    assert [request.body.get("logprobs") for request in openai_server.requests] == [True, None]


def test_answers_are_cached_once_by_the_models(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Reply("hm", logprobs=-2.0), "large": "four"}
    cache = InMemoryCache()
    set_llm_cache(cache)
    try:
        model = ChatCascade(pair(openai_server), policy=cascading())
        first, again = model.invoke("2+2?"), model.invoke("2+2?")
    finally:
        set_llm_cache(None)
    assert first.text == again.text == "four"
    assert [request.model for request in openai_server.requests] == ["small", "large"]
    assert len(cache._cache) == 2, "an entry for each model and none for the composite"


def test_cache_and_rate_limiter_of_the_composite_work_at_the_models(openai_server: OpenAIServer) -> None:
    class Counting(InMemoryRateLimiter):
        acquired: int = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            self.acquired += 1
            return True

    cache, limiter = InMemoryCache(), Counting(requests_per_second=1)
    model = ChatCascade(pair(openai_server), policy=always_both(), cache=cache, rate_limiter=limiter)
    model.invoke("2+2?")
    model.invoke("2+2?")
    assert len(cache._cache) == 2
    assert limiter.acquired == 2, "what is cached is not limited"
    assert all(each.cache is None for each in model.models.values()), (
        "the user's own models are left as they were"
    )


@pytest.mark.parametrize(
    "later", [setattr, lambda model, name, value: model.model_copy(update={name: value})]
)
def test_they_may_be_set_later(openai_server: OpenAIServer, later: Any) -> None:
    model = ChatCascade(pair(openai_server), policy=only("small"))
    model.invoke("2+2?")
    cache = InMemoryCache()
    model = later(model, "cache", cache) or model
    model.invoke("2+2?")
    model.invoke("2+2?")
    assert len(openai_server.requests) == 2
    assert len(cache._cache) == 1


def test_a_cached_answer_without_token_counts_is_an_answer() -> None:
    """Models on one's own machine often count no tokens, and a cache then adds a cost of 0 and nothing else."""
    models = {name: FakeListChatModel(responses=[name], cache=InMemoryCache()) for name in ("small", "large")}
    model = ChatCascade(models, policy=always_both())
    assert [model.invoke("2+2?").text for _ in range(2)] == ["large", "large"]


def test_the_output_version_of_the_composite_is_that_of_the_answer(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "4"}
    answer = ChatCascade(pair(openai_server), policy=only("small"), output_version="v1").invoke("2+2?")
    assert isinstance(answer.content, list)
    assert answer.text == "4"


# Copies


def test_copies_share_models_and_health_and_no_query(openai_server: OpenAIServer) -> None:
    model = ChatCascade(pair(openai_server), policy=only("small"))
    for twin in (model.model_copy(), copy.copy(model), model.model_copy(update={"policy": only("large")})):
        assert isinstance(twin, ChatCascade)
        assert twin.models is model.models
        twin.invoke("2+2?")
    assert [request.model for request in openai_server.requests] == ["small", "small", "large"]


def test_models_that_cannot_be_deep_copied_are_no_hindrance(openai_server: OpenAIServer) -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(chat(openai_server))
    model = ChatCascade(pair(openai_server), policy=only("small"))
    assert model.bind_tools([_add]).with_config(tags=["x"]).with_retry().invoke("2+2?") is not None


def test_the_users_models_are_not_changed(openai_server: OpenAIServer) -> None:
    models = pair(openai_server)
    before = [model.model_dump() for model in models]
    ChatCascade(models, policy=always_both()).invoke("2+2?")
    assert [model.model_dump() for model in models] == before
    assert all(model.disable_streaming is False and model.tags is None for model in models)


def test_public_names_are_all_there_and_lazy() -> None:
    assert set(cascade_langchain.__all__) <= set(dir(cascade_langchain))
    for name in cascade_langchain.__all__:
        assert getattr(cascade_langchain, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ChatCascadee'"):
        _ = cascade_langchain.ChatCascadee
    assert issubclass(ChatCascade, BaseChatModel)


def test_chat_openai_inside_keeps_its_own_type(openai_server: OpenAIServer) -> None:
    assert all(
        isinstance(model, ChatOpenAI)
        for model in ChatCascade(pair(openai_server), policy=cascading()).models.values()
    )


def _add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
