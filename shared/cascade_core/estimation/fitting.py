"""Fits the estimator to an answer table, each stage to out-of-fold predictions of the one before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray, IntArray
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from cascade_core.estimation.agreement import best_comparison
from cascade_core.estimation.answer import figures
from cascade_core.estimation.costs import drifts, fit_costs, fit_rate, log_length
from cascade_core.estimation.encoder import Embed, Encoder, as_embed, embed_texts, stacked
from cascade_core.estimation.fitted import (
    AnteModel,
    CostsOf,
    FittedEstimator,
    Linear,
    PostModel,
    further_figures,
    own_logits,
    stack_features,
    standardised,
)
from cascade_core.estimation.joint import CrossFitted, JointBelief, SignalEstimates, Signals
from cascade_core.estimation.neighbours import fit_neighbours, places
from cascade_core.estimation.own import OwnSignals
from cascade_core.estimation.regression import fit_logistic, fit_ridge, folds, logistic, moments
from cascade_core.estimation.text import read
from cascade_core.strategies import IndexPolicy, LookAhead
from cascade_core.tuning import choose, trace
from cascade_core.values import Query

_STEPS = (1.0, 0.6, 0.25, 0.0)
_POINTS, _BUDGETS = 20, 8
_MOST_BYTES = 1.1e6
"""Most bytes of n-grams' weights in a policy."""

FEWEST = 15
"""Fewest queries with a label for every model."""


@dataclass(frozen=True, eq=False)
class Estimation:
    """A fitted estimator, and what it would have said of the queries it was fitted to without having seen them.

    Attributes:
        estimator: fitted to all queries.
        estimates: out-of-fold beliefs about the same queries: tune on these.
    """

    estimator: FittedEstimator
    estimates: SignalEstimates


def fit_estimator(
    table: AnswerTable, *, embedding: object = None, own: OwnSignals | None = None, seed: int = 0
) -> Estimation:
    """Learn from a table whose every answer has a quality and a cost.

    Args:
        table: the answers; their text may be missing.
        embedding: embeds the queries, and the answers to compare what they mean: a LangChain ``Embeddings``, a
            LlamaIndex ``BaseEmbedding`` or a function.
        own: an estimator of the user's, heard beside the built-in signals.
        seed: of the folds.

    Raises:
        CalibrationError: fewer than 15 queries, or a quality or cost that is missing.
    """
    _check(table)
    low, high = float(table.quality.min()), float(table.quality.max())
    labels = (table.quality - low) / (high - low) if high > low else np.ones_like(table.quality)
    fold = folds(len(table), seed)
    chars = np.array([query.sent_chars for query in table.queries], dtype=float)
    embed = None if embedding is None else as_embed(embedding)

    ante_model, ante, drift = _fit_ante(table, labels, chars, fold, embed, own, seed)
    post_model, post, agree, lengths = _fit_post(table, labels, ante, fold, embed, own, seed)
    costs = fit_costs(chars, table.cost, drift, lengths)
    signals = Signals(ante, post, agree)
    estimator = FittedEstimator(
        models=table.models,
        ante=ante_model,
        post=post_model,
        costs=costs,
        belief=JointBelief.fit(signals, table.quality),
        uses_own=own is not None,
        embed=embed,
        own=own,
    )
    expected = CostsOf(costs, chars, drift, lengths, estimator.heard)
    estimates = SignalEstimates(CrossFitted.fit(signals, table.quality), signals, expected)
    scale = _earned_step(estimates, table)
    return Estimation(
        replace(estimator, belief=replace(estimator.belief, step_scale=scale)), _with_step(estimates, scale)
    )


def _earned_step(estimates: SignalEstimates, table: AnswerTable) -> float:
    """How much the coming updates may count for, judged by what a strategy makes of them out of fold.

    Taken at face value, updates that promise more than they keep are bought too often.
    """
    cost = table.cost.mean(axis=0)
    if not np.ptp(cost) > 0:
        return _STEPS[0]
    rule = IndexPolicy(lam=0.0) if estimates.signals.agree is None else LookAhead(lam=0.0)
    curves = [
        trace(rule, _with_step(estimates, scale), table.quality, table.cost, _POINTS) for scale in _STEPS
    ]
    best = choose(curves, np.linspace(cost.min(), cost.max(), _BUDGETS).tolist())
    return next(scale for scale, curve in zip(_STEPS, curves, strict=True) if curve is best)


def _with_step(estimates: SignalEstimates, scale: float) -> SignalEstimates:
    belief = estimates.belief
    assert isinstance(belief, CrossFitted)
    folds_ = tuple(replace(one, step_scale=scale) for one in belief.folds)
    return replace(estimates, belief=replace(belief, folds=folds_))


def _check(table: AnswerTable) -> None:
    if len(table) < FEWEST:
        raise CalibrationError(
            f"{len(table)} queries have a quality and a cost for every model; at least {FEWEST} are needed, "
            "and some hundred make good estimates"
        )
    for name in ("quality", "cost"):
        missing = np.isnan(getattr(table, name))
        if missing.any():
            n, k = np.argwhere(missing)[0]
            raise CalibrationError(
                f"the {name} of {table.models[k]!r} on query {table.queries[n].key!r} is missing"
            )


