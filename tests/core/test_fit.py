"""fit(): a target is met, nothing held out was looked at, and an episode decides as the simulation did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cascade_core import Call, Policy, Price
from cascade_core._json import encode
from cascade_core.calibration import Fit, fit, join
from cascade_core.calibration.table import AnswerTable
from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings
from cascade_core.errors import CalibrationError, ConfigurationError, InfeasibleTargetError, PolicyError
from cascade_core.estimation import FittedEstimator
from cascade_core.strategies import CascadeRouting
from tests.core.answers import PRICES, sums


def fitted(table: AnswerTable, target: object, **options: object) -> Fit:
    return fit(table, target, prices=PRICES, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def half_the_price() -> Fit:
    return fitted(sums(300), Savings(0.5))


def replay(policy: Policy, table: AnswerTable) -> tuple[list[str], list[tuple[str, ...]], list[float]]:
    """What episodes return, run and pay when the models answer as in the table."""
    returned, ran, paid = [], [], []
    for n, query in enumerate(table.queries):
        episode = policy.start(query)
        while isinstance(step := episode.next(), Call):
            answer = table.answers[n][table.models.index(step.model)]
            assert answer is not None
            episode.observe(answer)
        returned.append(step.model)
        ran.append(tuple(sorted(episode.record.models)))
        paid.append(episode.record.cost)
    return returned, ran, paid


@pytest.mark.parametrize(
    "strategy", ["auto", "index", "cascade_routing", "cascading", "routing", "threshold", "single"]
)
def test_episodes_decide_as_the_simulation_did(strategy: str, tmp_path: Path) -> None:
    result = fitted(sums(120), Savings(0.4), strategy=strategy)
    result.policy.save(tmp_path / "policy.json")
    table, outcome = result.held_out, result.outcome
    returned, ran, paid = replay(Policy.load(tmp_path / "policy.json"), table)
    assert returned == [table.models[model] for model in outcome.model]
    assert ran == [tuple(sorted(np.array(table.models)[row])) for row in outcome.ran]
    assert paid == pytest.approx(outcome.cost)


def test_a_mixture_is_drawn_alike_in_service_and_simulation() -> None:
    result = fitted(sums(150), Savings(0.45), strategy="single", holdout=0.5)
    assert 0.05 < result.policy.gamma < 0.95
    returned, _, _ = replay(result.policy, result.held_out)
    assert returned == [result.held_out.models[model] for model in result.outcome.model]
    assert len(set(returned)) == 2


def test_a_budget_is_met_and_beats_the_models_at_that_price(half_the_price: Fit) -> None:
    result = half_the_price
    table = sums(300)
    assert result.tuned.cost <= 0.5 * table.cost.mean(axis=0).max() * 1.05
    policy_cost, policy_quality = result.frontier.cost, result.frontier.quality
    line = np.interp(policy_cost, result.frontier.model_cost, result.frontier.model_quality)
    assert policy_quality > line + 0.03


def test_a_quality_is_reached_for_less_than_the_best_model() -> None:
    table = sums(200)
    for target in (RelativeQuality(0.97), RelativeQuality(0.97, of="large"), Quality(0.7)):
        result = fitted(table, target)
        tuned_on = table.subset(np.setdiff1d(np.arange(len(table)), result.rows))
        best = tuned_on.quality.mean(axis=0).max()
        wanted = 0.7 if isinstance(target, Quality) else 0.97 * best
        assert result.tuned.quality >= wanted - 1e-9
        assert result.tuned.cost < tuned_on.cost.mean(axis=0).max()


def test_what_is_held_out_has_no_part_in_the_policy() -> None:
    table = sums(100)
    first = fitted(table, Savings(0.3))
    changed = table.quality.copy()
    changed[first.rows] = 1 - changed[first.rows]
    again = fitted(table.with_quality(changed), Savings(0.3))
    assert again.policy.to_json() == first.policy.to_json()
    assert again.rows.tolist() == first.rows.tolist()
    assert len(first.rows) == 30


def test_the_same_table_and_seed_give_the_same_file() -> None:
    one, other = (fitted(sums(60), Savings(0.3)).policy.to_json() for _ in range(2))
    assert one == other
    assert fitted(sums(60), Savings(0.3), seed=1).policy.to_json() != one


def test_models_run_from_the_cheapest_on_however_the_table_lists_them() -> None:
    table = sums(60).select(["large", "small", "medium"])
    assert fitted(table, Savings(0.3)).policy.names == ("small", "medium", "large")


def test_the_frontier_has_every_strategy_and_model(half_the_price: Fit) -> None:
    frontier = half_the_price.frontier
    names = [line.strategy for line in frontier.lines]
    assert names == ["look_ahead", "index", "cascade_routing", "cascading", "routing", "threshold", "single"]
    assert frontier.models == ("small", "medium", "large")
    assert set(half_the_price.diagnostics.ante) == set(frontier.models)


def test_a_policy_holds_no_text_of_the_data(half_the_price: Fit) -> None:
    assert "plus" not in half_the_price.policy.to_json()
    assert "The sum" not in half_the_price.policy.to_json()


def test_a_policy_of_five_models_is_small() -> None:
    table = sums(150)
    more = AnswerTable(
        table.queries,
        (*table.models, "fourth", "fifth"),
        tuple((*row, row[0], row[1]) for row in table.answers),
        table.quality[:, [0, 1, 2, 0, 1]],
        table.cost[:, [0, 1, 2, 0, 1]],
    )
    assert len(fitted(more, Savings(0.3)).policy.to_json()) < 2e6


# -- a new model -----------------------------------------------------------------------------------------------


def test_a_new_model_joins_with_a_few_dozen_answers() -> None:
    old = fitted(sums(300).select(["small", "medium"]), RelativeQuality(0.9), strategy="index").policy
    joined = join(old, sums(36, seed=1).select(["large"]), price=PRICES["large"])
    assert joined.names == ("small", "medium", "large")
    unseen = sums(400, seed=2)
    estimates, nothing = joined.estimator.estimates(unseen), np.zeros((400, 3), dtype=bool)
    belief, costs = estimates(np.arange(400), nothing)
    before, _ = old.estimator.estimates(unseen.select(old.names))(np.arange(400), nothing[:, :2])
    assert belief.mean[:, :2] == pytest.approx(before.mean, abs=0.06)
    assert belief.mean[:, 2].mean() == pytest.approx(unseen.quality[:, 2].mean(), abs=0.12)
    assert costs[:, 2].mean() == pytest.approx(unseen.cost[:, 2].mean(), rel=0.25)
    assert Policy.from_json(joined.to_json()).names == joined.names
    returned, _, _ = replay(joined, unseen.subset(range(20)))
    assert len(returned) == 20


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_few_dozen_answers_teach_about_the_new_model_and_change_nothing_about_the_others(name: str) -> None:
    others = [model for model in ("small", "medium", "large") if model != name]
    policy = fitted(sums(300).select(others), RelativeQuality(0.9), strategy="index").policy
    few = sums(36, seed=1).select([name])
    old, new = policy.estimator, join(policy, few, price=PRICES[name]).estimator
    assert isinstance(old, FittedEstimator)
    assert isinstance(new, FittedEstimator)
    assert json.dumps(encode(new.to_dict()["ante"])) == json.dumps(encode(old.to_dict()["ante"]))
    for part in ("weights", "loading", "post_weights", "post_slope"):
        assert np.array_equal(getattr(new.belief, part)[:-1], getattr(old.belief, part))
    unseen = sums(400, seed=50).select([*others, name])
    truth = unseen.quality[:, 2]
    nothing, answered = np.zeros((2, 400, 3), dtype=bool)
    answered[:, 2] = True
    base = ((few.quality.mean() - truth) ** 2).mean()
    for ran, gain in ((nothing, 0.1), (answered, 0.7)):
        believed = new.estimates(unseen)(np.arange(400), ran)[0].mean[:, 2]
        assert 1 - ((believed - truth) ** 2).mean() / base > gain


def test_what_cannot_join_is_said() -> None:
    table = sums(60)
    policy = fitted(table.select(["small", "medium"]), Savings(0.1), strategy="index").policy
    with pytest.raises(CalibrationError, match="expected the new one alone"):
        join(policy, table)
    with pytest.raises(CalibrationError, match="at least 12"):
        join(policy, table.select(["large"]).subset(range(5)))
    alike = table.with_quality(np.ones_like(table.quality)).select(["small", "medium"])
    with pytest.raises(CalibrationError, match="all of one quality"):
        join(fitted(alike, RelativeQuality(1.0), strategy="index").policy, table.select(["large"]))
    fixed = fitted(table.select(["small", "medium"]), Savings(0.1), strategy="threshold").policy
    with pytest.raises(PolicyError, match="fixed order"):
        join(fixed, table.select(["large"]))


# -- bad input -------------------------------------------------------------------------------------------------


def test_fewer_than_thirty_complete_queries_are_an_error() -> None:
    table = sums(35)
    table.quality[:10, 1] = np.nan
    with pytest.raises(CalibrationError, match="25 of 35 queries"):
        fitted(table, Savings(0.3))
    with pytest.raises(CalibrationError, match=r"a holdout of 0.9 leaves 4 of 40 queries to fit to"):
        fitted(sums(40), Savings(0.3), holdout=0.9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_and_all_wrong_run_the_cheapest_model(value: float) -> None:
    table = sums(60)
    result = fitted(table.with_quality(np.full(table.quality.shape, value)), RelativeQuality(1.0))
    assert result.outcome.ran.tolist() == [[True, False, False]] * len(result.held_out)


def test_equal_prices_are_no_error() -> None:
    table = sums(60)
    same = AnswerTable(
        table.queries, table.models, table.answers, table.quality, np.full(table.cost.shape, 0.01)
    )
    result = fit(same, RelativeQuality(0.95), prices=dict.fromkeys(table.models, Price(input=1, output=1)))
    assert result.frontier.quality > 0.5


def test_free_models_are_no_error() -> None:
    table = sums(60)
    free = AnswerTable(table.queries, table.models, table.answers, table.quality, 0 * table.cost)
    assert fitted(free, RelativeQuality(0.9)).tuned.cost == 0


def test_a_budget_beyond_reach_states_the_cheapest() -> None:
    table = sums(60)
    with pytest.raises(InfeasibleTargetError, match=r"cheapest"):
        fitted(table, Budget(1e-9))


def test_a_quality_beyond_reach_states_the_best_and_its_price() -> None:
    with pytest.raises(InfeasibleTargetError, match=r"best.*a query"):
        fitted(sums(60), Quality(1.5))


def test_unknown_names_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'gpt'.*small"):
        fitted(sums(40), RelativeQuality(0.9, of="gpt"))
    with pytest.raises(ConfigurationError, match="unknown strategy 'fast'"):
        fitted(sums(40), Savings(0.3), strategy="fast")
    with pytest.raises(ConfigurationError, match=r"target is 0\.9"):
        fitted(sums(40), 0.9)
    with pytest.raises(ConfigurationError, match="a relative quality of -1"):
        RelativeQuality(-1)


def test_a_strategy_may_be_an_object() -> None:
    result = fitted(sums(60), Savings(0.3), strategy=CascadeRouting(lam=0.0, max_models=2))
    assert result.policy.strategy.name == "cascade_routing"
    assert result.outcome.ran.sum(axis=1).max() <= 2


def test_a_policy_that_was_not_fitted_has_nothing_to_connect() -> None:
    from cascade_core import ModelSpec

    policy = Policy.uncalibrated([ModelSpec(name="a"), ModelSpec(name="b")])
    with pytest.raises(PolicyError, match="not fitted"):
        policy.connect(embedding=lambda texts: [[1.0] for _ in texts])
