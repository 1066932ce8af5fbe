"""``E[max]`` of Gaussian qualities: what the best of a set of answers is worth before they exist.

Independent estimates: ``E[max(f, X_1..X_n)] = f + ∫_f^∞ (1 - ΠF_m(x)) dx`` with the best quality ``f`` in hand. The
integral is cut at every model's quantiles, so that a narrow estimate beside a wide one is resolved, and each panel
gets a Gauss-Legendre rule. All subsets at once are one matrix product: those of the first half of the models, times
the weights, times those of the second half.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cascade_core._normal import cdf, pdf
from cascade_core.belief import FloatArray
from cascade_core.errors import ArrayError

_CUTS = np.array([-4.8, -3.0, -1.5, 0.0, 1.5, 3.0, 4.8])
_CHUNK = 1 << 21
"""Most numbers held at once in the products of a chunk of queries."""


def subsets_expected_max(mean: FloatArray, sd: FloatArray, floor: FloatArray, nodes: int = 3) -> FloatArray:
    """``E[max]`` of the best in hand and each subset of independent Gaussian models.

    Args:
        mean: ``(N, n)`` means; ``-inf`` marks an entry that is no model.
        sd: ``(N, n)`` standard deviations, 0 allowed.
        floor: ``(N,)`` best quality in hand; ``-inf`` where nothing has run.
        nodes: Gauss-Legendre nodes in each of the 7n panels. The default keeps the absolute error under 1e-4 for
            standard deviations up to 0.5, the most that a quality in [0, 1] has; 6 keep it under 1e-6.

    Returns:
        ``(N, 2**n)``; column ``m`` is the subset whose models are the set bits of ``m``. Column 0 is ``floor``.
    """
    queries, models = mean.shape
    table = np.empty((queries, 1 << models))
    size = (1 << models) + (2 << (models + 1) // 2) * _CUTS.size * (models + 1) * nodes
    rows = max(1, _CHUNK // size)
    for start in range(0, queries, rows):
        part = slice(start, start + rows)
        table[part] = _subsets(mean[part], sd[part], floor[part], nodes)
    return table


def _subsets(mean: FloatArray, sd: FloatArray, floor: FloatArray, nodes: int) -> FloatArray:
    queries, models = mean.shape
    if not models:
        return np.array(floor[:, None])
    below, weights, top = _integrand(mean, sd, floor, nodes)
    low, high = _products(below[:, : models // 2]), _products(below[:, models // 2 :])
    under = np.matmul(high * weights[:, None, :], low.transpose(0, 2, 1)).reshape(queries, -1)
    table: FloatArray = top[:, None] - under
    table[:, 0] = floor
    return table


def _products(below: FloatArray) -> FloatArray:
    """``(N, 2**n, X)`` products of the rows ``(N, n, X)`` over all subsets."""
    queries, models, nodes = below.shape
    products = np.ones((queries, 1 << models, nodes))
    for model in range(models):
        half = 1 << model
        np.multiply(products[:, :half], below[:, model, None], out=products[:, half : 2 * half])
    return products


def prefixes_expected_max(mean: FloatArray, sd: FloatArray, floor: FloatArray, nodes: int = 3) -> FloatArray:
    """``E[max]`` of the best in hand and the first 1, 2, … n models; as :func:`subsets_expected_max`.

    Returns:
        ``(N, n)``; column ``i`` is that of models ``0..i``. Where none of these is a model it is ``floor``.
    """
    below, weights, top = _integrand(mean, sd, floor, nodes)
    np.multiply.accumulate(below, axis=1, out=below)
    table: FloatArray = top[:, None] - np.einsum("nmx,nx->nm", below, weights)
    return np.where(np.isneginf(np.maximum.accumulate(mean, axis=1)), floor[:, None], table)


def _integrand(
    mean: FloatArray, sd: FloatArray, floor: FloatArray, nodes: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``F_m`` at the nodes ``(N, n, X)``, the nodes' weights ``(N, X)`` and the integral's upper end ``(N,)``."""
    queries = mean.shape[0]
    absent = np.isneginf(mean)
    # a bottom under which no maximum falls: what is in hand, or else the lower end of the lowest estimate
    lowest = np.where(absent, np.inf, mean).min(axis=1)
    stand_in = np.where(np.isfinite(lowest), lowest, np.where(np.isfinite(floor), floor, 0.0))
    centre = np.where(absent, stand_in[:, None], mean)
    bottom = np.where(np.isfinite(floor), floor, (centre + _CUTS[0] * sd).min(axis=1))
    cuts = (centre[:, :, None] + sd[:, :, None] * _CUTS).reshape(queries, -1)
    cuts = np.concatenate([bottom[:, None], np.maximum(cuts, bottom[:, None])], axis=1)
    cuts.sort(axis=1)
    # panels that no query of this chunk needs, because they lie below what is in hand
    cuts = cuts[:, max(int((cuts <= bottom[:, None]).sum(axis=1).min()) - 1, 0) :]
    x, weight = _rule(nodes)
    width = np.diff(cuts, axis=1)[:, :, None]
    points = (cuts[:, :-1, None] + width * x).reshape(queries, -1)
    below = cdf((points[:, None, :] - centre[:, :, None]) / np.maximum(sd, 1e-12)[:, :, None])
    below[absent] = 1.0
    return below, (width * weight).reshape(queries, -1), cuts[:, -1]


@lru_cache
def _rule(nodes: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, weight = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, weight / 2


def expected_max(mean: FloatArray, covariance: FloatArray) -> float:
    """``E[max]`` of correlated Gaussians.

    Args:
        mean: ``(n,)``.
        covariance: ``(n, n)``, positive semi-definite.

    Returns:
        For two models Clark's closed form (*The greatest of a finite set of random variables*, Operations Research
        1961). Beyond that quasi-Monte-Carlo on fixed points, within 1e-3 for standard deviations up to 0.5: a
        Kronecker sequence, folded, in principal components, each point with its mirror image.

    Raises:
        ArrayError: if the shapes do not fit.

    Example:
        >>> round(expected_max(np.array([0.5, 0.5]), np.array([[0.04, 0.01], [0.01, 0.04]])), 4)
        0.5977
    """
    models = mean.size
    if mean.shape != (models,) or covariance.shape != (models, models):
        raise ArrayError(
            f"mean has shape {mean.shape} and covariance {covariance.shape}, expected (n,) and (n, n)"
        )
    if models == 2:
        apart = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 1e-24))
        ahead = np.array((mean[0] - mean[1]) / apart)
        return float(mean[0] * cdf(ahead) + mean[1] * cdf(-ahead) + apart * pdf(ahead))
    variance, axes = np.linalg.eigh(covariance)
    root = axes[:, ::-1] * np.sqrt(np.maximum(variance[::-1], 0.0))
    moved = _points(models) @ root.T
    return float(((mean + moved).max(axis=1).mean() + (mean - moved).max(axis=1).mean()) / 2)


@lru_cache
def _points(dimensions: int, points: int = 16384) -> FloatArray:
    """``(points, dimensions)`` standard normal quasi-random numbers."""
    primes = [p for p in range(2, 20 * dimensions + 10) if all(p % d for d in range(2, int(p**0.5) + 1))]
    uniform = np.arange(1, points + 1)[:, None] * np.sqrt(primes[:dimensions]) % 1
    folded = np.clip(1 - np.abs(2 * uniform - 1), 1e-9, 1 - 1e-9)
    grid = np.linspace(-6.5, 6.5, 4001)
    normal: FloatArray = np.asarray(np.interp(folded, cdf(grid), grid))
    return normal
