"""Against brute force: dynamic programming over every adaptive policy of small discrete instances.

Estimates are independent Gaussians, each replaced by ``BINS`` equally likely values (the means of its quantile bins).
The index policy is exact for the Gaussians; on the discrete instance it may lose what the discretisation does to
``E[(X - z)⁺]``, at most ``gap`` for each model, in both what it buys and what it leaves.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cascade_core._normal import loss
from cascade_core.belief import Belief
from cascade_core.strategies import (
    STOP,
    CascadeRouting,
    Cascading,
    IndexPolicy,
    LookAhead,
    Routing,
    SingleModel,
    Strategy,
    ThresholdCascade,
)

BINS = 40


@st.composite
def instances(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    models = draw(st.integers(1, 4))

    def numbers(low: float, high: float) -> np.ndarray:
        return np.array(draw(st.lists(st.floats(low, high), min_size=models, max_size=models)))

    return numbers(0, 1), numbers(0, 0.4), numbers(0.001, 0.3)


def outcomes(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """``(K, BINS)`` equally likely values of each estimate."""
    edges = norm.pdf(norm.ppf(np.linspace(0, 1, BINS + 1)))
    return mean[:, None] + sd[:, None] * BINS * (edges[:-1] - edges[1:])


def gap(sd: np.ndarray) -> float:
    """Most by which the discretisation changes E[(X - z)⁺], over all z, summed over the models."""
    z = np.linspace(-5, 5, 2001)
    discrete = np.maximum(outcomes(np.zeros(1), np.ones(1))[0] - z[:, None], 0).mean(axis=1)
    return float(np.abs(discrete - loss(z)).max() * sd.sum())


def value(mean: np.ndarray, sd: np.ndarray, cost: np.ndarray, strategy: Strategy | None) -> float:
    """Expected quality less cost of a strategy that must run something; None is the best of all policies."""
    models = mean.size
    values = outcomes(mean, sd)
    best = np.unique(values)  # what may be the best in hand
    after = np.array([[np.searchsorted(best, np.maximum(v, best)) for v in values[i]] for i in range(models)])
    worth: dict[int, np.ndarray] = {(1 << models) - 1: best}
    for ran in range((1 << models) - 2, 0, -1):
        worth[ran] = best.copy()
        closed = [i for i in range(models) if ran >> i & 1]
        going_on = np.full((models, best.size), -np.inf)
        for i in set(range(models)) - set(closed):
            going_on[i] = worth[ran | 1 << i][after[i]].mean(axis=0) - cost[i]
        if strategy is None:
            worth[ran] = np.maximum(best, going_on.max(axis=0))
            continue
        flags = np.tile([i in closed for i in range(models)], (best.size, 1))
        means = np.where(flags, -9.0, mean)
        means[:, closed[0]] = best
        choice = decide(strategy, means, np.where(flags, 0.0, sd), cost, flags)
        worth[ran] = np.where(choice == STOP, best, going_on[choice, np.arange(best.size)])
    first = np.array(
        [worth[1 << i][np.searchsorted(best, values[i])].mean() - cost[i] for i in range(models)]
    )
    if strategy is None:
        return float(first.max())
    return float(first[decide(strategy, mean[None], sd[None], cost, np.zeros((1, models), dtype=bool))[0]])


def decide(
    strategy: Strategy, mean: np.ndarray, sd: np.ndarray, cost: np.ndarray, ran: np.ndarray
) -> np.ndarray:
    return strategy.next_model(Belief.independent(mean, sd), np.broadcast_to(cost, mean.shape), ran)


@given(instances())
@settings(max_examples=60, deadline=None)
def test_the_index_policy_is_optimal_up_to_the_discretisation(instance: tuple[np.ndarray, ...]) -> None:
    mean, sd, cost = instance
    best = value(mean, sd, cost, None)
    reached = value(mean, sd, cost, IndexPolicy(lam=1.0))
    assert best - 2 * gap(sd) - 1e-9 <= reached <= best + 1e-9


@given(instances(), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_no_strategy_exceeds_the_optimum(instance: tuple[np.ndarray, ...], threshold: float) -> None:
    mean, sd, cost = instance
    best = value(mean, sd, cost, None)
    for strategy in (
        SingleModel(model=0),
        Routing(lam=1.0),
        ThresholdCascade(threshold=threshold),
        Cascading(lam=1.0),
        CascadeRouting(lam=1.0),
        LookAhead(lam=1.0),
    ):
        assert value(mean, sd, cost, strategy) <= best + 1e-9


def test_planning_sets_misses_what_the_index_policy_sees() -> None:
    """Two equal gambles: the second is bought only if the first fails, which no set plan prices."""
    mean, sd, cost = np.array([0.5, 0.5]), np.array([0.3, 0.3]), np.array([0.1, 0.1])
    index, best = value(mean, sd, cost, IndexPolicy(lam=1.0)), value(mean, sd, cost, None)
    single = value(mean, sd, cost, Routing(lam=1.0))
    assert single < index
    assert best - index < 2 * gap(sd)
