"""How far estimates of quality can be trusted: calibration and discrimination, on queries they were not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade_core.belief import FloatArray

_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Of N estimates of quality.

    Attributes:
        expected: ``(B,)`` mean estimate in each bin of equally many.
        actual: ``(B,)`` mean quality there.
        count: ``(B,)`` estimates there.
        ece: expected calibration error, the mean of ``|expected - actual|`` over the estimates (Naeini, Cooper and
            Hauskrecht, AAAI 2015), in bins of equal mass.
        brier_skill: share of the qualities' variance that the estimates explain; 0 is what the mean alone explains.
        auroc: probability that of a better and a worse answer the better is estimated higher; NaN if all are alike.
    """

    expected: FloatArray
    actual: FloatArray
    count: FloatArray
    ece: float
    brier_skill: float
    auroc: float


def reliability(estimate: FloatArray, quality: FloatArray) -> Reliability:
    """Compare estimates with the qualities that came to pass, any shape, both alike.

    Example:
        >>> result = reliability(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
        >>> result.ece, result.brier_skill, result.auroc
        (0.0, 1.0, 1.0)
    """
    p, q = np.ravel(estimate).astype(float), np.ravel(quality).astype(float)
    order = np.argsort(p, kind="stable")
    # equal estimates belong to one bin, or the order among them would decide what its quality is
    group = np.searchsorted(p[order], p[order], side="left") * _BINS // max(p.size, 1)
    count = np.bincount(group, minlength=_BINS).astype(float)
    there = count > 0
    expected = np.bincount(group, p[order], _BINS)[there] / count[there]
    actual = np.bincount(group, q[order], _BINS)[there] / count[there]
    gap = np.abs(expected - actual)
    variance = float(q.var())
    skill = 1 - float(((p - q) ** 2).mean()) / variance if variance > 0 else 0.0
    return Reliability(
        expected, actual, count[there], float(gap @ count[there] / p.size), skill, _auroc(p, q)
    )


def _auroc(p: FloatArray, q: FloatArray) -> float:
    """For graded quality, an answer counts as good by the amount it is above the worst."""
    span = float(np.ptp(q))
    if not span > 0:
        return float("nan")
    good = (q - q.min()) / span
    values, place = np.unique(p, return_inverse=True)
    better = np.bincount(place, good, values.size)
    worse = np.bincount(place, 1 - good, values.size)
    below = np.cumsum(worse) - worse
    return float(better @ (below + worse / 2) / (better.sum() * worse.sum()))
