"""A new model joins a fitted estimator with a few dozen answers, and nothing about the others is fitted again.

At first it is taken for the average of the models that are known: what makes a query hard for them makes it hard for
the new one, its answers show their quality as theirs do, and are as long. What few answers can tell is its own
from the start: how good it is, how far it follows the others, and what it costs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.errors import CalibrationError
from cascade_core.estimation.costs import CostModel, fit_rate, log_length
from cascade_core.estimation.fitted import FittedEstimator, PostModel
from cascade_core.estimation.joint import JointBelief
from cascade_core.estimation.regression import most_likely

if TYPE_CHECKING:
    from cascade_core.calibration.table import AnswerTable

FEWEST = 12
_TRUST = np.array([10.0, 0.3])
"""Precision with which a new model's ex-ante log odds are taken for the mean of the others', and for no better."""

_LEVELS = np.linspace(-6, 6, 241)


def add_model(estimator: FittedEstimator, table: AnswerTable) -> FittedEstimator:
    """The estimator with one model more, the last.

    Args:
        estimator: fitted to K models.
        table: some queries that the new model, the table's only one, has answered, with quality and cost.

    Raises:
        CalibrationError: the table has not one model, or one that is known already; fewer than 12 queries, or a
            quality or cost that is missing; or the estimator was fitted to answers of one and the same quality.
    """
    _check(estimator, table)
    quality, cost = table.quality[:, 0], table.cost[:, 0]
    ahead, drift = estimator.ahead(table.queries)
    belief = estimator.belief
    label = np.clip((quality - belief.low) / (belief.high - belief.low), 0, 1)
    mean = ahead.mean(axis=1)
    design = np.column_stack([mean, np.ones_like(mean)])
    follow = most_likely(design, label, np.zeros_like(mean), np.array([1.0, 0.0]), _TRUST)
    lengths = np.array([np.nan if row[0] is None else log_length(row[0]) for row in table.answers])
    chars = np.array([query.sent_chars for query in table.queries], dtype=float)
    joined = replace(
        estimator,
        models=(*estimator.models, table.models[0]),
        guests=np.vstack([estimator.guests, follow]),
        post=None if estimator.post is None else _average_post(estimator.post),
        costs=_with_cost(estimator.costs, chars, cost, drift.mean(axis=1), lengths),
        belief=_average_belief(belief, design @ follow),
    )
    return replace(joined, belief=_levelled(joined, table, quality))


def _check(estimator: FittedEstimator, table: AnswerTable) -> None:
    if len(table.models) != 1 or table.models[0] in estimator.models:
        raise CalibrationError(
            f"the table has the models {list(table.models)}: expected the new one alone, and none of "
            f"{list(estimator.models)}"
        )
    if not estimator.belief.high > estimator.belief.low:
        raise CalibrationError(
            "the policy was fitted to answers that were all of one quality, which says nothing about another model: "
            "fit one to answers of all models"
        )
    complete = np.isfinite(table.quality).all() and np.isfinite(table.cost).all()
    if len(table) < FEWEST or not complete:
        raise CalibrationError(
            f"{len(table)} queries for {table.models[0]!r}: expected at least {FEWEST}, each with a quality and "
            "a cost"
        )


def _average_post(post: PostModel) -> PostModel:
    usual = np.exp(np.log(post.spread).mean(axis=0))
    return replace(
        post,
        centre=np.vstack([post.centre, post.centre.mean(axis=0)]),
        spread=np.vstack([post.spread, usual]),
        weights=np.vstack([post.weights, post.weights.mean(axis=0)]),
    )


def _with_cost(
    costs: CostModel, chars: FloatArray, cost: FloatArray, drift: FloatArray, lengths: FloatArray
) -> CostModel:
    """Its own rate and length; how these hang together with the others' lengths is the others' average."""
    fixed, per_char = fit_rate(chars, cost[:, None])
    slope = float(costs.slope.mean())
    expected = (fixed[0] + per_char[0] * chars) * np.exp(slope * drift)
    factor = cost.sum() / expected.sum() if expected.sum() > 0 else 1.0
    usual = costs.length_weights.mean(axis=0)
    if np.isfinite(lengths).any():
        usual = np.array([np.nanmean(lengths - usual[1] * drift), usual[1]])
    return CostModel(
        fixed=np.append(costs.fixed, fixed),
        per_char=np.append(costs.per_char, per_char),
        slope=np.append(costs.slope, slope),
        factor=np.append(costs.factor, factor),
        length_weights=np.vstack([costs.length_weights, usual]),
        shared=_bordered(costs.shared),
        lengths=_bordered(costs.lengths),
    )


def _bordered(square: FloatArray) -> FloatArray:
    """``(K + 1, K + 1)``: the new row and column are the averages of the others, its corner that of the diagonal."""
    wide = np.column_stack([square, square.mean(axis=1)])
    tall = np.vstack([wide, wide.mean(axis=0)])
    tall[-1, -1] = np.diag(square).mean()
    return tall


def _average_belief(belief: JointBelief, ahead: FloatArray) -> JointBelief:
    agreement = belief.agreement
    if agreement is not None:
        wide = np.concatenate([agreement, agreement.mean(axis=1, keepdims=True)], axis=1)
        agreement = np.concatenate([wide, wide.mean(axis=0, keepdims=True)], axis=0)
    return replace(
        belief,
        ante_mean=np.append(belief.ante_mean, ahead.mean()),
        ante_sd=np.append(belief.ante_sd, max(float(ahead.std()), 1e-3)),
        weights=np.vstack([belief.weights, belief.weights.mean(axis=0)]),
        loading=np.append(belief.loading, belief.loading.mean()),
        spread=np.append(belief.spread, belief.spread.mean()),
        post_weights=np.vstack([belief.post_weights, belief.post_weights.mean(axis=0)]),
        post_slope=np.append(belief.post_slope, belief.post_slope.mean()),
        post_sd=np.append(belief.post_sd, np.sqrt((belief.post_sd**2).mean())),
        agreement=agreement,
    )


def _levelled(estimator: FittedEstimator, table: AnswerTable, quality: FloatArray) -> JointBelief:
    """The belief whose mean about the new model is that of its answers, two of which are taken to be average ones."""
    belief, queries = estimator.belief, len(table)
    signals = estimator.signals(table.queries)
    nothing = np.zeros(signals.ante.shape, dtype=bool)
    usual = belief.condition(signals, nothing).mean[:, :-1].mean()
    wanted = (quality.sum() + 2 * usual) / (queries + 2)
    means = []
    candidates = []
    for level in _LEVELS:
        weights = belief.weights.copy()
        weights[-1, 0] = level
        candidates.append(replace(belief, weights=weights))
        means.append(float(candidates[-1].condition(signals, nothing).mean[:, -1].mean()))
    return candidates[int(np.abs(np.array(means) - wanted).argmin())]
