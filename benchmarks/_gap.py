"""How much of the gap between a weak and a strong model is closed, by share of calls to the strong one.

As RouteLLM measures it (Ong et al., arXiv 2406.18665): queries go to the strong model in the order of what it is
expected to add; the performance gap recovered is averaged over ten thresholds, evenly spaced in the share of
calls. ``after`` lets the weak model answer first and looks at its answer, whose cost is not counted here.
"""

from __future__ import annotations

import numpy as np

from cascade_core.calibration import AnswerTable
from cascade_core.estimation import fit_estimator

THRESHOLDS = 10
FOLDS = 5


def gaps(table: AnswerTable, seed: int = 0) -> list[dict[str, object]]:
    """Average gap recovered and share of strong calls for half of it, by 5-fold cross-validation."""
    weak, strong = np.argsort(table.quality.mean(axis=0))
    fold = np.random.default_rng(seed).permutation(np.arange(len(table)) % FOLDS)
    found: dict[str, list[tuple[float, float]]] = {}
    for held_out in range(FOLDS):
        fitted, unseen = table.subset(fold != held_out), table.subset(fold == held_out)
        estimator = fit_estimator(fitted, seed=seed).estimator
        estimates = estimator.estimates(unseen)
        queries, ran = np.arange(len(unseen)), np.zeros(unseen.quality.shape, dtype=bool)
        stages = {"before": ran}
        if estimator.post is not None:
            stages["after"] = ran.copy()
            stages["after"][:, weak] = True
        for stage, known in stages.items():
            mean = estimates(queries, known)[0].mean
            gain = unseen.quality[:, strong] - unseen.quality[:, weak]
            found.setdefault(stage, []).append(recovered(mean[:, strong] - mean[:, weak], gain))
    return [
        {
            "case": "gap",
            "stage": stage,
            "apgr": float(np.mean([apgr for apgr, _ in folds])),
            "half_gap_calls": float(np.mean([half for _, half in folds])),
        }
        for stage, folds in found.items()
    ]


def recovered(expected: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
    """Average gap recovered, and share of strong calls that recovers half of it."""
    order = np.argsort(-expected, kind="stable")
    won = np.concatenate([[0.0], np.cumsum(gain[order])]) / gain.sum()
    shares = np.linspace(0, 1, THRESHOLDS + 1)
    at = won[np.rint(shares * gain.size).astype(int)]
    return float(((at[1:] + at[:-1]) / 2).mean()), float(np.argmax(won >= 0.5) / gain.size)
