"""A simulated episode is what the strategy would have done one call at a time."""

from __future__ import annotations

import numpy as np
import pytest

from cascade_core.belief import Belief
from cascade_core.errors import ArrayError
from cascade_core.simulate import simulate, sweep
from cascade_core.strategies import (
    STOP,
    CascadeRouting,
    Cascading,
    IndexPolicy,
    LookAhead,
    PricedStrategy,
    Routing,
    SingleModel,
    Strategy,
    ThresholdCascade,
)
from tests.core.tables import Table, table


def one_call_at_a_time(strategy: Strategy, data: Table, query: int) -> tuple[int, np.ndarray]:
    ran = np.zeros((1, data.quality.shape[1]), dtype=bool)
    while True:
        belief, costs = data.estimates(np.array([query]), ran)
        model = strategy.next_model(belief, costs, ran)[0]
        if model == STOP:
            return int(strategy.answer(belief, ran)[0]), ran[0]
        ran[0, model] = True


@pytest.mark.parametrize(
    "strategy", [IndexPolicy(lam=30.0), CascadeRouting(lam=30.0), ThresholdCascade(threshold=0.7)]
)
def test_all_queries_at_once_are_each_query_on_its_own(strategy: Strategy) -> None:
    data = table(60)
    outcome = simulate(strategy, data.estimates, data.quality, data.cost)
    for query in range(60):
        model, ran = one_call_at_a_time(strategy, data, query)
        assert outcome.model[query] == model
        np.testing.assert_array_equal(outcome.ran[query], ran)
        assert outcome.quality[query] == data.quality[query, model]
        assert outcome.cost[query] == pytest.approx(data.cost[query, ran].sum())


def test_a_sweep_is_one_simulation_a_value_and_believes_once() -> None:
    data = table(80)
    asked: list[tuple[int, ...]] = []

    def estimates(queries: np.ndarray, ran: np.ndarray) -> tuple[Belief, np.ndarray]:
        asked.extend((int(q), *np.flatnonzero(r)) for q, r in zip(queries, ran, strict=True))
        return data.estimates(queries, ran)

    knobs = np.array([3.0, 30.0, 300.0])
    swept = sweep(IndexPolicy(lam=0.0), knobs, estimates, data.quality, data.cost)
    assert len(asked) == len(set(asked))
    for i, knob in enumerate(knobs):
        alone = simulate(IndexPolicy(lam=float(knob)), data.estimates, data.quality, data.cost)
        np.testing.assert_array_equal(swept.model[i], alone.model)
        np.testing.assert_array_equal(swept.cost[i], alone.cost)


def test_each_query_may_have_its_own_knob() -> None:
    data = table(10)
    outcome = simulate(SingleModel(model=np.arange(10) % 3), data.estimates, data.quality, data.cost)
    assert outcome.model.tolist() == [n % 3 for n in range(10)]


@pytest.mark.parametrize(
    "kind", [Routing, Cascading, CascadeRouting, IndexPolicy, LookAhead], ids=lambda kind: kind.name
)
def test_expected_cost_falls_as_the_price_of_cost_rises(kind: type[PricedStrategy]) -> None:
    data = table(2000)
    curve = sweep(kind(lam=0.0), np.geomspace(1, 3000, 20), data.estimates, data.quality, data.cost)
    assert (np.diff(curve.cost.mean(axis=1)) <= 1e-12).all()


def test_duplicate_queries_get_duplicate_answers() -> None:
    data = table(5)
    twice = np.r_[np.arange(5), np.arange(5)]
    outcome = simulate(
        IndexPolicy(lam=30.0),
        lambda queries, ran: data.estimates(twice[queries], ran),
        data.quality[twice],
        data.cost[twice],
    )
    np.testing.assert_array_equal(outcome.model[:5], outcome.model[5:])


def test_more_models_than_bits_in_a_word() -> None:
    models = 70
    mean = np.linspace(0.1, 0.9, models)[None].repeat(2, axis=0)

    def estimates(queries: np.ndarray, ran: np.ndarray) -> tuple[Belief, np.ndarray]:
        sd = np.where(ran, 0.0, 0.1)
        return Belief.independent(mean[queries], sd), np.full((queries.size, models), 1e-6)

    outcome = simulate(IndexPolicy(lam=1.0), estimates, mean, np.ones((2, models)))
    assert outcome.ran.sum(axis=1).min() > 1
    assert (outcome.model == models - 1).all()


def test_tables_that_do_not_fit_are_refused() -> None:
    data = table(4)
    with pytest.raises(ArrayError, match=r"quality has shape \(4, 3\) and cost \(4, 2\)"):
        simulate(IndexPolicy(lam=1.0), data.estimates, data.quality, data.cost[:, :2])
    with pytest.raises(ArrayError, match="finite"):
        simulate(IndexPolicy(lam=1.0), data.estimates, data.quality * np.nan, data.cost)
