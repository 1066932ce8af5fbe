"""What every strategy promises, on arbitrary beliefs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_core.belief import Belief
from cascade_core.errors import ArrayError, ConfigurationError
from cascade_core.expected_max import expected_max, prefixes_expected_max
from cascade_core.strategies import (
    STOP,
    STRATEGIES,
    CascadeRouting,
    Cascading,
    IndexPolicy,
    LookAhead,
    MarginRule,
    Routing,
    SingleModel,
    Strategy,
    ThresholdCascade,
    look_ahead,
    strategy_from_dict,
)
from cascade_core.strategies.index import reservation_value

ALL: tuple[Strategy, ...] = (
    SingleModel(model=0),
    Routing(lam=0.5),
    ThresholdCascade(threshold=0.6),
    MarginRule(threshold=0.6),
    Cascading(lam=0.5),
    CascadeRouting(lam=0.5),
    IndexPolicy(lam=0.5),
    LookAhead(lam=0.5),
)
UNORDERED = (Routing(lam=0.5), CascadeRouting(lam=0.5), IndexPolicy(lam=0.5), LookAhead(lam=0.5))


def swapped(news: np.ndarray, order: np.ndarray, axes: int) -> np.ndarray:
    """News of agreement with the models in another order, which concerns its last ``axes`` axes and maybe B."""
    if news.shape[1] > 1:
        news = news[:, order]
    for axis in range(2, 2 + axes):
        news = np.take(news, order, axis=axis)
    return news


def by_name(strategy: Strategy) -> str:
    return strategy.name


@st.composite
def situations(draw: st.DrawFn, most: int = 5) -> tuple[Belief, np.ndarray, np.ndarray]:
    """Belief, costs and models run, with ties, zero variance, negative quality and duplicates in among them."""
    queries, models = draw(st.integers(1, 6)), draw(st.integers(1, most))
    seed, duplicates = draw(st.integers(0, 2**32 - 1)), draw(st.booleans())
    random = np.random.default_rng(seed)
    digits = draw(st.sampled_from([1, 6]))  # few digits make ties
    mean = random.normal(0.5, 0.4, (queries, models)).round(digits)
    step = random.normal(0, 0.05, (queries, models, models)).round(digits)
    sd = (random.uniform(0, 0.4, (queries, models)) * (random.random((queries, models)) < 0.8)).round(digits)
    step[:, np.arange(models), np.arange(models)] = sd
    costs = random.choice([0.0, 0.1, 0.1, 0.3, 1.0], (queries, models))
    ran = random.random((queries, models)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    step[ran] = 0.0
    others = 1 if ran.any() else models
    agree = random.uniform(0.05, 0.95, (queries, others, models))
    news = random.normal(0, 0.1, (queries, others, models, models)).round(digits)
    if ran.any():
        news[:, 0][ran | ~ran.any(axis=1, keepdims=True)] = 0.0
    if duplicates:
        for array in (mean, step, costs, ran, agree, news):
            array[:] = array[0]
    compared = draw(st.booleans())
    return Belief(mean, step, agree if compared else None, news if compared else None), costs, ran


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
@given(situation=situations(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_strategy_names_an_open_model_or_stops(
    strategy: Strategy, situation: tuple[Belief, np.ndarray, np.ndarray], seed: int
) -> None:
    belief, costs, ran = situation
    allowed = np.random.default_rng(seed).random(ran.shape) < 0.8
    choice = strategy.next_model(belief, costs, ran, allowed)
    for query, model in enumerate(choice):
        if model != STOP:
            assert allowed[query, model]
            assert not ran[query, model]
        elif not ran[query].any() and strategy.name != "margin":
            assert not allowed[query].any()
    # each query is decided on its own: in other company, and alone, the choice is the same
    alone = [
        strategy.next_model(belief.take(np.array([n])), costs[[n]], ran[[n]], allowed[[n]])[0]
        for n in range(len(choice))
    ]
    assert choice.tolist() == alone


@pytest.mark.parametrize("strategy", UNORDERED, ids=by_name)
@given(situation=situations(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_permuting_the_models_permutes_the_decisions(
    strategy: Strategy, situation: tuple[Belief, np.ndarray, np.ndarray], seed: int
) -> None:
    belief, costs, ran = situation
    random = np.random.default_rng(seed)
    mean = belief.mean + random.uniform(0, 0.01, belief.mean.shape)  # without ties
    costs = costs + random.uniform(0.001, 0.01, costs.shape)
    order = random.permutation(ran.shape[1])
    straight = strategy.next_model(replace(belief, mean=mean), costs, ran)
    other = Belief(
        mean[:, order],
        belief.step[:, order][:, :, order],
        None if belief.agree is None else swapped(belief.agree, order, 1),
        None if belief.agree_step is None else swapped(belief.agree_step, order, 2),
    )
    permuted = strategy.next_model(other, costs[:, order], ran[:, order])
    np.testing.assert_array_equal(np.where(permuted == STOP, STOP, order[permuted]), straight)


@given(situations())
@settings(max_examples=50, deadline=None)
def test_routing_is_cascade_routing_with_one_model_allowed(
    situation: tuple[Belief, np.ndarray, np.ndarray],
) -> None:
    belief, costs, ran = situation
    costs = costs + np.linspace(0.001, 0.002, costs.shape[1])
    mean = belief.mean + np.linspace(0, 0.0003, costs.shape[1])
    belief = replace(belief, mean=mean)
    planned = CascadeRouting(lam=0.7, max_models=1).next_model(belief, costs, ran)
    np.testing.assert_array_equal(planned, Routing(lam=0.7).next_model(belief, costs, ran))


@given(situations(), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_cascading_is_cascade_routing_over_the_prefixes_of_a_full_order(
    situation: tuple[Belief, np.ndarray, np.ndarray], seed: int
) -> None:
    belief, costs, ran = situation
    models = ran.shape[1]
    order = tuple(int(m) for m in np.random.default_rng(seed).permutation(models))
    ran = np.sort(ran, axis=1)[:, ::-1]  # prefixes have run
    by_order = np.zeros_like(ran)
    by_order[:, order] = ran
    choice = Cascading(lam=0.7, order=order).next_model(belief, costs, by_order)
    sd = belief.lead_sd(by_order)
    for n, model in enumerate(choice):
        done = int(ran[n].sum())
        ahead = list(order[done:])
        if not ahead:
            assert model == STOP
            continue
        in_hand = belief.mean[n, by_order[n]].max(initial=-np.inf)
        worth = prefixes_expected_max(belief.mean[[n]][:, ahead], sd[[n]][:, ahead], np.array([in_hand]))[0]
        best = (worth - 0.7 * np.cumsum(costs[n, ahead])).max()
        assert model == (ahead[0] if best > in_hand else STOP)


@given(situations())
@settings(max_examples=30, deadline=None)
def test_an_order_is_kept_with_skipping_allowed(situation: tuple[Belief, np.ndarray, np.ndarray]) -> None:
    belief, costs, _ = situation
    models = costs.shape[1]
    order = tuple(reversed(range(models)))
    strategy = CascadeRouting(lam=0.1, order=order)
    ran = np.zeros(costs.shape, dtype=bool)
    last = np.full(len(costs), models)
    for _ in range(models):
        choice = strategy.next_model(belief, costs, ran)
        going = choice != STOP
        assert (choice[going] < last[going]).all()
        last[going] = choice[going]
        ran[going, choice[going]] = True


@given(situations(most=8))
@settings(max_examples=30, deadline=None)
def test_the_bounded_search_is_exact_where_it_need_not_be_bounded(
    situation: tuple[Belief, np.ndarray, np.ndarray],
) -> None:
    belief, costs, ran = situation
    exact = CascadeRouting(lam=0.4).next_model(belief, costs, ran)
    bounded = CascadeRouting(lam=0.4, search_limit=3).next_model(belief, costs, ran)
    few = (~ran).sum(axis=1) <= 3
    np.testing.assert_array_equal(bounded[few], exact[few])
    assert not ran[bounded != STOP, bounded[bounded != STOP]].any()


def test_forty_models_are_searched_within_bounds() -> None:
    random = np.random.default_rng(0)
    belief = Belief.independent(random.uniform(0, 1, (3, 40)), np.full((3, 40), 0.3))
    choice = CascadeRouting(lam=1.0).next_model(belief, np.full((3, 40), 0.01), np.zeros((3, 40), dtype=bool))
    assert (choice != STOP).all()


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
def test_the_limit_on_models_holds(strategy: Strategy) -> None:
    limited = strategy_from_dict({**strategy.to_dict(), "max_models": 2})
    belief = Belief.independent(np.full((1, 4), 0.2), np.full((1, 4), 0.4))
    ran = np.array([[True, True, False, False]])
    assert limited.next_model(belief, np.full((1, 4), 0.001), ran).tolist() == [STOP]
    one = np.array([[True, False, False, False]])
    assert limited.is_final(np.full((1, 4), 0.001), one, 1, ~(ran | one), None)


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
@pytest.mark.parametrize("most", [0, -1, 1.5, "2"])
def test_a_limit_is_a_number_of_models(strategy: Strategy, most: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_models is .* at least 1, or None"):
        strategy_from_dict({**strategy.to_dict(), "max_models": most})


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
def test_a_strategy_survives_json(strategy: Strategy) -> None:
    again = strategy_from_dict(strategy.to_dict())
    assert type(again) is type(strategy)
    assert again.to_dict() == strategy.to_dict()


def test_an_unknown_strategy_or_option_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown strategy 'best'; expected one of \['cascade_routing'"
    ):
        strategy_from_dict({"name": "best"})
    with pytest.raises(ConfigurationError, match=r"'routing' has no option \['lambda'\]"):
        strategy_from_dict({"name": "routing", "lambda": 1.0})
    for lam in (-1.0, np.inf, np.nan):
        with pytest.raises(ConfigurationError, match="must be finite numbers that are not negative"):
            IndexPolicy(lam=lam)
    with pytest.raises(ConfigurationError, match="two models"):
        MarginRule(threshold=0.5, order=(0, 1, 2))
    with pytest.raises(ConfigurationError, match=r"order \(0, 0\)"):
        Cascading(lam=0.0, order=(0, 0)).next_model(
            Belief.independent(np.zeros((1, 2)), np.ones((1, 2))),
            np.ones((1, 2)),
            np.zeros((1, 2), dtype=bool),
        )


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
def test_bad_arrays_are_named_with_their_shape_and_the_shape_expected(strategy: Strategy) -> None:
    belief = Belief.independent(np.full((2, 3), 0.5), np.full((2, 3), 0.1))
    costs, ran = np.ones((2, 3)), np.zeros((2, 3), dtype=bool)
    with pytest.raises(ArrayError, match=r"costs has shape \(2, 2\), expected that of belief.mean, \(2, 3\)"):
        strategy.next_model(belief, costs[:, :2], ran)
    with pytest.raises(ArrayError, match=r"ran has shape \(1, 3\), expected that of belief.mean, \(2, 3\)"):
        strategy.next_model(belief, costs, ran[:1])
    with pytest.raises(ArrayError, match=r"allowed has shape"):
        strategy.next_model(belief, costs, ran, ran[:1])
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ArrayError, match="costs must be finite"):
            strategy.next_model(belief, np.full((2, 3), bad), ran)
    with pytest.raises(
        ArrayError, match=rf"{strategy.knob} has shape \(3,\), expected \(\) or \(M,\) = \(2,\)"
    ):
        strategy.with_knob(np.zeros(3, dtype=int)).next_model(belief, costs, ran)


def test_beliefs_refuse_what_is_no_number() -> None:
    with pytest.raises(ArrayError, match="finite"):
        Belief.independent(np.array([[np.nan, 0.5]]), np.zeros((1, 2)))
    with pytest.raises(ArrayError, match=r"step has shape \(1, 2\), expected \(N, K, K\) = \(1, 2, 2\)"):
        Belief(np.zeros((1, 2)), np.zeros((1, 2)))


@pytest.mark.parametrize("strategy", [s for s in ALL if s.knob == "lam"], ids=by_name)
def test_only_the_product_of_price_and_cost_matters(strategy: Strategy) -> None:
    random = np.random.default_rng(3)
    belief = Belief.independent(random.uniform(0, 1, (50, 4)), random.uniform(0, 0.4, (50, 4)))
    costs, ran = random.uniform(0.01, 1, (50, 4)), random.random((50, 4)) < 0.3
    np.testing.assert_array_equal(
        strategy.next_model(belief, costs, ran),
        strategy.with_knob(0.5e-4).next_model(belief, costs * 1e4, ran),
    )


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
def test_a_sweep_of_the_knob_is_the_same_as_one_value_at_a_time(strategy: Strategy) -> None:
    random = np.random.default_rng(4)
    belief = Belief.independent(random.uniform(0, 1, (20, 4)), random.uniform(0, 0.4, (20, 4)))
    costs, ran = random.uniform(0.01, 1, (20, 4)), random.random((20, 4)) < 0.3
    knobs = np.array([0, 1, 2]) if strategy.name == "single" else np.array([0.1, 0.5, 2.0])
    rows = np.tile(np.arange(20), 3)
    together = strategy.with_knob(np.repeat(knobs, 20)).next_model(belief, costs, ran, rows=rows)
    apart = [strategy.with_knob(knob.item()).next_model(belief, costs, ran) for knob in knobs]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_every_step_of_a_cascade_may_have_its_own_threshold() -> None:
    strategy = ThresholdCascade(threshold=0.6, step_offsets=(0.2, -0.1))  # 0.8 after the first call, then 0.5
    belief = Belief.independent(np.array([[0.7, 0.4, 0.9, 0.9]]), np.zeros((1, 4)))
    costs = np.ones((1, 4))
    chosen = []
    for calls in (1, 2, 3):
        ran = np.arange(4)[None, :] < calls
        hand = replace(belief, mean=np.where(ran, belief.mean, 0.0))
        chosen += strategy.next_model(hand, costs, ran).tolist()
    assert chosen == [1, STOP, STOP]
    lower = replace(strategy, step_offsets=(0.2, 0.15, -0.1))
    ran = np.array([[True, True, False, False]])
    assert lower.next_model(belief, costs, ran).tolist() == [2]


def test_factors_price_later_calls() -> None:
    belief = Belief.independent(np.array([[0.5, 0.55]]), np.array([[0.0, 0.3]]))
    costs, ran = np.array([[0.1, 0.1]]), np.array([[True, False]])
    assert IndexPolicy(lam=1.0).next_model(belief, costs, ran).tolist() == [1]
    assert IndexPolicy(lam=1.0, step_factors=(1.0, 5.0)).next_model(belief, costs, ran).tolist() == [STOP]


def test_the_index_policy_values_one_more_call_by_how_it_moves_the_difference() -> None:
    """Indifferent exactly where E[max] of the two correlated estimates is what is in hand plus the price."""
    step = np.zeros((1, 2, 2))
    step[0, 1] = [0.15, 0.25]  # running model 1 moves model 0 as well
    belief = Belief(np.array([[0.6, 0.55]]), step)
    gain = expected_max(belief.mean[0], np.outer(step[0, 1], step[0, 1])) - 0.6
    ran = np.array([[True, False]])
    for factor, choice in ((0.999, 1), (1.001, STOP)):
        costs = np.array([[1.0, factor * gain]])
        assert IndexPolicy(lam=1.0).next_model(belief, costs, ran).tolist() == [choice]


def test_a_call_that_moves_all_answers_alike_is_not_bought() -> None:
    step = np.zeros((1, 2, 2))
    step[0, 1] = [0.3, 0.3]
    belief = Belief(np.array([[0.6, 0.6]]), step)
    ran = np.array([[True, False]])
    for strategy in (IndexPolicy(lam=1.0), LookAhead(lam=1.0), CascadeRouting(lam=1.0), Cascading(lam=1.0)):
        assert strategy.next_model(belief, np.full((1, 2), 1e-3), ran).tolist() == [STOP]


@given(situations())
@settings(max_examples=60, deadline=None)
def test_looking_two_calls_ahead_goes_on_wherever_one_call_is_worth_it(
    situation: tuple[Belief, np.ndarray, np.ndarray],
) -> None:
    belief, costs, ran = situation
    costs = costs + 1e-6  # without a price going on and stopping may be the same
    one = IndexPolicy(lam=1.0).next_model(belief, costs, ran)
    two = LookAhead(lam=1.0).next_model(belief, costs, ran)
    clearly = reservation_value(belief.mean, belief.lead_sd(ran), costs).max(axis=1, where=~ran, initial=-9)
    clear = clearly > np.where(ran, belief.mean, -np.inf).max(axis=1) + 1e-6
    assert (two[(one != STOP) & clear] != STOP).all()


def checked_by_agreement() -> tuple[Belief, np.ndarray, np.ndarray]:
    """Model 0 has answered. Model 1 is cheap and worse; whether it agrees tells if model 0 is right."""
    mean = np.array([[0.85, 0.7, 0.95]])
    agree, news = np.array([[[0.5, 0.75, 0.5]]]), np.zeros((1, 1, 3, 3))
    news[0, 0, 1] = [
        0.22,
        0.3,
        0.03,
    ]  # standard deviations: agreement lifts model 0 by 0.127, else it drops by 0.38
    return Belief(mean, np.zeros((1, 3, 3)), agree, news), np.array([[0.1, 0.1, 2.0]]), mean == 0.85


def test_a_second_cheap_model_is_run_as_a_check_of_the_first() -> None:
    """Its answer would never be returned; it says where the dear model is worth its cost, which no set plan sees."""
    belief, costs, ran = checked_by_agreement()
    lam = 0.1  # the dear model is worth 0.95 - 0.85 = 0.1 at a price of 0.2, but 0.46 after a disagreement
    assert LookAhead(lam=lam).next_model(belief, costs, ran).tolist() == [1]
    for blind in (IndexPolicy(lam=lam), CascadeRouting(lam=lam), Cascading(lam=lam)):
        assert blind.next_model(belief, costs, ran).tolist() != [2]
    # by hand: agreement (0.75) leaves 0.85 + 0.22/√3; without it model 2 is called: 0.95 - 0.03·√3 - 0.2
    worth = 0.75 * (0.85 + 0.22 / np.sqrt(3)) + 0.25 * (0.95 - 0.03 * np.sqrt(3) - 0.2)
    for price, choice in ((worth - 0.85 - 1e-4, 1), (worth - 0.85 + 1e-4, STOP)):
        dearer = costs * [[1, price / (lam * 0.1), 1]]
        assert LookAhead(lam=lam).next_model(belief, dearer, ran).tolist() == [choice]


def test_where_one_more_call_is_all_that_is_allowed_nothing_is_bought_for_what_would_follow() -> None:
    belief, costs, ran = checked_by_agreement()
    assert LookAhead(lam=0.1, max_models=2).next_model(belief, costs, ran).tolist() == [STOP]


def test_many_decisions_are_made_in_blocks_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    shape = (40, 4)
    belief = Belief(
        random.uniform(0, 1, shape),
        random.normal(0, 0.2, (*shape, 4)),
        np.full((40, 1, 4), 0.6),
        random.normal(0, 0.1, (40, 1, 4, 4)),
    )
    costs, ran = random.uniform(0.01, 1, shape), random.random(shape) < 0.3
    rows = random.integers(0, 40, 300)
    strategy = LookAhead(lam=random.uniform(0, 2, 300))
    at_once = strategy.next_model(belief, costs, ran, rows=rows)
    monkeypatch.setattr(look_ahead, "_MOST", 64 * 7)
    np.testing.assert_array_equal(strategy.next_model(belief, costs, ran, rows=rows), at_once)


def test_the_margin_rule_returns_the_second_answer_and_looks_at_no_third_model() -> None:
    rule = MarginRule(threshold=0.7)
    belief = Belief.independent(np.array([[0.6, 0.9, 0.5]]), np.full((1, 3), 0.1))
    costs, ran = np.ones((1, 3)), np.array([[True, False, False]])
    assert rule.next_model(belief, costs, ran).tolist() == [2]
    both = np.array([[True, False, True]])
    assert rule.next_model(belief, costs, both).tolist() == [STOP]
    assert rule.answer(belief, both).tolist() == [2]


def test_the_registry_knows_every_strategy_by_its_name() -> None:
    names = {"single", "routing", "threshold", "margin", "cascading", "cascade_routing", "index"}
    names |= {"look_ahead"}
    assert set(STRATEGIES) == names


@pytest.mark.parametrize("strategy", ALL, ids=by_name)
def test_one_query_is_decided_as_among_many(strategy: Strategy) -> None:
    random = np.random.default_rng(5)
    belief = Belief.independent(random.uniform(0, 1, (30, 4)), random.uniform(0, 0.4, (30, 4)))
    costs, ran = random.uniform(0.01, 1, (30, 4)), random.random((30, 4)) < 0.3
    many = strategy.next_model(belief, costs, ran)
    for n in range(30):
        alone = Belief(belief.mean[[n]], belief.step[[n]])
        assert strategy.decide(alone, costs[[n]], ran[[n]], ~ran[[n]]) == many[n]


def test_a_call_is_final_if_nothing_may_follow_or_its_answer_can_teach_nothing() -> None:
    costs, nothing = np.full((1, 2), 0.1), np.zeros((1, 2), dtype=bool)
    rest = np.array([[False, True]])
    sure = Belief.independent(np.array([[0.9, 0.5]]), np.zeros((1, 2)))
    open_question = Belief.independent(np.array([[0.5, 0.9]]), np.zeros((1, 2)))
    assert Routing(lam=1.0).is_final(costs, nothing, 0, rest, None)
    assert not IndexPolicy(lam=1.0).is_final(costs, nothing, 0, rest, None)
    assert IndexPolicy(lam=1.0).is_final(costs, nothing, 0, rest, sure)
    assert not IndexPolicy(lam=1.0).is_final(costs, nothing, 0, rest, open_question)
    assert IndexPolicy(lam=1.0).is_final(costs, nothing, 0, np.zeros((1, 2), dtype=bool), None)