def _fit_ante(
    table: AnswerTable,
    labels: FloatArray,
    chars: FloatArray,
    fold: IntArray,
    embed: Embed | None,
    own: OwnSignals | None,
    seed: int,
) -> tuple[AnteModel, FloatArray, FloatArray]:
    """The ex-ante model, and out of fold its log odds and drifts of cost, ``(N, K)`` each."""
    models = len(table.models)
    vectors = None if embed is None else embed_texts(embed, [query.text for query in table.queries])
    # one byte for each n-gram and target: a policy's size, not its number of models, decides on the detail
    most_bits = int(np.clip(np.log2(_MOST_BYTES / (2 * models)), 12, 18))
    encoder = Encoder.fit(table.queries, 0 if vectors is None else vectors.shape[1], seed, most_bits)
    encoded = [
        encoder.encode(query, None if vectors is None else vectors[n])
        for n, query in enumerate(table.queries)
    ]
    drift = drifts(chars, table.cost, *fit_rate(chars, table.cost))
    targets = np.concatenate([labels, drift], axis=1)
    ridge = fit_ridge(stacked(encoded, encoder.bits), targets, np.repeat([0, 1], models), fold)
    scores = ridge.out_of_fold[:, :models]
    place = places(
        (scores - scores.mean(axis=0)) / np.maximum(scores.std(axis=0), 1e-6),
        np.array([one.form for one in encoded]),
    )
    neighbours, near = fit_neighbours(place, labels, fold, seed)
    parts = [scores, near]
    if own is not None:
        parts.append(np.stack([own_logits(own, query, models) for query in table.queries]))
    signals = np.concatenate(parts, axis=1)
    centre, spread = signals.mean(axis=0), np.maximum(signals.std(axis=0), 1e-6)
    stack = fit_logistic(stack_features((signals - centre) / spread, models), labels, fold)
    model = AnteModel(
        encoder=encoder,
        linear=Linear.of(ridge.weights, ridge.intercept, encoder.bits),
        neighbours=neighbours,
        centre=centre,
        spread=spread,
        stack=stack.weights,
    )
    return model, stack.out_of_fold, ridge.out_of_fold[:, models:]


def _fit_post(
    table: AnswerTable,
    labels: FloatArray,
    ante: FloatArray,
    fold: IntArray,
    embed: Embed | None,
    own: OwnSignals | None,
    seed: int,
) -> tuple[PostModel | None, FloatArray, NDArray[np.int8] | None, FloatArray]:
    """The post-hoc model, and out of fold its log odds; agreement, and log lengths of the answers."""
    shape = labels.shape
    post, lengths = np.full(shape, np.nan), np.full(shape, np.nan)
    cells = [(n, k) for n, row in enumerate(table.answers) for k, answer in enumerate(row) if answer]
    if not cells:
        return None, post, None, lengths
    rows, columns = np.array(cells).T
    answers = [table.answers[n][k] for n, k in cells]
    readings = [read(answer.text) for answer in answers if answer is not None]
    texts = [Query(text=answer.text) for answer in answers if answer is not None]
    encoder = Encoder.fit(texts, seed=seed)
    encoded = [encoder.encode(text, reading=reading) for text, reading in zip(texts, readings, strict=True)]
    better = (labels - logistic(ante))[rows, columns]
    ridge = fit_ridge(stacked(encoded, encoder.bits), better[:, None], np.zeros(1, int), fold[rows])

    checked = any(answer.check is not None for answer in answers if answer is not None)
    raw = []
    for i, (n, k) in enumerate(cells):
        answer = answers[i]
        assert answer is not None
        lengths[n, k] = log_length(answer)
        said = None if own is None else float(own.post_hoc(table.queries[n], table.models[k], answer))
        parts = [figures(answer, readings[i]), ridge.out_of_fold[i]]
        raw.append(np.concatenate([*parts, *further_figures(answer, said, checked)]))
    every = np.full((*shape, raw[0].size), np.nan)
    every[rows, columns] = raw
    centre, spread = moments(every)
    spread = np.where(spread > 1e-9, spread, 1e300)  # a figure that does not vary tells nothing
    known = np.where(np.isfinite(lengths), labels, np.nan)
    fitted = fit_logistic(standardised(every, centre, spread), known, fold, offset=ante)
    post[rows, columns] = fitted.out_of_fold[rows, columns]
    comparison = best_comparison(table.answers, labels, embed)
    model = PostModel(
        encoder=encoder,
        linear=Linear.of(ridge.weights, ridge.intercept, encoder.bits),
        centre=centre,
        spread=spread,
        weights=fitted.weights,
        key=comparison.key,
        threshold=comparison.threshold,
        checked=checked,
    )
    return model, post, comparison.seen, lengths
