"""Nearest neighbours: queries that the regressions expect as much of and that have the same form.

Where these were answered better or worse than the regressions say, so will the query be. The regressions' scores are
the space that n-grams (and embeddings) are projected into, so a neighbour is alike in what matters for quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray, IntArray

MOST = 4096
"""Most queries that are kept to be neighbours."""

_FORM_SHARE = 0.15
_REACH = 0.4


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Queries whose qualities are known.

    Attributes:
        place: ``(M, K + FORM)`` their coordinates.
        quality: ``(M, K)`` qualities of their answers, in [0, 1].
    """

    place: NDArray[np.float32]
    quality: NDArray[np.float32]

    @cached_property
    def _squares(self) -> NDArray[np.float32]:
        """``(M,)`` squared lengths; that of a query itself is the same for all its neighbours."""
        squares: NDArray[np.float32] = (self.place**2).sum(axis=1)
        return squares

    def __call__(self, place: FloatArray) -> FloatArray:
        """``(N, K)`` mean quality around places ``(N, K + FORM)``, nearer ones counting more (Nadaraya-Watson)."""
        apart = self._squares - 2 * place.astype(np.float32) @ self.place.T
        apart -= apart.min(axis=1, keepdims=True)
        weight = np.exp(apart * np.float32(-0.5 / _REACH**2))
        near: FloatArray = ((weight @ self.quality) / weight.sum(axis=1, keepdims=True)).astype(float)
        return near


def places(scores: FloatArray, form: FloatArray) -> FloatArray:
    """``(N, K + FORM)`` coordinates, from standardised scores ``(N, K)`` and form ``(N, FORM)``."""
    return np.concatenate([scores * np.sqrt(2 / scores.shape[1]), form * _FORM_SHARE], axis=1)


def fit_neighbours(
    place: FloatArray, quality: FloatArray, fold: IntArray, seed: int
) -> tuple[Neighbours, FloatArray]:
    """Keep some queries, and what their neighbours say of all of them, other folds' only: ``(N, K)``."""
    kept = np.random.default_rng(seed).permutation(len(place))[:MOST]
    near = np.empty_like(quality)
    for held_out in range(int(fold.max()) + 1):
        rows, others = np.flatnonzero(fold == held_out), kept[fold[kept] != held_out]
        for start in range(0, rows.size, MOST):
            some = rows[start : start + MOST]
            near[some] = _of(place[others], quality[others])(place[some])
    return _of(place[kept], quality[kept]), near


def _of(place: FloatArray, quality: FloatArray) -> Neighbours:
    return Neighbours(place.astype(np.float32), quality.astype(np.float32))
