"""An episode is a state machine: these are its rules."""

from __future__ import annotations

import pytest

from cascade_core import (
    AllModelsFailedError,
    Answer,
    Call,
    CascadeError,
    ConfigurationError,
    Limits,
    ModelSpec,
    Policy,
    Price,
    Query,
    Stop,
    Usage,
)
from cascade_core.estimation import Uncalibrated
from cascade_core.strategies import Routing, SingleModel, Strategy, ThresholdCascade

SURE = Answer(text="Paris", logprobs=(-0.01,), usage=Usage(input_tokens=100, output_tokens=100))
UNSURE = Answer(text="Rome", logprobs=(-2.0,), usage=Usage(input_tokens=100, output_tokens=100))
EMPTY = Answer(text="  ", usage=Usage(input_tokens=100, output_tokens=100))
PRICES = {
    "small": Price(input=1, output=1),
    "medium": Price(input=2, output=2),
    "large": Price(input=10, output=10),
}


def policy(strategy: Strategy | None = None, **limits: float) -> Policy:
    models = tuple(ModelSpec(name=name, price=price) for name, price in PRICES.items())
    return Policy(
        models=models,
        estimator=Uncalibrated(tuple(PRICES.values())),
        strategy=strategy or ThresholdCascade(threshold=0.8),
        limits=Limits(**limits),
    )


def run(episode, **outcomes):
    """Play the scripted outcome of each model; return the models called and the stop."""
    called = []
    while isinstance(step := episode.next(), Call):
        called.append(step.model)
        outcome = outcomes[step.model]
        if isinstance(outcome, Exception):
            episode.fail(outcome)
        else:
            episode.observe(outcome)
    return called, step


def test_stops_at_the_first_answer_that_is_good_enough():
    called, stop = run(policy().start("q"), small=UNSURE, medium=SURE)
    assert called == ["small", "medium"]
    assert stop == Stop(model="medium", reason="good_enough")


def test_returns_the_last_answer_when_all_models_have_run():
    called, stop = run(policy().start("q"), small=UNSURE, medium=UNSURE, large=UNSURE)
    assert called == ["small", "medium", "large"]
    assert stop == Stop(model="large", reason="exhausted")


def test_next_after_the_stop_returns_the_same_stop():
    episode = policy().start("q")
    _, stop = run(episode, small=SURE)
    assert episode.next() == stop


def test_a_failed_model_is_left_out_and_the_next_one_answers():
    episode = policy().start("q")
    called, stop = run(episode, small=TimeoutError("secret-key"), medium=SURE)
    assert called == ["small", "medium"]
    assert stop.model == "medium"
    assert episode.record.calls[0].error == "TimeoutError"
    assert "secret-key" not in episode.record.model_dump_json()


def test_an_answer_in_hand_survives_the_failure_of_every_later_model():
    called, stop = run(policy().start("q"), small=UNSURE, medium=OSError("a"), large=OSError("b"))
    assert called == ["small", "medium", "large"]
    assert stop == Stop(model="small", reason="failed")


def test_when_no_model_answers_the_error_names_each_and_what_it_said():
    with pytest.raises(
        AllModelsFailedError, match=r"small: OSError: a; medium: ValueError: b; large: OSError: c"
    ) as info:
        run(policy().start("q"), small=OSError("a"), medium=ValueError("b"), large=OSError("c"))
    assert list(info.value.failures) == ["small", "medium", "large"]


@pytest.mark.parametrize(
    "unusable", [EMPTY, Answer(text="{oops", parse_error=True)], ids=["empty", "unparsable"]
)
def test_an_unusable_answer_escalates_even_under_routing(unusable):
    called, stop = run(policy(SingleModel(model=0)).start("q"), small=unusable, medium=SURE, large=SURE)
    assert called[0] == "small"
    assert len(called) == 2
    assert stop.model == called[1]


def test_an_unusable_answer_is_returned_if_nothing_better_comes():
    _, stop = run(policy().start("q"), small=EMPTY, medium=OSError(), large=OSError())
    assert stop == Stop(model="small", reason="failed")


