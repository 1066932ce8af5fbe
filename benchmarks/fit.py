"""How long fitting takes: all strategies, eight budgets, 5,000 queries × 11 models; a frontier over 1,000,000 × 5.

The table is made up: qualities of 0 and 1 that hang together through the queries' difficulty, signals that are the
qualities plus noise. The first part is all of the fit: the joint belief, cross-fitted and on everything, and for
each strategy its curve and its setting at each budget. The second fits a belief to 5,000 queries and sweeps the
index policy over all.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from _tables import at_budgets, parser, report

from cascade_core.estimation.joint import CrossFitted, JointBelief, SignalEstimates, Signals
from cascade_core.strategies import IndexPolicy
from cascade_core.tuning import candidates, trace


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--queries", type=int, default=5000)
    options.add_argument("--models", type=int, default=11)
    options.add_argument("--frontier", type=int, default=1_000_000, help="queries of the second part")
    arguments = options.parse_args()
    fit(arguments.queries, arguments.models, arguments.json)
    frontier(arguments.frontier, 5, arguments.json)


def fit(queries: int, models: int, as_json: bool) -> None:
    signals, quality, cost = made_up(queries, models)
    budgets = np.geomspace(1.2 * cost.mean(axis=0).min(), cost.mean(axis=0).max(), 8)
    began = time.process_time()
    JointBelief.fit(signals, quality)
    belief = CrossFitted.fit(signals, quality)
    estimates = SignalEstimates(belief, signals, np.broadcast_to(cost.mean(axis=0), cost.shape))
    spent = {"belief": time.process_time() - began}
    for strategy in candidates(agreement=False):
        start = time.process_time()
        at_budgets(trace(strategy, estimates, quality, cost), budgets)
        spent["linear" if strategy.name == "single" else strategy.name] = time.process_time() - start
    row = {"part": "fit", "queries": queries, "models": models, "cpu_s": time.process_time() - began}
    report({**row, **{f"{name}_cpu_s": seconds for name, seconds in spent.items()}}, as_json)


def frontier(queries: int, models: int, as_json: bool) -> None:
    signals, quality, cost = made_up(queries, models)
    cpu, wall = time.process_time(), time.perf_counter()
    belief = JointBelief.fit(signals.take(np.arange(5000)), quality[:5000])
    estimates = SignalEstimates(belief, signals, np.broadcast_to(cost.mean(axis=0), cost.shape))
    curve = trace(IndexPolicy(lam=0.0), estimates, quality, cost, points=16)
    row = {"part": "frontier", "queries": queries, "models": models, "points": len(curve.knobs)}
    row |= {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    row |= {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    report(row, as_json)


def made_up(queries: int, models: int) -> tuple[Signals, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    difficulty = random.normal(size=(queries, 1))
    skill = np.linspace(0.2, 2.0, models)
    right = skill + 1.2 * difficulty + random.logistic(size=(queries, models)) > 0
    quality = right.astype(float)
    cost = np.geomspace(3e-5, 3e-3, models) * random.lognormal(0, 0.3, size=(queries, models))
    ante, post = (quality + random.normal(0, sd, quality.shape) for sd in (1.6, 0.8))
    return Signals(ante, post), quality, cost


if __name__ == "__main__":
    main()
