"""What the benchmarks share: command-line options, output, expected costs, the curve over budgets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from cascade_core.errors import InfeasibleTargetError
from cascade_core.estimation.joint import SignalEstimates
from cascade_core.simulate import sweep
from cascade_core.tuning import Curve, Tuned

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Default place of the data: beside the repository."""


def parser(description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", action="store_true", help="one JSON object per line")
    return options


def report(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
    else:
        print("  ".join(f"{key}={_short(value)}" for key, value in row.items()), flush=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def expected_costs(signal: np.ndarray, cost: np.ndarray, train: np.ndarray) -> np.ndarray:
    """``(N, K)`` expected cost by a linear regression, for each model, of its cost on its signal, both ``(N, K)``.

    Slopes are shrunk as those of the joint belief, so that a signal that tells nothing moves nothing.
    """
    expected = np.empty_like(signal)
    for k in range(cost.shape[1]):
        x, y = signal[train, k], cost[train, k]
        correlation = np.corrcoef(x, y)[0, 1] if x.std() > 0 and y.std() > 0 else 0.0
        wald = correlation**2 * (len(x) - 2) / max(1 - correlation**2, 1e-9)
        slope = correlation * y.std() / max(x.std(), 1e-300) * max(0.0, 1 - 3.84 / max(wald, 1e-9))
        expected[:, k] = y.mean() + slope * (signal[:, k] - x.mean())
        expected[:, k] = np.clip(expected[:, k], np.quantile(y, 0.1), y.max())
    return expected


def measured(
    tuned: list[Tuned], estimates: SignalEstimates, quality: np.ndarray, cost: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and quality ``(B,)`` of several settings of one strategy on another table, in one sweep."""
    pairs = [(t.strategy, t.alternative or t.strategy) for t in tuned]
    knobs = np.array([[getattr(strategy, strategy.knob) for strategy in pair] for pair in pairs])
    outcome = sweep(tuned[0].strategy, knobs.ravel(), estimates, quality, cost)
    gamma = np.array([t.gamma for t in tuned])
    spent, won = (values.mean(axis=1).reshape(-1, 2) for values in (outcome.cost, outcome.quality))
    return (1 - gamma) * spent[:, 0] + gamma * spent[:, 1], (1 - gamma) * won[:, 0] + gamma * won[:, 1]


def at_budgets(curve: Curve, budgets: np.ndarray) -> tuple[list[Tuned], int]:
    """A setting for each budget, and how many budgets were infeasible: those get the cheapest setting."""
    tuned, infeasible = [], 0
    for budget in budgets:
        try:
            tuned.append(curve.at_budget(float(budget), exact=True))
        except InfeasibleTargetError:
            tuned.append(curve.at_budget(float(curve.cost.min())))
            infeasible += 1
    return tuned, infeasible
