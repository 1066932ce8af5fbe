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
"""

from __future__ import annotations

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.errors import ArrayError

_DRAWS = 20_000
_BLOCK = 1 << 22
"""Most weights drawn together; bounds the memory."""


def lower_mean(values: FloatArray, confidence: float, *, worst: float = 0.0, seed: int = 0) -> float:
    """Lower confidence bound on a mean.

    Args:
        values: ``(n,)`` independent observations.
        confidence: such as 0.95.
        worst: the lowest value there can be.
        seed: of the weights; the same seed gives the same bound.

    Example:
        >>> round(lower_mean(np.array([1.0] * 98 + [0.0] * 2), 0.95), 2)  # Clopper and Pearson: 0.938
        0.94
    """
    values = _sample("values", values)
    return _quantile(values, np.ones_like(values), (worst, 1.0), 1 - confidence, seed)


def upper_mean(values: FloatArray, confidence: float, *, worst: float, seed: int = 0) -> float:
    """Upper confidence bound on a mean; ``worst`` is the highest value there can be."""
    values = _sample("values", values)
    return _quantile(values, np.ones_like(values), (worst, 1.0), confidence, seed)


def lower_ratio(
    values: FloatArray, reference: FloatArray, confidence: float, *, worst: tuple[float, float], seed: int = 0
) -> float:
    """Lower confidence bound on mean(values) / mean(reference), from pairs.

    Args:
        values: ``(n,)``, not negative.
        reference: ``(n,)`` the other number of each pair, not negative.
        confidence: such as 0.95.
        worst: the pair that is worst for the ratio: least value, highest reference.
        seed: of the weights.
    """
    values, reference = _pairs(values, reference)
    return _quantile(values, reference, worst, 1 - confidence, seed)


def upper_ratio(
    values: FloatArray, reference: FloatArray, confidence: float, *, worst: tuple[float, float], seed: int = 0
) -> float:
    """Upper confidence bound on mean(values) / mean(reference); ``worst`` is highest value, least reference."""
    values, reference = _pairs(values, reference)
    return _quantile(values, reference, worst, confidence, seed)


def _quantile(
    above: FloatArray, below: FloatArray, worst: tuple[float, float], level: float, seed: int
) -> float:
    """Quantile of the ratio of randomly weighted sums, the worst pair among them."""
    if not 0 < level < 1:
        raise ArrayError(f"a confidence must lie between 0 and 1, not be {max(level, 1 - level)}")
    # Equal pairs share one weight, whose distribution is Gamma(how many); scores are mostly few distinct numbers.
    pairs, counts = np.unique(np.column_stack([above, below]), axis=0, return_counts=True)
    pairs, counts = np.vstack([pairs, worst]), np.r_[counts, 1]
    draw = np.random.default_rng(seed)
    ratios = []
    block = max(1, _BLOCK // counts.size)
    for start in range(0, _DRAWS, block):
        weights = draw.standard_gamma(counts, size=(min(block, _DRAWS - start), counts.size))
        sums = weights @ pairs
        ratios.append(sums[:, 0] / np.maximum(sums[:, 1], np.finfo(float).tiny))
    return float(np.quantile(np.concatenate(ratios), level))


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
