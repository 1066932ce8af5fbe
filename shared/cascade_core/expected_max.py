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


def lines_expected_max(level: FloatArray, slope: FloatArray) -> FloatArray:
    """``E[max_j (level_j + slope_j·s)]``, ``s ~ N(0, 1)``: the best answer after one call that moves all estimates.

    Exact: on the upper envelope, line ``j`` is the highest between its last crossing with a flatter line and its
    first with a steeper one (Frazier, Powell and Dayanik, *The knowledge-gradient policy for correlated normal
    beliefs*, 2009).

    Args:
        level: ``(..., J)``; ``-inf`` marks an entry that is no line.
        slope: ``(..., J)``.

    Returns:
        ``(...)``.
    """
    shape = np.broadcast_shapes(level.shape, slope.shape)
    level, slope = np.broadcast_to(np.maximum(level, -1e30), shape), np.broadcast_to(slope, shape)
    lines = np.arange(level.shape[-1])
    behind = level[..., None, :] - level[..., :, None]  # [.., j, i]: how far i starts above j
    steeper = slope[..., None, :] - slope[..., :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -behind / steeper
    begin = np.where(steeper < 0, crossing, -np.inf).max(axis=-1)
    end = np.where(steeper > 0, crossing, np.inf).min(axis=-1)
    hidden = ((steeper == 0) & ((behind > 0) | ((behind == 0) & (lines < lines[:, None])))).any(axis=-1)
    shown = (begin < end) & ~hidden
    begin, end = np.where(shown, begin, 0.0), np.where(shown, end, 0.0)
    value = np.where(shown, level, 0.0) * (cdf(end) - cdf(begin)) + slope * (_density(begin) - _density(end))
    total: FloatArray = value.sum(axis=-1)
    return total


def _density(x: FloatArray) -> FloatArray:
    return pdf(np.minimum(np.maximum(x, -40.0), 40.0))
