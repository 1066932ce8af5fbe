"""Finds the knob of a strategy, and the strategy, for a budget or a quality, from a table of answers.

One sweep over the knob (:func:`trace`) gives the strategy's curve of mean cost and quality. Between two neighbouring
points the budget is met exactly by mixing: a fraction γ of the queries goes by the dearer knob, the rest by the
cheaper, which by Lagrangian duality is also what the optimum looks like where a tie makes the cost jump.

All is unit-free: λ is tried on a grid scaled by the qualities' range and the models' costs. Tune on estimates
that have not seen the qualities they are tuned on (cross-fitted), or the result promises too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade_core.belief import BoolArray, FloatArray, IntArray
from cascade_core.errors import ConfigurationError, InfeasibleTargetError
from cascade_core.evaluation.frontier import hull
from cascade_core.simulate import Estimates, Outcome, simulate, sweep
from cascade_core.strategies import (
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

_POINTS = 48
_ROUNDING = 1e-5
"""What a budget may be exceeded by, so that the one an error message states, in six digits, is feasible."""

_FOLDS = 5
_SURE = 2.0
"""Standard errors by which a strategy must be better than the preferred one."""

_STEP_FACTORS = (0.6, 1.6)
"""λ of the second and later calls over that of the first, tried by :func:`refine`."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A strategy with its knob set, or a mixture of two settings.

    Attributes:
        strategy: decides a query, unless the alternative does.
        alternative: the cheaper one of a mixture, None without one.
        gamma: fraction of the queries that the alternative decides.
        cost: mean cost per query on the table it was tuned on.
        quality: mean quality there.
    """

    strategy: Strategy
    alternative: Strategy | None = None
    gamma: float = 0.0
    cost: float
    quality: float

    def expected(
        self, estimates: Estimates, quality: FloatArray, cost: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Expected quality and cost ``(N,)`` of each query of a table, over the draw of γ."""
        outcome = simulate(self.strategy, estimates, quality, cost)
        if self.alternative is None:
            return outcome.quality, outcome.cost
        other = simulate(self.alternative, estimates, quality, cost)
        return (
            outcome.quality + self.gamma * (other.quality - outcome.quality),
            outcome.cost + self.gamma * (other.cost - outcome.cost),
        )


@dataclass(frozen=True)
class Curve:
    """What a strategy does with each value of its knob.

    Attributes:
        strategy: the strategy.
        knobs: ``(L,)`` values of its knob, from the cheapest end to the dearest.
        outcome: its arrays are ``(L, N)``.
    """

    strategy: Strategy
    knobs: FloatArray | IntArray
    outcome: Outcome

    @property
    def cost(self) -> FloatArray:
        """``(L,)`` mean cost per query."""
        return np.asarray(self.outcome.cost.mean(axis=1))

    @property
    def quality(self) -> FloatArray:
        """``(L,)`` mean quality."""
        return np.asarray(self.outcome.quality.mean(axis=1))

    def at_budget(self, budget: float, *, exact: bool = False) -> Tuned:
        """The best mixture of neighbouring points that costs ``budget`` on average, or the best point for less.

        Args:
            budget: mean cost per query.
            exact: spend the budget, if the strategy can, even where less would do as well: to compare strategies
                at equal cost.

        Raises:
            InfeasibleTargetError: stating the cheapest feasible budget.
        """
        return self._tuned(*self._best_at(self.cost, self.quality, budget, exact))

    def at_quality(self, target: float) -> Tuned:
        """The cheapest mixture of neighbouring points whose mean quality is ``target`` or more.

        Raises:
            InfeasibleTargetError: stating the best quality that can be had.
        """
        cost, quality = self.cost, self.quality
        if not quality.max() >= target:
            raise InfeasibleTargetError(
                f"no setting of {self.strategy.name!r} reaches a mean quality of {target:.6g}; the best reaches "
                f"{quality.max():.6g}, at {cost[quality.argmax()]:.6g} a query. "
                "Lower the target or add a better model"
            )
        good = quality >= target
        first = int(np.where(good, cost, np.inf).argmin())
        best = (first, first, 0.0)
        best_cost = cost[first]
        for left, right in _neighbours(self.knobs):
            low, high = (left, right) if quality[left] < quality[right] else (right, left)
            if quality[low] < target <= quality[high]:
                gamma = float((quality[high] - target) / (quality[high] - quality[low]))
                mixed = cost[high] + gamma * (cost[low] - cost[high])
                if mixed < best_cost:
                    best, best_cost = (high, low, gamma), mixed
        return self._tuned(*best)

    def _best_at(
        self, cost: FloatArray, quality: FloatArray, budget: float, exact: bool = False
    ) -> tuple[int, int, float]:
        """Dearer point, cheaper point and γ; ``cost`` and ``quality`` ``(L,)`` may be of a part of the queries."""
        affordable = cost <= budget * (1 + _ROUNDING)
        if not affordable.any():
            raise InfeasibleTargetError(
                f"a budget of {budget:.6g} a query is less than the cheapest way to answer, {cost.min():.6g} a query "
                f"with {self.strategy.name!r}: raise it to that, or add a cheaper model"
            )
        eligible = affordable
        if exact and cost.max() >= budget * (1 - _ROUNDING):
            eligible = affordable & (cost >= budget * (1 - _ROUNDING))
        only = int(np.where(eligible, quality, -np.inf).argmax())
        best, best_quality = (only, only, 0.0), quality[only] if eligible.any() else -np.inf
        for left, right in _neighbours(self.knobs):
            cheap, dear = (left, right) if cost[left] <= cost[right] else (right, left)
            if cost[cheap] <= budget < cost[dear]:
                gamma = float((cost[dear] - budget) / (cost[dear] - cost[cheap]))
                mixed = quality[dear] + gamma * (quality[cheap] - quality[dear])
                if mixed > best_quality:
                    best, best_quality = (dear, cheap, gamma), mixed
        return best

    def _tuned(self, dear: int, cheap: int, gamma: float) -> Tuned:
        cost, quality = self.cost, self.quality
        mixed = dear != cheap and gamma > 0
        return Tuned(
            strategy=self._at(dear),
            alternative=self._at(cheap) if mixed else None,
            gamma=gamma if mixed else 0.0,
            cost=float(cost[dear] + gamma * (cost[cheap] - cost[dear])),
            quality=float(quality[dear] + gamma * (quality[cheap] - quality[dear])),
        )

    def _at(self, point: int) -> Strategy:
        return self.strategy.with_knob(self.knobs[point].item())


