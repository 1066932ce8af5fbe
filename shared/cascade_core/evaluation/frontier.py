"""The cost-quality frontier of a strategy and the areas under it.

Quality is drawn over mean cost per query. Two areas are in use, and both are normalised by the width of the cost
range, so that they read as a mean quality over budgets.
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


def aiq(cost: FloatArray, quality: FloatArray, single_cost: FloatArray) -> float:
    """Average improvement in quality of RouterBench (Hu et al. 2024): area under the non-decreasing concave hull.

    The range of costs is that between the cheapest and the dearest single model ``(K,)``, as for :func:`area`; below
    its first corner the hull has that corner's quality.
    """
    corner_cost, corner_quality = hull(cost, quality)
    ends = np.array([np.min(single_cost), np.max(single_cost)])
    worst = float(corner_quality[0])
    return area(
        np.r_[corner_cost[0] - 1.0, corner_cost], np.r_[worst, corner_quality], ends, np.array([worst])
    )


def max_gain(
    cost: FloatArray, quality: FloatArray, single_cost: FloatArray, single_quality: FloatArray
) -> float:
    """Most by which the curve is above the linear interpolation between single models at the same cost.

    The linear interpolation is the hull of the single models; the curve is looked at where it has points no
    cheaper than the cheapest model.
    """
    cost, quality = _curve(cost, quality)
    line_cost, line_quality = hull(single_cost, single_quality)
    comparable = cost >= line_cost[0]
    if not comparable.any():
        return 0.0
    return float((quality - np.interp(cost, line_cost, line_quality))[comparable].max())


def area_difference(
    one: tuple[FloatArray, FloatArray],
    other: tuple[FloatArray, FloatArray],
    single: tuple[FloatArray, FloatArray],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Paired bootstrap over queries of the difference between two areas.

    Args:
        one: cost and quality ``(L, N)`` of each query at each point of the first curve.
        other: the same queries' on the second, with its own L.
        single: cost and quality ``(N, K)`` of the single models.
        confidence: of the interval.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        The difference of the areas, and the lower and upper end of its percentile interval.
    """
    queries = single[0].shape[0]
    for name, curve in (("one", one), ("other", other)):
        if curve[0].shape != curve[1].shape or curve[0].shape[-1] != queries:
            raise ArrayError(
                f"{name} has arrays of shape {curve[0].shape} and {curve[1].shape}, "
                f"expected (L, N) with N = {queries}"
            )
    weights = np.random.default_rng(seed).multinomial(queries, np.full(queries, 1 / queries), size=resamples)
    weights = np.concatenate([np.ones((1, queries), dtype=weights.dtype), weights]) / queries
    means = [(curve[0] @ weights.T, curve[1] @ weights.T) for curve in (one, other)]
    single_cost, single_quality = weights @ single[0], weights @ single[1]
    difference = np.array(
        [
            area(means[0][0][:, b], means[0][1][:, b], single_cost[b], single_quality[b])
            - area(means[1][0][:, b], means[1][1][:, b], single_cost[b], single_quality[b])
            for b in range(resamples + 1)
        ]
    )
    low, high = np.quantile(difference[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(difference[0]), float(low), float(high)
