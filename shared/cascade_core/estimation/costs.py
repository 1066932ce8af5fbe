"""What a call will cost: a rate for what is sent, times what the query says about the answer's length.

A model's cost of a query is ``(a + b·characters sent)·exp(u)``. The rate ``b`` is what its tokenizer and its price
for input make of a character, ``a`` is the rest of an ordinary call, and ``u`` is what the query says about the
answer. Once other models have answered, the lengths of their answers say more about ``u``: they are Gaussian
together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cascade_core.belief import BoolArray, FloatArray
from cascade_core.values import Answer

_SHRINK = 0.1


def log_length(answer: Answer) -> float:
    """Logarithm of an answer's length, as one that ran tells about the length of others."""
    return math.log1p(len(answer.text))


@dataclass(frozen=True, eq=False)
class CostModel:
    """Learned from the costs of N queries.

    Attributes:
        fixed, per_char: ``(K,)`` a and b, both at least 0.
        slope: ``(K,)`` how far u follows its regression on the query.
        factor: ``(K,)`` by which the mean cost meets that of the table.
        length_weights: ``(K, 2)`` an answer's usual log length: a constant, and what follows from u.
        shared: ``(K, K)`` covariance of u's error (rows) with the log lengths' errors of answers that ran.
        lengths: ``(K, K)`` covariance of the log lengths' errors.
    """

    fixed: FloatArray
    per_char: FloatArray
    slope: FloatArray
    factor: FloatArray
    length_weights: FloatArray
    shared: FloatArray
    lengths: FloatArray

    def ahead(self, chars: FloatArray, drift: FloatArray) -> FloatArray:
        """``(N, K)`` expected costs before anything has run.

        Args:
            chars: ``(N,)`` characters sent.
            drift: ``(N, K)`` regression of u on the query.
        """
        base = self.fixed + self.per_char * chars[:, None]
        expected: FloatArray = base * np.exp(np.minimum(np.maximum(self.slope * drift, -4), 4)) * self.factor
        return expected

    def surprise(self, lengths: FloatArray, drift: FloatArray) -> FloatArray:
        """``(N, K)`` how much longer answers are than expected; 0 where the length is not known (NaN)."""
        usual = self.length_weights[:, 0] + self.length_weights[:, 1] * drift
        return np.asarray(np.nan_to_num(lengths - usual))

    def given(self, ahead: FloatArray, surprise: FloatArray, ran: BoolArray) -> FloatArray:
        """``(N, K)`` expected costs once the models in ``ran`` have answered."""
        if not ran.any() or not self.shared.any():
            return ahead
        costs: FloatArray = np.array(ahead)
        sets, member = np.unique(ran, axis=0, return_inverse=True)
        for i, models in enumerate(sets):
            if models.any():
                rows = np.flatnonzero(member.ravel() == i)
                gain = np.linalg.solve(self.lengths[np.ix_(models, models)], self.shared[:, models].T)
                shift = surprise[np.ix_(rows, np.flatnonzero(models))] @ gain
                costs[rows] *= np.exp(np.clip(shift, -2, 2))
        return costs

    def to_dict(self) -> dict[str, Any]:
        """Arrays by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostModel:
        """Inverse of :meth:`to_dict`."""
        return cls(**data)


def fit_rate(chars: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``a`` and ``b`` ``(K,)``: least squares of the cost on the characters sent, neither under 0.

    Args:
        chars: ``(N,)``.
        cost: ``(N, K)``; NaN where it is not known.
    """
    fixed, per_char = np.zeros(cost.shape[1]), np.zeros(cost.shape[1])
    for k in range(cost.shape[1]):
        known = np.isfinite(cost[:, k])
        if not known.any():
            continue
        x, y = chars[known], cost[known, k]
        spread = float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
        fixed[k], per_char[k] = y.mean() - slope * x.mean(), slope
        if slope < 0:
            fixed[k], per_char[k] = y.mean(), 0.0
        elif fixed[k] < 0:
            fixed[k], per_char[k] = 0.0, float(x @ y) / float(x @ x)
    return fixed, per_char


def drifts(chars: FloatArray, cost: FloatArray, fixed: FloatArray, per_char: FloatArray) -> FloatArray:
    """``(N, K)`` u: logarithm of a cost over its rate; 0 for a model that is free."""
    base = fixed + per_char * chars[:, None]
    least = np.maximum(1e-3 * base, 1e-300)
    return np.asarray(np.where(base > 0, np.log(np.maximum(cost, least) / np.maximum(base, 1e-300)), 0.0))


def fit_costs(chars: FloatArray, cost: FloatArray, drift: FloatArray, lengths: FloatArray) -> CostModel:
    """Learn the rest, given the rates and an out-of-fold regression of u.

    Args:
        chars: ``(N,)`` characters sent.
        cost: ``(N, K)``; NaN where it is not known.
        drift: ``(N, K)`` regression of u on the query, out of fold.
        lengths: ``(N, K)`` log lengths of the answers, NaN where there is no text.
    """
    fixed, per_char = fit_rate(chars, cost)
    truth = drifts(chars, cost, fixed, per_char)
    models = cost.shape[1]
    slope, length_weights = np.zeros(models), np.zeros((models, 2))
    error, excess = np.zeros_like(cost), np.zeros_like(cost)
    for k in range(models):
        known = np.isfinite(truth[:, k])
        x = drift[known, k] - drift[known, k].mean() if known.any() else np.zeros(0)
        if known.any() and x @ x > 0:
            slope[k] = np.clip(x @ truth[known, k] / (x @ x), 0, 1)
        error[:, k] = np.where(known, truth[:, k] - slope[k] * drift[:, k], np.nan)
        error[:, k] = np.nan_to_num(error[:, k] - np.nanmean(error[:, k])) if known.any() else 0.0
        there = np.isfinite(lengths[:, k])
        if there.sum() > 2:
            design = np.column_stack([np.ones(there.sum()), drift[there, k]])
            gram = design.T @ design + np.diag([0.0, 1.0])
            length_weights[k] = np.linalg.solve(gram, design.T @ lengths[there, k])
            excess[there, k] = lengths[there, k] - design @ length_weights[k]
    count = max(len(cost), 1)
    own = excess.T @ excess / count
    lengths_covariance = own * (1 - _SHRINK) + np.diag(np.diag(own) * _SHRINK + 1e-6)
    shared = error.T @ excess / count * (1 - _SHRINK)
    model = CostModel(fixed, per_char, slope, np.ones(models), length_weights, shared, lengths_covariance)
    guess = np.where(np.isfinite(cost), model.ahead(chars, drift), np.nan)
    total, guessed = np.nansum(cost, axis=0), np.nansum(guess, axis=0)
    factor = np.where(guessed > 0, total / np.where(guessed > 0, guessed, 1.0), 1.0)
    return CostModel(fixed, per_char, slope, factor, length_weights, shared, lengths_covariance)
