"""Against the paper's reference code: nine synthetic RouterBench-like sets on which its figures are known.

The knob of every strategy is tuned on ``train`` for each of the eight budgets (γ mixing included) and measured on
``test``; the area is taken under the eight points, × 100. Beliefs are those of the joint belief, cross-fitted
on ``train`` for the tuning. ``auto`` is chosen on ``train`` alone.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from _tables import DATA, at_budgets, expected_costs, measured, parser, report

from cascade_core.estimation.joint import CrossFitted, JointBelief, SignalEstimates, Signals
from cascade_core.evaluation import area
from cascade_core.tuning import Curve, candidates, choose, refine, trace

REFERENCE = {
    "K3_low": 88.21,
    "K3_medium": 81.12,
    "K3_high": 77.33,
    "K5_low": 91.66,
    "K5_medium": 82.79,
    "K5_high": 78.91,
    "K11_low": 95.49,
    "K11_medium": 85.21,
    "K11_high": 80.48,
}
"""Best of the reference's five strategies in each cell."""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument(
        "--data", type=Path, default=DATA / "reference_parity", help="folder of the nine .npz files"
    )
    arguments = options.parse_args()
    gains = []
    for cell, reference in REFERENCE.items():
        for row in run(arguments.data / f"{cell}.npz"):
            row = {"cell": cell, **row, "reference_best": reference}
            report(row, arguments.json)
            if row["strategy"] == "index":
                gains.append(row["auc"] - reference)
    summary = {"strategy": "index", "smallest_gain": min(gains), "mean_gain": float(np.mean(gains))}
    report({"cell": "all", **summary}, arguments.json)


def run(path: Path) -> list[dict[str, object]]:
    table = np.load(path)
    train, test = table["train"].astype(int), table["test"].astype(int)
    quality, cost = table["quality"].astype(float), table["cost"].astype(float)
    estimate = table["quality_estimate"].astype(float)
    costs = expected_costs(table["cost_estimate"][..., 0].astype(float), cost, train)
    seen = Signals(estimate[train, :, 0], estimate[train, :, 1])
    tuning = SignalEstimates(CrossFitted.fit(seen, quality[train]), seen, costs[train])
    unseen = Signals(estimate[test, :, 0], estimate[test, :, 1])
    testing = SignalEstimates(JointBelief.fit(seen, quality[train]), unseen, costs[test])

    budgets = table["budgets"].astype(float)
    rows: list[dict[str, object]] = []
    curves: dict[str, Curve] = {}
    for strategy in candidates(agreement=False):
        start = time.process_time()
        name = "linear" if strategy.name == "single" else strategy.name
        curves[name] = trace(strategy, tuning, quality[train], cost[train])
        row = measure(curves[name], budgets, testing, quality[test], cost[test])
        rows.append({"strategy": name, **row, "cpu_s": time.process_time() - start})
    binding = [float(budget) for budget in budgets]
    chosen = choose(list(curves.values()), binding)
    final = refine(chosen, tuning, quality[train], cost[train], binding)
    row = measure(final, budgets, testing, quality[test], cost[test])
    name = next(name for name, curve in curves.items() if curve is chosen)
    return [
        *rows,
        {
            "strategy": "auto",
            **row,
            "chosen": name,
            "step_factors": getattr(final.strategy, "step_factors", ()),
        },
    ]


def measure(
    curve: Curve, budgets: np.ndarray, estimates: SignalEstimates, quality: np.ndarray, cost: np.ndarray
) -> dict[str, object]:
    """Area and overshoot on ``test``; how far the cost on ``train`` is off the budgets within the curve's reach."""
    tuned, infeasible = at_budgets(curve, budgets)
    spent, won = measured(tuned, estimates, quality, cost)
    reached = (budgets >= curve.cost.min()) & (budgets <= curve.cost.max())
    off = np.array([t.cost for t in tuned]) / budgets - 1
    return {
        "auc": 100 * area(spent, won, cost.mean(axis=0), quality.mean(axis=0)),
        "feasible_budgets": len(budgets) - infeasible,
        "train_cost_off": float(np.abs(off[reached]).max()),
        "test_overshoot": float((spent / budgets - 1).max()),
        "test_overshoot_mean": float((spent / budgets - 1).mean()),
    }


if __name__ == "__main__":
    main()
