"""A policy run over a table of answers, with the very code that decides online."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.calibration.certificate import Sample
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from cascade_core.estimation import Estimator
from cascade_core.estimation.fitted import FittedEstimator
from cascade_core.policy import Policy
from cascade_core.simulate import Estimates, Outcome, simulate
from cascade_core.values import Answer


@dataclass(frozen=True)
class Replay:
    """Estimates of a table's queries, made one by one from evidence as an episode makes them.

    Works for any estimator, the user's own included; each query and set of models run is estimated once.

    Attributes:
        estimator: what turns answers into beliefs.
        table: the answers.
    """

    estimator: Estimator
    table: AnswerTable
    _seen: dict[tuple[int, bytes], tuple[Belief, FloatArray]] = field(default_factory=dict, repr=False)

    def __call__(self, queries: IntArray, ran: BoolArray) -> tuple[Belief, FloatArray]:
        """Belief about ``(n,)`` rows of the table after the models in ``(n, K)`` have run, and expected costs."""
        found = [self._one(int(row), history) for row, history in zip(queries, ran, strict=True)]
        parts = ((np.array([n]), belief) for n, (belief, _) in enumerate(found))
        return Belief.assembled(ran.shape, parts), np.concatenate([costs for _, costs in found])

    def _one(self, row: int, ran: BoolArray) -> tuple[Belief, FloatArray]:
        key = (row, ran.tobytes())
        if key not in self._seen:
            evidence = self.estimator.start(self.table.queries[row])
            for model in np.flatnonzero(ran):
                answer = self.table.answers[row][model]
                evidence.observe(int(model), Answer(text="") if answer is None else answer)
            self._seen[key] = (evidence.belief(), evidence.costs())
        return self._seen[key]


def estimates_of(estimator: Estimator, table: AnswerTable) -> Estimates:
    """Estimates of a table's queries, all at once where the estimator can do that."""
    return estimator.estimates(table) if isinstance(estimator, FittedEstimator) else Replay(estimator, table)


def complete(table: AnswerTable, models: tuple[str, ...]) -> AnswerTable:
    """The queries whose quality and cost are known for each of these models.

    Raises:
        CalibrationError: there is none, or a model is missing.
    """
    chosen = table.select(models)
    rows: BoolArray = np.isfinite(chosen.quality + chosen.cost).sum(axis=1) == len(models)
    if not rows.any():
        raise CalibrationError(
            f"no query has a quality and a cost for every one of {list(models)}: score the answers (on the "
            "command line with --scorer), and give prices, tokens or costs"
        )
    return chosen.subset(rows)


def as_counted(policy: Policy, table: AnswerTable) -> AnswerTable:
    """The complete queries, with costs as the policy counts them: time in them or not, checks of answers or not.

    Raises:
        CalibrationError: as of :func:`complete`, or the policy checks answers and no answer of the table was checked.
    """
    if policy.check is None:
        table = table.unchecked()
    elif not table.checked:
        raise CalibrationError(
            f"this policy checks the answers of {list(policy.check.of)}, and no answer of the table was checked: "
            "collect answers with check=policy.check"
        )
    return complete(table.with_time(policy.usd_per_second), policy.names)


def replayed(
    policy: Policy, table: AnswerTable, estimates: Estimates | None = None
) -> tuple[Outcome, FloatArray, FloatArray]:
    """What a policy does with a complete table of its models, in its order.

    Args:
        policy: the policy.
        table: the answers.
        estimates: of the table by the policy's estimator, if they are at hand.

    Returns:
        The outcome under the strategy that each query's id draws; ``(N,)`` quality and cost expected over the draw.
    """
    estimates = estimates or estimates_of(policy.estimator, table)
    first = simulate(policy.strategy, estimates, table.quality, table.cost)
    if policy.alternative is None:
        return first, first.quality, first.cost
    other = simulate(policy.alternative, estimates, table.quality, table.cost)
    drawn = np.array([policy.strategy_for(query) is policy.alternative for query in table.queries])
    outcome = Outcome(
        model=np.where(drawn, other.model, first.model),
        ran=np.where(drawn[:, None], other.ran, first.ran),
        quality=np.where(drawn, other.quality, first.quality),
        cost=np.where(drawn, other.cost, first.cost),
    )
    quality = first.quality + policy.gamma * (other.quality - first.quality)
    cost = first.cost + policy.gamma * (other.cost - first.cost)
    return outcome, quality, cost


def sample(
    policy: Policy, table: AnswerTable, held_out: IntArray | None = None, estimates: Estimates | None = None
) -> Sample:
    """What a certificate looks at: the policy on the held-out rows of a complete table, beside the models alone."""
    rows = np.arange(len(table)) if held_out is None else held_out
    _, quality, cost = replayed(policy, table, estimates)
    return Sample(
        quality=quality[rows],
        cost=cost[rows],
        single_quality=table.quality[rows],
        single_cost=table.alone[rows],
        models=table.models,
        most_cost=float(cost.max()),
    )


def mark(key: str) -> str:
    """What a policy remembers of a query that it was fitted on: eight digits of a hash of its id."""
    return hashlib.sha256(f"fitted on {key}".encode()).hexdigest()[:8]


def unseen(policy: Policy, table: AnswerTable) -> AnswerTable:
    """The queries that a policy was not fitted on."""
    fitted = set(policy.provenance.get("fitted_on", ()))
    return table.subset([n for n, query in enumerate(table.queries) if mark(query.key) not in fitted])
