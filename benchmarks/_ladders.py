"""Fitted policies against a plain rule: run the two cheaper models, stop if they agree, else run the dearest.

Agreement of numeric answers is a strong signal on GSM8K, so the rule is hard to beat. Each ladder is fitted to 300
queries. On the others the policy is taken at the rule's cost and at the rule's quality: it dominates the rule's point
if it is no worse at no more cost, or no dearer at no less quality.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cascade_core.calibration import AnswerTable
from cascade_core.estimation import fit_estimator
from cascade_core.evaluation import hull
from cascade_core.extract import number
from cascade_core.tuning import candidates, choose, refine, trace

LADDERS = (
    (("gemma-2-2b", 0.10), ("Llama-3.1-8B", 0.18), ("gpt-4o-2024", 10.0)),
    (("Llama-3.1-8B", 0.18), ("gpt-4o-mini", 0.60), ("claude-3-5-sonnet", 15.0)),
    (("Mixtral-8x7B", 0.60), ("Llama-3.1-8B", 0.18), ("gpt-4o-2024", 10.0)),
    (("gpt-3.5", 1.5), ("claude-3-haiku", 1.25), ("claude-3-5-sonnet", 15.0)),
    (("Llama-3.1-8B", 0.18), ("Llama-3.1-70B", 0.88), ("claude-3-5-sonnet", 15.0)),
)
"""Parts of the models' names and their list prices, US dollars per million tokens."""

TRAIN = 300


def ladders(table: AnswerTable, seeds: int = 5) -> list[dict[str, object]]:
    """One row for each ladder whose models the table has."""
    rows: list[dict[str, object]] = []
    for ladder in LADDERS:
        found = [[name for name in table.models if part.lower() in name.lower()] for part, _ in ladder]
        if not all(found):
            continue
        part = table.select([names[0] for names in found])
        part = replace(part, cost=_priced(part, [price for _, price in ladder]))
        runs = [_compare(part, seed) for seed in range(seeds)]
        mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        dominates = mean["gain_at_its_cost"] >= 0 or mean["cost_at_its_quality"] <= mean["rule_cost"]
        rows.append({"case": "ladder", "ladder": " ".join(part.models), **mean, "dominates": bool(dominates)})
    return rows


def _priced(table: AnswerTable, prices: list[float]) -> np.ndarray:
    chars = [[len(answer.text) if answer else 0 for answer in row] for row in table.answers]
    return np.array(chars) / 4e6 * np.array(prices)


def _compare(table: AnswerTable, seed: int) -> dict[str, float]:
    """Relative to the dearest model's mean quality and cost: the rule's point and the policy's at the same cost."""
    fitted, unseen = table.split(TRAIN / len(table), seed=seed)
    keys = [[number(answer.text) if answer else None for answer in row[:2]] for row in unseen.answers]
    agree = np.array([one is not None and one == other for one, other in keys])
    quality, cost = unseen.quality, unseen.cost
    rule_quality = np.where(agree, quality[:, 1], quality[:, 2]).mean() / quality[:, 2].mean()
    rule_cost = (cost[:, :2].sum(axis=1) + np.where(agree, 0, cost[:, 2])).mean() / cost[:, 2].mean()

    by_cost = [table.models[k] for k in np.argsort(table.cost.mean(axis=0))]
    fitted, unseen = fitted.select(by_cost), unseen.select(by_cost)
    estimation = fit_estimator(fitted, seed=seed)
    strategies = candidates(agreement=estimation.estimator.compares)
    seen = [trace(one, estimation.estimates, fitted.quality, fitted.cost) for one in strategies]
    reference = fitted.cost.mean(axis=0).max()
    budgets = [rule_cost * reference]
    chosen = refine(choose(seen, budgets), estimation.estimates, fitted.quality, fitted.cost, budgets)
    estimates = estimation.estimator.estimates(unseen)
    curve = trace(chosen.strategy, estimates, unseen.quality, unseen.cost)
    dearest = int(unseen.cost.mean(axis=0).argmax())
    x, y = hull(
        curve.cost / unseen.cost[:, dearest].mean(), curve.quality / unseen.quality[:, dearest].mean()
    )
    at_cost = float(np.interp(rule_cost, x, y))
    reached = float(np.interp(rule_quality, y, x)) if y[-1] >= rule_quality else float("inf")
    return {
        "rule_quality": float(rule_quality),
        "rule_cost": float(rule_cost),
        "quality_at_its_cost": at_cost,
        "gain_at_its_cost": at_cost - float(rule_quality),
        "cost_at_its_quality": min(reached, 9.0),
    }