def test_an_answer_with_only_tool_calls_is_usable():
    _, stop = run(policy().start("q"), small=Answer(text="", tool_calls=1))
    assert stop == Stop(model="small", reason="good_enough")


def test_one_call_strategies_announce_their_call_as_final():
    assert policy(Routing(lam=0.0)).start("q").next().final
    assert not policy().start("q").next().final


def test_the_last_model_of_a_cascade_is_final():
    episode = policy().start("q", excluded=["large"])
    assert not episode.next().final
    episode.observe(UNSURE)
    assert episode.next().final


def test_a_released_answer_is_the_answer_even_if_an_earlier_one_looks_better():
    episode = policy().start("q", only=["small", "large"])
    episode.next()
    episode.observe(UNSURE)
    assert episode.next() == Call(model="large", final=True)
    episode.observe(Answer(text="I'm sorry, no."), released=True)
    assert episode.next() == Stop(model="large", reason="released")


def test_max_calls_ends_the_cascade():
    called, stop = run(policy(max_calls=1).start("q"), small=UNSURE)
    assert called == ["small"]
    assert stop == Stop(model="small", reason="limit")


def test_only_the_last_call_within_the_limit_is_final():
    episode = policy(max_calls=2).start("q")
    assert episode.next() == Call(model="small", final=False)
    episode.observe(UNSURE)
    assert episode.next() == Call(model="medium", final=True)


def test_max_calls_does_not_forbid_the_first_answer():
    called, stop = run(policy(max_calls=1).start("q"), small=OSError(), medium=UNSURE)
    assert called == ["small", "medium"]
    assert stop.model == "medium"


def test_max_cost_forbids_a_later_call_but_not_the_first():
    cost_of_one = PRICES["small"].dollars(Usage(input_tokens=1, output_tokens=200))
    called, stop = run(policy(max_cost=cost_of_one).start("q"), small=UNSURE)
    assert called == ["small"]
    assert stop.reason == "limit"


def test_costs_are_billed_tokens_times_price_and_sum_over_drafts():
    episode = policy().start("q")
    run(episode, small=UNSURE, medium=SURE)
    record = episode.record
    assert [call.cost for call in record.calls] == pytest.approx([200 * 1e-6, 400 * 1e-6])
    assert record.cost == pytest.approx(600 * 1e-6)
    assert record.reference_model == "large"
    assert record.reference_cost == pytest.approx((1 + 200) * 10e-6)


def test_a_call_without_usage_is_booked_at_its_expected_cost():
    episode = policy().start("q")
    run(episode, small=Answer(text="Paris", logprobs=(-0.01,)))
    call = episode.record.calls[0]
    assert call.cost == call.expected_cost > 0


def test_the_record_holds_no_text_of_query_or_answer():
    episode = policy().start("my secret question")
    run(episode, small=SURE)
    text = episode.record.model_dump_json()
    assert "secret" not in text
    assert "Paris" not in text


def test_calls_out_of_order_are_refused_with_what_to_do():
    episode = policy().start("q")
    with pytest.raises(CascadeError, match=r"next\(\) must have returned a Call"):
        episode.observe(SURE)
    with pytest.raises(CascadeError, match="has not stopped"):
        _ = episode.record
    episode.next()
    with pytest.raises(CascadeError, match=r"call observe\(answer\) or fail\(error\)"):
        episode.next()


def test_unknown_and_missing_models_are_named():
    with pytest.raises(ConfigurationError, match=r"unknown model 'tiny'.*'small', 'medium', 'large'"):
        policy().start("q", only=["tiny"])
    with pytest.raises(ConfigurationError, match="no model is left"):
        policy().start("q", excluded=list(PRICES))


def test_the_same_query_gets_the_same_side_of_a_mixture():
    mixed = policy(SingleModel(model=0))
    mixed = Policy(
        models=mixed.models,
        estimator=mixed.estimator,
        strategy=SingleModel(model=0),
        alternative=SingleModel(model=2),
        gamma=0.3,
    )
    first = [mixed.start(f"q{i}").next().model for i in range(500)]
    again = [mixed.start(Query(text=f"q{i}")).next().model for i in range(500)]
    assert first == again
    assert 0.2 < first.count("large") / 500 < 0.4
