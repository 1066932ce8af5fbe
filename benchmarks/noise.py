"""The paper's Table 1 on any answer table: how each strategy does as its estimates get noisier.

Method (Dekoninck, Baader and Vechev, ICML 2025): true quality and cost of every answer, plus Gaussian noise, are the
signals, the ex-ante ones noisier than the post-hoc ones. 600 queries, or a fifth if that is less, are for fitting,
the others for measuring; at most five models run; one λ (or threshold) is swept and the area taken under the curve,
× 100. Fitting is that of the joint belief for all strategies alike. ``auto`` is chosen on the fitting queries alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from _tables import DATA, expected_costs, parser, report

from cascade_core.calibration.table import AnswerTable
from cascade_core.estimation.joint import CrossFitted, JointBelief, SignalEstimates, Signals
from cascade_core.evaluation import area
from cascade_core.tuning import candidates, choose, trace

QUALITY_NOISE = {"low": (0.6, 0.3), "medium": (1.6, 0.8), "high": (2.4, 1.2)}
"""Standard deviation of the noise on ex-ante and post-hoc quality."""

COST_NOISE = {"low": (2e-4, 5e-5), "medium": (4e-4, 1e-4), "high": (100.0, 100.0)}
"""The same on cost, in US dollars."""

THREE = "mistralai/mistral-7b-chat,mistralai/mixtral-8x7b-chat,gpt-4-1106-preview"


def main() -> None:
    options = parser(__doc__ or "")
    slices = DATA / "routerbench" / "routerbench_0shot_3tasks.parquet"
    options.add_argument("--table", type=Path, default=slices, help="answer table, long or wide")
    options.add_argument("--models", default=THREE, help="names of the models, separated by commas")
    options.add_argument("--noise", choices=sorted(QUALITY_NOISE), default="medium")
    options.add_argument("--seeds", type=int, default=12)
    arguments = options.parse_args()
    table = AnswerTable.read(arguments.table).select(arguments.models.split(","))
    table = table.subset(np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1))
    order = np.argsort(table.cost.mean(axis=0), kind="stable")  # cascades run the cheaper models first
    quality, cost = table.quality[:, order], table.cost[:, order]
    runs = [run(quality, cost, arguments.noise, seed) for seed in range(arguments.seeds)]
    for strategy in runs[0]:
        areas = [areas[strategy] for areas in runs]
        report(
            {
                "models": len(order),
                "noise": arguments.noise,
                "strategy": strategy,
                "auc": float(np.mean(areas)),
                "sd": float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0,
            },
            arguments.json,
        )


def run(quality: np.ndarray, cost: np.ndarray, noise: str, seed: int) -> dict[str, float]:
    """Area of each strategy, × 100."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(quality))
    fitting = min(600, len(quality) // 5)
    fit, rest = shuffled[:fitting], shuffled[fitting:]
    ante, post = (quality + random.normal(0, sd, quality.shape) for sd in QUALITY_NOISE[noise])
    costs = expected_costs(cost + random.normal(0, COST_NOISE[noise][0], cost.shape), cost, fit)
    seen, unseen = Signals(ante[fit], post[fit]), Signals(ante[rest], post[rest])
    tuning = SignalEstimates(CrossFitted.fit(seen, quality[fit]), seen, costs[fit])
    testing = SignalEstimates(JointBelief.fit(seen, quality[fit]), unseen, costs[rest])
    single = cost[rest].mean(axis=0), quality[rest].mean(axis=0)
    areas, curves = {}, {}
    for strategy in candidates(agreement=False):
        name = "linear" if strategy.name == "single" else strategy.name
        limited = strategy if strategy.max_models == 1 else replace(strategy, max_models=5)
        curves[name] = trace(limited, tuning, quality[fit], cost[fit])
        curve = trace(limited, testing, quality[rest], cost[rest])
        areas[name] = 100 * area(curve.cost, curve.quality, *single)
    budgets = [
        float(budget) for budget in np.linspace(cost[fit].mean(axis=0).min(), cost[fit].mean(axis=0).max(), 8)
    ]
    chosen = choose(list(curves.values()), budgets)
    return {**areas, "auto": areas[next(name for name, curve in curves.items() if curve is chosen)]}


if __name__ == "__main__":
    main()