def _neighbours(knobs: FloatArray | IntArray) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(len(knobs) - 1)]


def trace(
    strategy: Strategy, estimates: Estimates, quality: FloatArray, cost: FloatArray, points: int = _POINTS
) -> Curve:
    """Sweep a strategy over ``points`` values of its knob.

    λ runs over a logarithmic grid, from where no cost matters to where only cost does, and 0; a threshold over
    quantiles of the estimates; a single model over the corners of the models' convex hull, so that its curve
    is the linear interpolation.
    """
    knobs: FloatArray | IntArray
    if isinstance(strategy, PricedStrategy):
        knobs = _lambdas(quality, cost, points)
    elif isinstance(strategy, SingleModel):
        corners, _ = hull(cost.mean(axis=0), quality.mean(axis=0))
        knobs = np.array([np.flatnonzero(cost.mean(axis=0) == corner)[0] for corner in corners])
    else:
        knobs = _thresholds(estimates, quality.shape, points)
    return Curve(strategy, knobs, sweep(strategy, knobs, estimates, quality, cost))


def _lambdas(quality: FloatArray, cost: FloatArray, points: int) -> FloatArray:
    """Descending λ: from where the cheapest model outweighs all quality to where the dearest weighs 1 %, and 0."""
    each = cost.mean(axis=0)
    each = each[each > 0]
    span = float(np.ptp(quality)) or 1.0
    if not each.size:
        return np.zeros(1)
    low, high = 1e-2 * span / each.max(), 3.0 * span / each.min()
    return np.append(np.geomspace(high, low, max(points - 1, 1)), 0.0)


def _thresholds(estimates: Estimates, shape: tuple[int, ...], points: int) -> FloatArray:
    """Ascending thresholds: quantiles of the estimates before and after all models have run."""
    seen = []
    queries = np.arange(shape[0])
    for everything in (False, True):
        belief, _ = estimates(queries, np.full(shape, everything))
        seen.append(belief.mean.ravel())
    values: FloatArray = np.quantile(np.concatenate(seen), np.linspace(0, 1, max(points - 1, 2)))
    return np.unique(np.append(values, np.nextafter(values[-1], np.inf)))


def candidates(*, agreement: bool) -> tuple[Strategy, ...]:
    """The strategies that ``strategy="auto"`` chooses from, the preferred one first.

    Args:
        agreement: whether the belief hears which answers agree. Then one answer may check another, which only looking
            ahead prices; without it that comes to no more than the index policy, which is quicker.
    """
    return (
        *((LookAhead(lam=0.0),) if agreement else ()),
        IndexPolicy(lam=0.0),
        CascadeRouting(lam=0.0),
        Cascading(lam=0.0),
        Routing(lam=0.0),
        ThresholdCascade(threshold=0.0),
        SingleModel(model=0),
    )


def refine(
    curve: Curve, estimates: Estimates, quality: FloatArray, cost: FloatArray, budgets: Sequence[float]
) -> Curve:
    """Let λ of later calls differ from that of the first, if that helps on queries it was not tuned on.

    As :func:`choose`, between the curve as it is and with other factors at these budgets.
    """
    if not isinstance(curve.strategy, PricedStrategy) or curve.strategy.step_factors:
        return curve
    curves = [curve]
    for factor in _STEP_FACTORS:
        strategy = replace(curve.strategy, step_factors=(1.0, factor))
        curves.append(Curve(strategy, curve.knobs, sweep(strategy, curve.knobs, estimates, quality, cost)))
    return choose(curves, budgets)


