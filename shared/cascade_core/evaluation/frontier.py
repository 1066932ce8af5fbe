"""The cost-quality frontier of a strategy and the areas under it.

Quality is drawn over mean cost per query. Two areas are in use, and both are normalised by the width of the cost range, so
that they read as a mean quality over budgets.
"""

from __future__ import annotations

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.errors import ArrayError


def area(cost: FloatArray, quality: FloatArray, single_cost: FloatArray, single_quality: FloatArray) -> float:
    """Area under a quality-cost curve, as Dekoninck, Baader and Vechev (ICML 2025) take it.

    The range of costs is that between the cheapest and the dearest single model. A curve that ends before the
    dearest is continued flat; one that starts after the cheapest begins there at the worst single model's quality.
    Trapezoids in between.

    Args:
        cost: ``(L,)`` mean cost per query at each point of the curve, in any order.
        quality: ``(L,)`` mean quality there.
        single_cost: ``(K,)`` mean cost of each model alone.
        single_quality: ``(K,)`` mean quality of each model alone.

    Example:
        >>> area(np.array([1.0, 3.0]), np.array([0.5, 0.9]), np.array([1.0, 3.0]), np.array([0.5, 0.9]))
        0.7
    """
    cost, quality = _curve(cost, quality)
    low, high = float(np.min(single_cost)), float(np.max(single_cost))
    if not high > low:
        raise ArrayError("the area needs two models of different mean cost")
    if cost[0] > low:
        cost, quality = np.r_[low, cost], np.r_[np.min(single_quality), quality]
    inside = (cost > low) & (cost < high)
    at_ends = np.interp([low, high], cost, quality)
    x = np.r_[low, cost[inside], high]
    y = np.r_[at_ends[0], quality[inside], at_ends[1]]
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (high - low))


def hull(cost: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The non-decreasing concave hull: the best that mixing the points at random can do at every cost.

    Returns:
        Costs and qualities of its corners, by rising cost.
    """
    cost, quality = _curve(cost, quality)
    corners: list[int] = []
    for i in range(cost.size):
        if corners and quality[i] <= quality[corners[-1]]:
            continue
        while corners and cost[i] == cost[corners[-1]]:
            corners.pop()
        while len(corners) > 1 and (quality[corners[-1]] - quality[corners[-2]]) * (
            cost[i] - cost[corners[-2]]
        ) <= (quality[i] - quality[corners[-2]]) * (cost[corners[-1]] - cost[corners[-2]]):
            corners.pop()
        corners.append(i)
    return cost[corners], quality[corners]


def _curve(cost: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    if cost.ndim != 1 or cost.shape != quality.shape or not cost.size:
        raise ArrayError(
            f"cost has shape {cost.shape} and quality {quality.shape}, expected (L,) for both, L ≥ 1"
        )
    if not (np.isfinite(cost).all() and np.isfinite(quality).all()):
        raise ArrayError("cost and quality must be finite")
    order = np.lexsort((quality, cost))
    return cost[order], quality[order]
