"""What a policy, every strategy at every budget, and each model alone do with a table of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.calibration.fitting import Line
from cascade_core.calibration.replay import as_counted, estimates_of, replayed
from cascade_core.calibration.table import AnswerTable
from cascade_core.evaluation.frontier import area, hull
from cascade_core.policy import Policy
from cascade_core.simulate import Estimates, Outcome
from cascade_core.tuning import Curve, candidates, trace


@dataclass(frozen=True)
class Evaluation:
    """A policy beside its rivals, on one table.

    Attributes:
        table: the queries with the quality and cost of every model's answer.
        estimates: what the policy's estimator expects of them.
        outcome: what the policy did with each.
        quality, cost: ``(N,)`` of the policy, expected over the draw between its two strategies.
        curves: every strategy at every value of its knob, by name.
    """

    table: AnswerTable
    estimates: Estimates
    outcome: Outcome
    quality: FloatArray
    cost: FloatArray
    curves: dict[str, Curve]

    @property
    def lines(self) -> tuple[Line, ...]:
        """What each strategy reaches at what price, mixing its settings at random; single models first."""
        single = hull(*self._single)
        curves = ((name, *hull(curve.cost, curve.quality)) for name, curve in self.curves.items())
        return (Line("linear", *single), *(Line(*curve) for curve in curves))

    @property
    def auc(self) -> dict[str, float]:
        """Area under each strategy's curve, as a mean quality; empty where all models cost the same."""
        if not np.ptp(self._single[0]) > 0:
            return {}
        linear = hull(*self._single)
        curves = {name: (curve.cost, curve.quality) for name, curve in self.curves.items()}
        return {name: area(*curve, *self._single) for name, curve in {"linear": linear, **curves}.items()}

    @property
    def _single(self) -> tuple[FloatArray, FloatArray]:
        return self.table.alone.mean(axis=0), self.table.quality.mean(axis=0)

    def summary(self) -> dict[str, Any]:
        """The means, as plain JSON values."""
        singles = zip(self.table.models, *self._single, strict=True)
        return {
            "queries": len(self.table),
            "unit": self.table.unit,
            "usd_per_second": self.table.usd_per_second,
            "policy": {"cost": float(self.cost.mean()), "quality": float(self.quality.mean())},
            "models": {
                name: {"cost": float(cost), "quality": float(quality)} for name, cost, quality in singles
            },
            "calls": dict(zip(self.table.models, self.outcome.ran.mean(axis=0).tolist(), strict=True)),
            "auc": self.auc,
        }


def evaluate(policy: Policy, table: AnswerTable) -> Evaluation:
    """Run a policy, and every strategy on the policy's estimates, over a table that the policy was not fitted on.

    Raises:
        CalibrationError: the table lacks a model of the policy, or has no query with all qualities and costs.
    """
    table = as_counted(policy, table)
    estimates = estimates_of(policy.estimator, table)
    outcome, quality, cost = replayed(policy, table, estimates)
    known = candidates(agreement=policy.estimator.compares)
    strategies = {strategy.name: strategy for strategy in (*known, policy.strategy)}
    curves = {
        name: trace(strategy, estimates, table.quality, table.cost)
        for name, strategy in strategies.items()
        if name != "single"
    }
    return Evaluation(table, estimates, outcome, quality, cost, curves)
