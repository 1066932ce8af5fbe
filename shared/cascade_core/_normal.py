"""The standard normal distribution, vectorised with numpy alone.

A decision must not wait for scipy's import, so Φ is read from a table that ``math.erf`` fills once (cubic Hermite
interpolation), and the inverse of the unit normal loss from a second table.
"""

from __future__ import annotations

import math

import numpy as np

from cascade_core.belief import FloatArray

_EDGE = 8.0
"""Beyond ±8 the tails hold less than 1e-15."""

_PER_UNIT = 64
_SMALLEST = 1e-12
"""Smallest loss that is inverted; it belongs to u ≈ 6.8."""


def _upper_tail(u: FloatArray) -> FloatArray:
    return np.array([0.5 * math.erfc(x / math.sqrt(2)) for x in u])


_GRID = np.arange(-_EDGE, _EDGE + 2 / _PER_UNIT, 1 / _PER_UNIT)
_CDF = _upper_tail(-_GRID)
_PDF = np.exp(-0.5 * _GRID**2) / math.sqrt(2 * math.pi)


def _inverse_table() -> tuple[FloatArray, FloatArray]:
    """u and its derivative at losses that are equidistant in their logarithm."""
    known = _PDF - _GRID * _upper_tail(_GRID)
    sure = known > 0.1 * _SMALLEST
    log_loss = (
        math.log(_SMALLEST) + np.arange((math.log(_EDGE / _SMALLEST) + 2 / _PER_UNIT) * _PER_UNIT) / _PER_UNIT
    )
    u = np.interp(log_loss, np.log(known[sure])[::-1], _GRID[sure][::-1])
    target = np.exp(log_loss)
    for _ in range(2):  # Newton
        tail = _upper_tail(u)
        u = u + (np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi) - u * tail - target) / tail
    return u, -target / _upper_tail(u)


_U, _SLOPE = _inverse_table()


def pdf(x: FloatArray) -> FloatArray:
    """φ(x), the standard normal density."""
    density: FloatArray = np.exp(-0.5 * x * x) * 0.3989422804014327
    return density


def cdf(x: FloatArray) -> FloatArray:
    """Φ(x), the standard normal distribution function, to 1e-9."""
    return _hermite((np.minimum(np.maximum(x, -_EDGE), _EDGE) + _EDGE) * _PER_UNIT, _CDF, _PDF)


def _hermite(position: FloatArray, value: FloatArray, slope: FloatArray) -> FloatArray:
    """Cubic Hermite interpolation in a table with ``_PER_UNIT`` entries a unit; ``slope`` is per unit."""
    cell = position.astype(np.intp)
    t = position - cell
    left, right = slope[cell] * (1 / _PER_UNIT), slope[cell + 1] * (1 / _PER_UNIT)
    low = value[cell]
    rise = value[cell + 1] - low
    result: FloatArray = low + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))
    return result


def loss(u: FloatArray) -> FloatArray:
    """Unit normal loss ``E[(Z - u)⁺] = φ(u) - u·(1 - Φ(u))``."""
    return pdf(u) - u * cdf(-u)


def inverse_loss(t: FloatArray) -> FloatArray:
    """The ``u`` with ``loss(u) = t``, for ``t`` ≥ 0, to 1e-8; losses under 1e-12 give that of 1e-12, ``u`` ≈ 6.8."""
    position = (np.log(np.minimum(np.maximum(t, _SMALLEST), _EDGE)) - math.log(_SMALLEST)) * _PER_UNIT
    return np.where(t >= _EDGE, -t, _hermite(position, _U, _SLOPE))
