"""How long one decision takes: ``next_model`` for one query, by strategy and number of models.

Each call sees another random belief; of the queries half have run nothing yet, the others one to three models.
"""

from __future__ import annotations

import time

import numpy as np
from _tables import parser, report

from cascade_core.belief import Belief
from cascade_core.strategies import Strategy
from cascade_core.tuning import candidates

MODELS = (2, 3, 5, 8, 11, 15, 20, 40, 80)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--calls", type=int, default=400)
    options.add_argument("--models", type=int, nargs="*", default=list(MODELS))
    arguments = options.parse_args()
    for models in arguments.models:
        for strategy in candidates(agreement=True):
            if strategy.name == "single":
                continue
            knob = 0.6 if strategy.name == "threshold" else 0.1
            microseconds = timings(strategy.with_knob(knob), models, arguments.calls)
            p50, p99 = np.quantile(microseconds, [0.5, 0.99])
            row = {"strategy": strategy.name, "models": models, "p50_us": float(p50), "p99_us": float(p99)}
            report(row, arguments.json)


def timings(strategy: Strategy, models: int, calls: int) -> np.ndarray:
    random = np.random.default_rng(models)
    times = np.empty(calls + 20)
    costs = np.geomspace(0.01, 1.0, models)[None, :]
    for call in range(times.size):
        step = random.normal(0, 0.05, (1, models, models))
        step[0, np.arange(models), np.arange(models)] = random.uniform(0.1, 0.4, models)
        ran = np.zeros((1, models), dtype=bool)
        if call % 2:
            ran[0, random.permutation(models)[: min(1 + call % 3, models - 1)]] = True
        step[ran] = 0.0
        agree, news = None, None
        if ran.any() or models <= 6:  # as a joint belief has it
            others = 1 if ran.any() else models
            agree = random.uniform(0.3, 0.9, (1, others, models))
            news = random.normal(0, 0.1, (1, others, models, models))
        belief = Belief(np.sort(random.uniform(0.3, 0.9, (1, models)), axis=1), step, agree, news)
        start = time.perf_counter_ns()
        strategy.next_model(belief, costs, ran)
        times[call] = (time.perf_counter_ns() - start) / 1000
    return times[20:]


if __name__ == "__main__":
    main()
