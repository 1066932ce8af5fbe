"""Made-up answer tables with a fitted belief, for the tests of simulation and tuning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade_core.estimation.joint import JointBelief, SignalEstimates, Signals


@dataclass(frozen=True)
class Table:
    """Quality and cost ``(N, K)``, and estimates of them."""

    quality: np.ndarray
    cost: np.ndarray
    estimates: SignalEstimates


def table(queries: int, models: int = 3, noise: tuple[float, float] = (1.2, 0.6), unit: float = 1.0) -> Table:
    """Answers of 0 and 1 that hang together through difficulty; each model ten times as dear as the one before."""
    random = np.random.default_rng(0)
    total = queries + 600
    skill = np.linspace(0.3, 1.8, models)
    right = skill + 1.2 * random.normal(size=(total, 1)) + random.logistic(size=(total, models)) > 0
    quality = right.astype(float)
    mean_cost = unit * 1e-4 * 10.0 ** np.arange(models)
    cost = mean_cost * random.lognormal(0, 0.2, quality.shape)
    ante, post = (quality + random.normal(0, sd, quality.shape) for sd in noise)
    signals = Signals(ante, post)
    belief = JointBelief.fit(signals.take(np.arange(600)), quality[:600])
    rows = np.arange(600, total)
    expected = np.broadcast_to(mean_cost, (queries, models))
    return Table(quality[rows], cost[rows], SignalEstimates(belief, signals.take(rows), expected))
