"""Tuning meets budgets exactly, is unit-free, says what cannot be had, and keeps only what helps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade_core.belief import Belief
from cascade_core.errors import ConfigurationError, InfeasibleTargetError
from cascade_core.simulate import Outcome, simulate
from cascade_core.strategies import (
    CascadeRouting,
    Cascading,
    IndexPolicy,
    Routing,
    SingleModel,
    Strategy,
    ThresholdCascade,
)
from cascade_core.tuning import Curve, candidates, choose, refine, trace, tune
from tests.core.tables import Table, table

STRATEGIES = (
    IndexPolicy(lam=0.0),
    CascadeRouting(lam=0.0),
    Cascading(lam=0.0),
    Routing(lam=0.0),
    ThresholdCascade(threshold=0.0),
    SingleModel(model=0),
)


@pytest.fixture(scope="module")
def data() -> Table:
    return table(1000)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_mixing_meets_every_feasible_budget_exactly(data: Table, strategy: Strategy) -> None:
    curve = trace(strategy, data.estimates, data.quality, data.cost)
    for budget in np.geomspace(curve.cost.min(), curve.cost.max(), 7)[:-1]:
        tuned = curve.at_budget(float(budget), exact=True)
        assert tuned.cost == pytest.approx(budget, rel=1e-9)
        quality, cost = tuned.expected(data.estimates, data.quality, data.cost)
        assert cost.mean() == pytest.approx(budget, rel=1e-9)
        assert quality.mean() == pytest.approx(tuned.quality, rel=1e-9)
        assert curve.at_budget(float(budget)).quality >= tuned.quality


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
@example(seed=0, points=2, where=1.0)
@example(seed=0, points=2, where=0.0)
def test_any_budget_within_reach_is_met_exactly_and_any_quality_at_no_more_than_a_single_point_costs(
    seed: int, points: int, where: float
) -> None:
    random = np.random.default_rng(seed)
    cost = random.lognormal(0, 1, (points, 5)).round(1) + 0.1
    quality = random.random((points, 5)).round(1)
    nobody, nothing = np.zeros((points, 5), dtype=int), np.zeros((points, 5, 2), dtype=bool)
    curve = Curve(Routing(lam=0.0), np.arange(points)[::-1] / 2, Outcome(nobody, nothing, quality, cost))
    low, high = curve.cost.min(), curve.cost.max()
    budget = float(low + where * (high - low))
    assert curve.at_budget(budget, exact=True).cost == pytest.approx(budget, rel=1e-4)
    assert curve.at_budget(budget).cost <= budget * (1 + 1e-4)
    assert curve.at_budget(budget).quality >= curve.quality[curve.cost <= budget].max(initial=-1.0) - 1e-12
    target = float(curve.quality.min() + where * np.ptp(curve.quality))
    reached = curve.at_quality(target)
    assert reached.quality >= target - 1e-9
    assert reached.cost <= curve.cost[curve.quality >= target].min(initial=np.inf) + 1e-12


def test_money_that_buys_nothing_is_not_spent(data: Table) -> None:
    tuned = tune(IndexPolicy(lam=0.0), data.estimates, data.quality, data.cost, budget=100.0)
    assert tuned.alternative is None
    assert tuned.cost < data.cost.sum(axis=1).mean()


def test_costs_in_another_unit_change_nothing(data: Table) -> None:
    cents = table(1000, unit=1e4)
    for strategy in (IndexPolicy(lam=0.0), CascadeRouting(lam=0.0), ThresholdCascade(threshold=0.0)):
        one = tune(strategy, data.estimates, data.quality, data.cost, budget=0.002)
        other = tune(strategy, cents.estimates, cents.quality, cents.cost, budget=20.0)
        assert other.quality == pytest.approx(one.quality, rel=1e-9)
        assert other.cost == pytest.approx(1e4 * one.cost, rel=1e-9)
        assert other.gamma == pytest.approx(one.gamma, abs=1e-6)


def test_an_infeasible_budget_states_the_cheapest_feasible_one(data: Table) -> None:
    cheapest = data.cost.mean(axis=0).min()
    with pytest.raises(InfeasibleTargetError, match=f"cheapest way to answer, {cheapest:.6g} a query"):
        tune(candidates(agreement=False), data.estimates, data.quality, data.cost, budget=cheapest / 2)
    tuned = tune(candidates(agreement=False), data.estimates, data.quality, data.cost, budget=cheapest)
    assert tuned.cost == pytest.approx(cheapest)


def test_an_infeasible_quality_states_the_best(data: Table) -> None:
    with pytest.raises(
        InfeasibleTargetError, match=r"no setting of 'index' reaches .* the best reaches 0\.\d+"
    ):
        tune(IndexPolicy(lam=0.0), data.estimates, data.quality, data.cost, target=0.9999)
    with pytest.raises(ConfigurationError, match="either a budget or a quality target"):
        tune(IndexPolicy(lam=0.0), data.estimates, data.quality, data.cost)


def test_a_quality_target_is_met_for_less_than_the_model_that_has_it(data: Table) -> None:
    target = float(data.quality[:, 2].mean())
    tuned = tune(candidates(agreement=False), data.estimates, data.quality, data.cost, target=target)
    assert tuned.quality == pytest.approx(target, abs=1e-9) or tuned.quality >= target
    assert tuned.cost < 0.8 * data.cost[:, 2].mean()


def test_the_choice_beats_the_baselines_and_prefers_the_first_where_they_tie(data: Table) -> None:
    budget = 0.002
    curves = [
        trace(strategy, data.estimates, data.quality, data.cost) for strategy in candidates(agreement=False)
    ]
    chosen = choose(curves, [budget])
    assert chosen.strategy.name in ("index", "cascade_routing", "cascading")
    baselines = [c for c in curves if c.strategy.name in ("routing", "threshold", "single")]
    assert chosen.at_budget(budget).quality > max(c.at_budget(budget).quality for c in baselines) - 1e-9
    assert choose([curves[0], curves[0]], [budget]) is curves[0]


def test_one_query_is_no_ground_for_another_choice_than_the_preferred_one(data: Table) -> None:
    only = [
        trace(each, data.estimates, data.quality[:1], data.cost[:1]) for each in candidates(agreement=False)
    ]
    assert choose(only, [0.002]) is only[0]


def test_where_no_signal_has_skill_the_choice_is_no_worse_than_mixing_single_models() -> None:
    useless = table(1000, noise=(50.0, 50.0))
    budget = 0.005
    tuned = tune(candidates(agreement=False), useless.estimates, useless.quality, useless.cost, budget=budget)
    mixed = trace(SingleModel(model=0), useless.estimates, useless.quality, useless.cost).at_budget(budget)
    assert tuned.quality >= mixed.quality - 0.01


def test_factors_are_refined_only_where_the_belief_is_wrong(data: Table) -> None:
    curve = trace(IndexPolicy(lam=0.0), data.estimates, data.quality, data.cost)
    assert refine(curve, data.estimates, data.quality, data.cost, [0.004]) is curve

    def dear_looking(queries: np.ndarray, ran: np.ndarray) -> tuple[Belief, np.ndarray]:
        belief, costs = data.estimates(queries, ran)
        return belief, np.where(ran.any(axis=1, keepdims=True), costs * 30, costs)

    wrong = trace(IndexPolicy(lam=0.0), dear_looking, data.quality, data.cost)
    mended = refine(wrong, dear_looking, data.quality, data.cost, [0.004])
    assert mended.strategy.to_dict()["step_factors"] == [1.0, 0.6]


def test_a_tuned_strategy_is_the_simulated_one(data: Table) -> None:
    tuned = tune(Routing(lam=0.0), data.estimates, data.quality, data.cost, budget=100.0)
    outcome = simulate(tuned.strategy, data.estimates, data.quality, data.cost)
    assert outcome.cost.mean() == pytest.approx(tuned.cost)