def choose(curves: Sequence[Curve], budgets: Sequence[float]) -> Curve:
    """The curve of the best mean quality at these budgets, by cross-validation.

    Each fifth of the queries is decided with the knob that is best on the other four. The first curve, the preferred
    one, yields only to one that is better by more than two standard errors of the paired difference: of seven
    curves on some hundred queries, one is soon better by chance. Budgets that not all curves can meet are no ground
    for a comparison, unless there is no other.
    """
    queries = curves[0].outcome.quality.shape[1]
    if len(curves) == 1 or queries == 1:
        return curves[0]
    least = max(float(curve.cost.min()) for curve in curves)
    budgets = [budget for budget in budgets if budget >= least] or budgets
    fold = np.arange(queries) % min(_FOLDS, queries)
    value = np.zeros((len(curves), queries))
    for budget in budgets:
        for i, curve in enumerate(curves):
            for held_out in range(fold.max() + 1):
                value[i, fold == held_out] += _held_out_value(curve, budget, fold != held_out)
    value /= len(budgets)
    gain = value - value[0]
    error = gain.std(axis=1) / np.sqrt(queries)
    mean = gain.mean(axis=1)
    mean[~(mean > _SURE * error)] = 0.0
    return curves[int(mean.argmax())]


def _held_out_value(curve: Curve, budget: float, seen: BoolArray) -> FloatArray:
    """Quality, less the price of exceeding the budget, of the queries not seen, with the knob tuned on the others."""
    outcome = curve.outcome
    cost, quality = outcome.cost[:, seen].mean(axis=1), outcome.quality[:, seen].mean(axis=1)
    dear, cheap, gamma = curve._best_at(cost, quality, max(budget, float(cost.min())))
    here_cost, here_quality = outcome.cost[:, ~seen], outcome.quality[:, ~seen]
    spent = here_cost[dear] + gamma * (here_cost[cheap] - here_cost[dear])
    won = here_quality[dear] + gamma * (here_quality[cheap] - here_quality[dear])
    # what a unit of cost is worth here: the slope of the curve's hull at the budget, nothing beyond its end
    hull_cost, hull_quality = hull(cost, quality)
    price = 0.0
    if hull_cost.size > 1 and budget < hull_cost[-1]:
        piece = max(int(np.searchsorted(hull_cost, budget)) - 1, 0)
        price = float(np.diff(hull_quality)[piece] / np.diff(hull_cost)[piece])
    value: FloatArray = won - price * (spent - budget)
    return value


def tune(
    strategies: Strategy | Sequence[Strategy],
    estimates: Estimates,
    quality: FloatArray,
    cost: FloatArray,
    *,
    budget: float | None = None,
    target: float | None = None,
) -> Tuned:
    """The strategy, its knob and γ for a mean cost (``budget``) or a mean quality (``target``): one of the two.

    Args:
        strategies: one, or several to choose from by cross-validation, the preferred first (:func:`candidates`).
        estimates: cross-fitted beliefs and expected costs.
        quality: ``(N, K)`` true quality of every model's answer.
        cost: ``(N, K)`` what every model truly cost.
        budget: mean cost per query, in the unit of ``cost``.
        target: mean quality, on the scale of ``quality``.

    Raises:
        InfeasibleTargetError: stating the cheapest feasible budget or the best quality that can be had.
        ConfigurationError: if not exactly one of ``budget`` and ``target`` is given.
    """
    several = [strategies] if isinstance(strategies, Strategy) else list(strategies)
    curves = [trace(strategy, estimates, quality, cost) for strategy in several]
    return tune_curves(curves, estimates, quality, cost, budget=budget, target=target)


def tune_curves(
    curves: Sequence[Curve],
    estimates: Estimates,
    quality: FloatArray,
    cost: FloatArray,
    *,
    budget: float | None = None,
    target: float | None = None,
) -> Tuned:
    """As :func:`tune`, from the strategies' curves on these queries."""
    if (budget is None) == (target is None):
        raise ConfigurationError("give either a budget or a quality target")
    if budget is not None:
        feasible = [curve for curve in curves if curve.cost.min() <= budget]
        if not feasible:
            return min(curves, key=lambda curve: float(curve.cost.min())).at_budget(budget)
        return refine(choose(feasible, [budget]), estimates, quality, cost, [budget]).at_budget(budget)
    assert target is not None
    reaching = [curve for curve in curves if curve.quality.max() >= target]
    if not reaching:
        return max(curves, key=lambda curve: float(curve.quality.max())).at_quality(target)
    # the choice is made where the preferred strategy that can reach the target would spend its money
    spent = reaching[0].at_quality(target).cost
    return refine(choose(reaching, [spent]), estimates, quality, cost, [spent]).at_quality(target)
