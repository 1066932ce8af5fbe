"""Confidence bounds on means and on ratios of means, from a sample of bounded numbers.

The bound is Gaffke's (N. Gaffke, *Three test statistics for a nonparametric one-sided hypothesis on the mean of a
nonnegative variable*, 2005; Learned-Miller and Thomas, arXiv 1905.06208): one imagined observation with the worst
possible value joins the n real ones, and the bound is a quantile of the mean under random weights that are uniform on
the simplex,

    L = quantile_α of Σ_{i=0..n} W_i x_i,   W ~ Dirichlet(1, …, 1),   x_0 = worst.

For scores of 0 and 1 this *is* Clopper and Pearson's exact bound, and the worst case keeps it from being certain
where nothing has gone wrong yet. That it holds for every distribution and every n is proven for some cases and a
conjecture for the rest; ``benchmarks/coverage.py`` counts how often it is violated.

A ratio of means E[a]/E[b] is at least r where E[a - r·b] ≥ 0, so bounding that difference for every r with the same
weights is to take the quantile of Σ W a / Σ W b, the imagined observation being the worst pair.

The quantile is that of a ratio of sums of exponential variables: P(ratio ≤ t) = P(Σ E_i (a_i - t·b_i) ≤ 0), whose
tail the saddlepoint formula of Lugannani and Rice (1980) gives to within a few percent of itself at n = 1, and to
within one percent from n = 10 on.
"""

from __future__ import annotations

import math

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.errors import ArrayError


def lower_mean(values: FloatArray, confidence: float, *, worst: float = 0.0) -> float:
    """Lower confidence bound on a mean.

    Args:
        values: ``(n,)`` independent observations.
        confidence: such as 0.95.
        worst: the lowest value there can be.

    Example:
        >>> round(lower_mean(np.array([1.0] * 98 + [0.0] * 2), 0.95), 4)  # Clopper and Pearson: 0.9384
        0.9384
    """
    values = _sample("values", values)
    return _quantile(values, np.ones_like(values), (worst, 1.0), 1 - confidence)


def upper_mean(values: FloatArray, confidence: float, *, worst: float) -> float:
    """Upper confidence bound on a mean; ``worst`` is the highest value there can be."""
    values = _sample("values", values)
    return _quantile(values, np.ones_like(values), (worst, 1.0), confidence)


def lower_ratio(
    values: FloatArray, reference: FloatArray, confidence: float, *, worst: tuple[float, float]
) -> float:
    """Lower confidence bound on mean(values) / mean(reference), from pairs.

    Args:
        values: ``(n,)``, not negative.
        reference: ``(n,)`` the other number of each pair, not negative.
        confidence: such as 0.95.
        worst: the pair that is worst for the ratio: least value, highest reference.
    """
    values, reference = _pairs(values, reference)
    return _quantile(values, reference, worst, 1 - confidence)


def upper_ratio(
    values: FloatArray, reference: FloatArray, confidence: float, *, worst: tuple[float, float]
) -> float:
    """Upper confidence bound on mean(values) / mean(reference); ``worst`` is highest value, least reference.

    Infinite where the reference may well be nothing.
    """
    values, reference = _pairs(values, reference)
    return _quantile(values, reference, worst, confidence)


def _quantile(above: FloatArray, below: FloatArray, worst: tuple[float, float], level: float) -> float:
    """Quantile of the ratio of randomly weighted sums, the worst pair among them."""
    from scipy.optimize import brentq

    if not 0 < level < 1:
        raise ArrayError(f"a confidence must lie between 0 and 1, not be {max(level, 1 - level)}")
    # Equal pairs share one weight, whose distribution is Gamma(how many); scores are mostly few distinct numbers.
    pairs, counts = np.unique(np.column_stack([above, below]), axis=0, return_counts=True)
    a, b = np.vstack([pairs, worst]).T
    times = np.r_[counts, 1].astype(float)
    some = b > 0
    if not some.any():
        return 0.0 if not a.any() else math.inf
    ratios = a[some] / b[some]
    low, high = float(ratios.min()), float(ratios.max())
    if (a[~some] > 0).any():  # the ratio may exceed that of every pair
        high = max(high, 1e-300)
        while _distribution(high, a, b, times) < level and high < 1e300:
            high *= 2
    if not low < high:
        return low
    if _distribution(high, a, b, times) <= level:
        return high
    size = max(abs(low), abs(high))
    root = brentq(lambda t: _distribution(t * size, a, b, times) - level, low / size, high / size, xtol=1e-12)
    return size * float(root)


def _distribution(t: float, a: FloatArray, b: FloatArray, times: FloatArray) -> float:
    """P(Σ G_i a_i / Σ G_i b_i ≤ t) with G_i ~ Gamma(times_i), by the saddlepoint formula."""
    from scipy.optimize import brentq

    d = a - t * b
    size = float(np.abs(d).max())
    if size == 0:
        return 1.0
    d = d / size
    low, high = float(d.min()), float(d.max())
    if low >= 0:
        return 0.0
    if high <= 0:
        return 1.0
    inside = 1 - 1e-12
    s = float(
        brentq(lambda s: float((times * d / (1 - s * d)).sum()), inside / low, inside / high, xtol=1e-14)
    )
    cumulant = -float((times * np.log1p(-s * d)).sum())
    # s² times the curvature, which may be too small by itself
    spread = float((times * (s * d / (1 - s * d)) ** 2).sum())
    w, v = math.copysign(math.sqrt(max(-2 * cumulant, 0.0)), s), math.copysign(math.sqrt(spread), s)
    normal = 0.5 * math.erfc(-w / math.sqrt(2))
    if abs(w) < 1e-4:  # at the mean the correction is 0/0
        return normal
    return normal + math.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / w - 1 / v)


def _sample(name: str, values: FloatArray) -> FloatArray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ArrayError(f"{name} has shape {values.shape}, expected (n,) finite numbers, n ≥ 1")
    return values


def _pairs(values: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    values, reference = _sample("values", values), _sample("reference", reference)
    if values.shape != reference.shape:
        raise ArrayError(f"reference has shape {reference.shape}, expected that of values, {values.shape}")
    if values.min() < 0 or reference.min() < 0:
        raise ArrayError("a ratio of means needs numbers that are not negative")
    return values, reference
