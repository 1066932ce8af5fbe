"""The regressions that estimators are made of: ridge on sparse features, and logistic regression of several models.

Both take soft labels in [0, 1], missing ones as NaN, and choose their penalty by cross-fitting. They return their
predictions for the queries they were fitted to as well, each made by a fit that had not seen that query: whatever is
fitted on top of them must be fitted to these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade_core.belief import BoolArray, FloatArray, IntArray

_ALPHAS = (3.0, 10.0, 30.0, 100.0)
_ITERATIONS = 40
_TINY = np.float32(1e-30)
_COMMON = (3.0, 30.0, 300.0)
_OWN = (10.0, 100.0, 1000.0)
_NEWTON_STEPS = 12
_FOLDS = 10


def folds(queries: int, seed: int) -> IntArray:
    """``(N,)`` fold of each query, at random: ten folds, or as many as leave two queries in each."""
    count = max(2, min(_FOLDS if queries <= 1000 else 5, queries // 2))
    assigned: IntArray = np.random.default_rng(seed).permutation(np.arange(queries) % count)
    return assigned


def logit(p: FloatArray) -> FloatArray:
    """Log odds of a probability, within ±7."""
    p = np.clip(p, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(p / (1 - p)))


def logistic(x: FloatArray) -> FloatArray:
    """Inverse of :func:`logit`."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


def moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation along the first axis, of what is there; 0 where nothing is."""
    there = np.isfinite(x)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, x, 0.0).sum(axis=0) / count
    sd: FloatArray = np.sqrt((np.where(there, x - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, sd


@dataclass(frozen=True)
class Ridge:
    """Linear regression of T targets on D features, with a penalty of its own for each group of targets.

    Attributes:
        weights: ``(D, T)``.
        intercept: ``(T,)``.
        out_of_fold: ``(N, T)`` predictions by fits that had not seen the query.
    """

    weights: FloatArray
    intercept: FloatArray
    out_of_fold: FloatArray


def fit_ridge(features: Any, targets: FloatArray, groups: IntArray, fold: IntArray) -> Ridge:
    """Ridge regression by conjugate gradients, all targets and penalties at once.

    Args:
        features: ``(N, D)`` ``scipy.sparse`` matrix with rows of length about 1.
        targets: ``(N, T)``; NaN leaves a query out for that target.
        groups: ``(T,)``; targets of one group share their penalty, the one of least squared error out of fold.
        fold: ``(N,)`` fold of each query.
    """
    queries, count = targets.shape
    used = np.unique(features.indices)  # the weights of n-grams that never occur are 0
    compact = features[:, used].astype(np.float32)
    known = np.isfinite(targets)
    alphas = np.asarray(_ALPHAS)
    guess = np.empty((alphas.size, queries, count))
    for held_out in range(int(fold.max()) + 1):
        seen = fold != held_out
        intercept = _means(targets[seen], known[seen])
        for a, weights in enumerate(_solve(compact[seen], targets[seen] - intercept, known[seen], alphas)):
            guess[a, ~seen] = compact[~seen] @ weights + intercept
    error = np.where(known, (guess - targets) ** 2, 0.0).sum(axis=1)
    best = np.empty(count, dtype=np.intp)
    for group in np.unique(groups):
        of_group = groups == group
        scale = np.maximum(known[:, of_group].sum(axis=0), 1)
        best[of_group] = (error[:, of_group] / scale).sum(axis=1).argmin()
    intercept = _means(targets, known)
    weights = np.zeros((features.shape[1], count))
    for a in np.unique(best):
        chosen = best == a
        centred = (targets - intercept)[:, chosen]
        weights[np.ix_(used, chosen)] = _solve(compact, centred, known[:, chosen], alphas[a : a + 1])[0]
    return Ridge(weights, intercept, guess[best, :, np.arange(count)].T)


def _means(targets: FloatArray, known: BoolArray) -> FloatArray:
    total = np.where(known, targets, 0.0).sum(axis=0)
    mean: FloatArray = total / np.maximum(known.sum(axis=0), 1)
    return mean


def _solve(features: Any, targets: FloatArray, known: BoolArray, alphas: FloatArray) -> list[FloatArray]:
    """Weights ``(D, T)`` for each α: conjugate gradients on ``(XᵀX + αI) w = Xᵀy``, every column on its own."""
    count = targets.shape[1]
    penalty = np.repeat(alphas, count).astype(np.float32)
    mask = None if known.all() else np.tile(known.astype(np.float32), (1, alphas.size))
    transposed = features.T.tocsr()
    start = transposed @ np.where(known, targets, 0.0).astype(np.float32)
    residual = np.tile(start, (1, alphas.size))
    weights = np.zeros_like(residual)
    direction = residual.copy()
    norm = np.einsum("dt,dt->t", residual, residual)
    enough = 1e-6 * norm
    for _ in range(_ITERATIONS):
        if (norm <= enough).all():
            break
        projected = features @ direction
        if mask is not None:
            projected *= mask
        curved = transposed @ projected + penalty * direction
        length = norm / np.maximum(np.einsum("dt,dt->t", direction, curved), _TINY)
        weights += length * direction
        residual -= length * curved
        previous, norm = norm, np.einsum("dt,dt->t", residual, residual)
        direction *= norm / np.maximum(previous, _TINY)
        direction += residual
    return [weights[:, a * count : (a + 1) * count] for a in range(alphas.size)]


@dataclass(frozen=True)
class Logistic:
    """Logistic regressions of K models that are drawn to one for all of them.

    Attributes:
        weights: ``(K, d)``; the last feature is the intercept's.
        pooled: ``(d,)`` the one for all models, with the mean intercept.
        out_of_fold: ``(N, K)`` logits by fits that had not seen the query.
    """

    weights: FloatArray
    pooled: FloatArray
    out_of_fold: FloatArray


def fit_logistic(
    features: FloatArray, labels: FloatArray, fold: IntArray, offset: FloatArray | None = None
) -> Logistic:
    """Fit one regression to all models, then each model's own, drawn to it as far as serves best out of fold.

    Few labels so borrow strength from all models, many let each model be itself. How strongly the common slopes
    are drawn to zero, and the models' to the common ones, is chosen by the likelihood out of fold.

    Args:
        features: ``(N, K, d)``, about standardised, without a column for the intercept.
        labels: ``(N, K)`` in [0, 1]; NaN leaves a row out.
        fold: ``(N,)``.
        offset: ``(N, K)`` known part of the logits.
    """
    n, k, _ = features.shape
    known = np.isfinite(labels)
    data = _Data(
        np.concatenate([features, np.ones((n, k, 1))], axis=2),
        np.where(known, labels, 0.0),
        known,
        np.zeros((n, k)) if offset is None else offset,
    )
    best: tuple[float, FloatArray, float, float] | None = None
    for common in _COMMON:
        logits = np.empty((len(_OWN), n, k))
        for held_out in range(int(fold.max()) + 1):
            part, rest = data.take(fold != held_out), data.take(fold == held_out)
            pooled, centre = _fit_pooled(part, common)
            for i, own in enumerate(_OWN):
                w = _fit_own(part, pooled, centre, own)
                logits[i, fold == held_out] = rest.offset + np.einsum("nkd,kd->nk", rest.x, w)
        for i, own in enumerate(_OWN):
            loss = float(np.where(known, np.logaddexp(0, logits[i]) - data.y * logits[i], 0.0).sum())
            if best is None or loss < best[0]:
                best = loss, logits[i], common, own
    assert best is not None
    pooled, centre = _fit_pooled(data, best[2])
    weights = _fit_own(data, pooled, centre, best[3])
    return Logistic(weights, np.append(pooled, centre.mean()), best[1])


@dataclass(frozen=True)
class _Data:
    x: FloatArray
    y: FloatArray
    known: BoolArray
    offset: FloatArray

    def take(self, rows: BoolArray) -> _Data:
        return _Data(self.x[rows], self.y[rows], self.known[rows], self.offset[rows])


def _fit_pooled(data: _Data, precision: float) -> tuple[FloatArray, FloatArray]:
    """Common slopes ``(d,)`` and each model's intercept ``(K,)``."""
    n, k, size = data.x.shape
    d = size - 1
    design = np.zeros((n, k, d + k))
    design[:, :, :d] = data.x[:, :, :d]
    models = np.arange(k)
    design[:, models, d + models] = 1.0
    rate = (data.y.sum() + 0.5) / (data.known.sum() + 1)
    centre = np.zeros(d + k)
    if not data.offset.any():
        centre[d:] = np.log(rate / (1 - rate))
    pull = np.full(d + k, precision)
    pull[d:] = 1.0
    known = data.known
    w = most_likely(design[known], data.y[known], data.offset[known], centre, pull)
    return w[:d], w[d:]


def _fit_own(data: _Data, pooled: FloatArray, centre: FloatArray, precision: float) -> FloatArray:
    """``(K, d + 1)`` each model's regression, drawn to the pooled one."""
    pull = np.append(np.full(pooled.size, precision), 1.0)
    weights = []
    for i in range(data.x.shape[1]):
        rows = data.known[:, i]
        start = np.append(pooled, centre[i])
        weights.append(most_likely(data.x[rows, i], data.y[rows, i], data.offset[rows, i], start, pull))
    return np.stack(weights)


def most_likely(
    x: FloatArray, y: FloatArray, offset: FloatArray, centre: FloatArray, pull: FloatArray
) -> FloatArray:
    """Most likely weights under a normal prior around ``centre`` with these precisions."""
    w: FloatArray = np.array(centre)
    for _ in range(_NEWTON_STEPS):
        p = logistic(offset + x @ w)
        gradient = x.T @ (y - p) - pull * (w - centre)
        curvature = np.maximum(p * (1 - p), 1e-4)
        step = np.linalg.solve((x * curvature[:, None]).T @ x + np.diag(pull), gradient)
        w = w + np.clip(step, -5, 5)
        if np.abs(step).max(initial=0.0) < 1e-6:
            break
    return w
