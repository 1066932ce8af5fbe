"""Learns the parts of the joint belief (:mod:`.joint`) from queries that every model has answered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray
from cascade_core.estimation.regression import logistic

_ITERATIONS = 30
_RIDGE = 10.0
"""Pseudo-observations by which a model's slopes are drawn to the mean of all models' slopes."""

_CHI2_1, _CHI2_2 = 3.84, 5.99
"""95 % points of χ² with one and two degrees of freedom."""

# Gauss-Hermite nodes of N(0, 1), and the logarithms of their weights
NODE, _weight = np.polynomial.hermite_e.hermegauss(11)
LOG_WEIGHT = np.log(_weight / _weight.sum())


def features(ante: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """``(N, K, 3)`` f(x): 1, own signal, mean signal; a missing signal counts as its average."""
    z = (ante - mean) / sd
    z = np.clip(np.where(np.isfinite(z), z, 0.0), -10, 10)
    return np.stack([np.ones_like(z), z, np.broadcast_to(z.mean(axis=1, keepdims=True), z.shape)], axis=2)


def fit_response(f: FloatArray, y: FloatArray, binary: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """w ``(K, 3)``, β ``(K,)`` and τ ``(K,)`` by EM over θ, slopes drawn to their mean over the models."""
    queries, models, size = f.shape
    start = (y.sum(axis=0) + 0.5) / (queries + 1)
    centre0 = np.log(start / (1 - start)) if binary else y.mean(axis=0)
    spread = np.zeros(models) if binary else np.maximum(y.std(axis=0), 1e-3)
    w = np.zeros((models, size + 1))  # the last column is β
    w[:, 0] = centre0
    w[:, -1] = 0.7 if binary else 0.5 * spread
    information = np.zeros((models, size + 1, size + 1))
    for _ in range(_ITERATIONS):
        eta = np.einsum("nkd,kd->nk", f, w[:, :-1])[:, None, :] + w[:, -1] * NODE[:, None]
        if binary:
            p = logistic(eta)
            log_likelihood = np.where(y[:, None, :] > 0.5, np.log(p), np.log1p(-p)).sum(axis=2)
            error, curvature = y[:, None, :] - p, p * (1 - p)
        else:
            error = y[:, None, :] - eta
            log_likelihood = (-0.5 * (error / spread) ** 2).sum(axis=2)
            curvature = np.broadcast_to(1 / spread**2, error.shape)
        share = np.exp(log_likelihood + LOG_WEIGHT - (log_likelihood + LOG_WEIGHT).max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        if not binary:
            moment = np.einsum("ng,ngk->k", share, error**2) / queries
            error = error / spread**2
            spread = np.sqrt(np.maximum(moment, 1e-6))
        pull = np.full(size + 1, _RIDGE if binary else _RIDGE / float(np.mean(spread**2)) * 0.25)
        pull[0], pull[-1] = 1.0, 1.0
        target = np.broadcast_to(w.mean(axis=0), w.shape).copy()
        target[:, 0] = centre0
        for k in range(models):
            e, h, fk = error[:, :, k] * share, curvature[:, :, k] * share, f[:, k]
            gradient = np.append(fk.T @ e.sum(axis=1), (e @ NODE).sum())
            hessian = np.empty((size + 1, size + 1))
            hessian[:-1, :-1] = fk.T @ (fk * h.sum(axis=1)[:, None])
            hessian[:-1, -1] = hessian[-1, :-1] = fk.T @ (h @ NODE)
            hessian[-1, -1] = (h @ NODE**2).sum()
            information[k] = hessian
            w[k] += np.linalg.solve(hessian + np.diag(pull), gradient - pull * (w[k] - target[k]))
    for k in range(models):
        slopes = w[k, 1:-1]
        w[k, 1:-1] *= _shrinkage(float(slopes @ information[k, 1:-1, 1:-1] @ slopes), _CHI2_2)
    return w[:, :-1], w[:, -1], spread


def _shrinkage(wald: float, critical: float) -> float:
    """Positive-part James-Stein factor of slopes with this Wald statistic."""
    return max(0.0, 1 - critical / wald) if wald > 0 else 0.0


def fit_post(f: FloatArray, y: FloatArray, post: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """c ``(K, 3)``, b ``(K,)`` and √v ``(K,)`` by ridge regression of each post-hoc signal on f(x) and quality."""
    models = y.shape[1]
    weights, slope, sd = np.zeros((models, f.shape[2])), np.zeros(models), np.ones(models)
    for k in range(models):
        there = np.isfinite(post[:, k])
        design = np.column_stack([f[there, k], y[there, k]])
        signal = post[there, k]
        if there.sum() <= design.shape[1] + 1 or not y[there, k].std() > 0:
            continue
        gram = design.T @ design + np.diag([0.0, _RIDGE, _RIDGE, 0.0])
        solution = np.linalg.solve(gram, design.T @ signal)
        variance = ((signal - design @ solution) ** 2).sum() / (there.sum() - design.shape[1])
        variance = max(float(variance), 1e-6 * float(signal.var()), 1e-12)
        wald = solution[-1] ** 2 / (variance * np.linalg.inv(gram)[-1, -1])
        shrink = _shrinkage(float(wald), _CHI2_1)
        weights[k], slope[k], sd[k] = solution[:-1], solution[-1] * shrink, np.sqrt(variance)
        weights[k, 0] += solution[-1] * (1 - shrink) * y[there, k].mean()
    return weights, slope, sd


def fit_agreement(agree: NDArray[np.int8] | None, y: FloatArray) -> FloatArray | None:
    """``(K, K, 2, 2)`` P(agree | q_i, q_j): each pair's counts, smoothed by ten queries at the rate of all pairs."""
    if agree is None or not (agree >= 0).any():
        return None
    models = y.shape[1]
    off_diagonal = ~np.eye(models, dtype=bool)
    one_hot = np.stack([1 - y, y], axis=2)
    known = (agree >= 0) & off_diagonal
    total = np.einsum("nij,nia,njb->ijab", known.astype(float), one_hot, one_hot)
    equal = np.einsum("nij,nia,njb->ijab", ((agree == 1) & known).astype(float), one_hot, one_hot)
    overall = equal.sum() / max(total.sum(), 1.0)
    pooled = (equal.sum(axis=(0, 1)) + 10 * overall) / (total.sum(axis=(0, 1)) + 10)
    rate: FloatArray = np.clip((equal + 10 * pooled) / (total + 10), 0.005, 0.995)
    rate[total.sum(axis=(2, 3)) == 0] = np.clip(overall, 0.005, 0.995)  # never compared: tells nothing
    return rate
