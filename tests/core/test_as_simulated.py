"""What is tuned offline is what decides online: an episode does call for call what the simulation did."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_core import Call, Policy, PolicyError
from cascade_core.calibration.replay import Replay
from cascade_core.calibration.table import AnswerTable
from cascade_core.estimation import FittedEstimator, fit_estimator
from cascade_core.policy import ModelSpec
from cascade_core.simulate import simulate
from cascade_core.strategies import STRATEGIES, LookAhead, PricedStrategy, Strategy
from tests.core.answers import PRICES, sums

TABLE = sums(150, seed=7)
MODELS = len(TABLE.models)


@pytest.fixture(scope="module")
def estimator() -> FittedEstimator:
    """One that hears which answers agree, as it is read from a policy's file."""
    fitted = fit_estimator(sums(200)).estimator
    policy = Policy(models=specs(), estimator=fitted, strategy=LookAhead(lam=1.0))
    again = Policy.from_json(policy.to_json()).estimator
    assert isinstance(again, FittedEstimator)
    assert again.compares
    return again


def specs() -> tuple[ModelSpec, ...]:
    return tuple(ModelSpec(name=name, price=PRICES[name]) for name in TABLE.models)


@st.composite
def any_strategy(draw: st.DrawFn) -> Strategy:
    kind = STRATEGIES[draw(st.sampled_from(sorted(STRATEGIES)))]
    options: dict[str, Any] = {}
    if issubclass(kind, PricedStrategy):
        dearest = float(TABLE.cost.mean(axis=0).max())
        options["lam"] = 10.0 ** draw(st.floats(-2.5, 1.5)) / dearest
        options["step_factors"] = draw(st.sampled_from([(), (1.0, 0.6)]))
    elif kind.knob == "threshold":
        options["threshold"] = draw(st.floats(0.01, 0.99))
    else:
        options["model"] = draw(st.integers(0, MODELS - 1))
    if kind.name not in ("routing", "single"):
        options["max_models"] = draw(st.sampled_from([None, None, 1, 2]))
    if kind.name in ("cascading", "cascade_routing", "threshold"):
        options["order"] = draw(st.none() | st.permutations(range(MODELS)).map(tuple))
    return kind(**options)


def one_episode(policy: Policy, table: AnswerTable, row: int) -> tuple[str, set[str], float]:
    episode = policy.start(table.queries[row])
    while isinstance(step := episode.next(), Call):
        answer = table.answers[row][table.models.index(step.model)]
        assert answer is not None
        episode.observe(answer)
    record = episode.record
    return record.model, set(record.models), record.cost


@settings(max_examples=60)
@given(strategy=any_strategy(), first=st.integers(0, len(TABLE) - 15))
def test_an_episode_decides_as_the_simulation_whatever_the_strategy(
    estimator: FittedEstimator, strategy: Strategy, first: int
) -> None:
    table = TABLE.subset(range(first, first + 15))
    outcome = simulate(strategy, estimator.estimates(table), table.quality, table.cost)
    policy = Policy(models=specs(), estimator=estimator, strategy=strategy)
    for row in range(len(table)):
        model, ran, cost = one_episode(policy, table, row)
        assert model == table.models[outcome.model[row]]
        assert ran == {table.models[k] for k in np.flatnonzero(outcome.ran[row])}
        assert cost == pytest.approx(outcome.cost[row])


def test_a_file_from_before_answers_were_weighed_against_agreement_is_read(
    estimator: FittedEstimator,
) -> None:
    policy = Policy(models=specs(), estimator=estimator, strategy=LookAhead(lam=1.0))
    data = json.loads(policy.to_json())
    del data["estimator"]["belief"]["echo"]
    del data["estimator"]["post"]["threshold"], data["estimator"]["post"]["checked"]
    older = Policy.from_json(json.dumps(data)).estimator
    assert isinstance(older, FittedEstimator)
    assert older.belief.echo == 1.0
    data["estimator"]["belief"]["unknown"] = 1
    with pytest.raises(PolicyError, match="unknown"):
        Policy.from_json(json.dumps(data))


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_evidence_gathered_one_answer_at_a_time_makes_the_same_belief(
    estimator: FittedEstimator, calls: int
) -> None:
    """With what is said about agreement, by which looking ahead decides."""
    table = TABLE.subset(range(12))
    rows = np.arange(len(table))
    ran = np.zeros(table.quality.shape, dtype=bool)
    for row in rows:
        ran[row, np.random.default_rng(row).permutation(MODELS)[:calls]] = True
    (one, costs), (other, other_costs) = (
        estimates(rows, ran) for estimates in (estimator.estimates(table), Replay(estimator, table))
    )
    for part in ("mean", "step", "agree", "agree_step"):
        np.testing.assert_allclose(getattr(one, part), getattr(other, part), atol=1e-12)
    np.testing.assert_allclose(costs, other_costs)
