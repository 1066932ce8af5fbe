"""Runs a strategy over a table of answers: what it would have called, returned and paid.

All queries, and of a sweep all values of the knob, advance together. Beliefs do not depend on the knob, so each
pair of a query and a set of models run is believed about once, however many values pass through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.errors import ArrayError
from cascade_core.strategies import STOP, Strategy

_BLOCK = 1 << 18
"""Most decisions that advance together; bounds the memory of a sweep."""


class Estimates(Protocol):
    """What an estimator expects of a table of queries, given what has run.

    ``queries`` is ``(n,)`` the rows of the table, ``ran`` is ``(n, K)``; returns the belief about them and the
    ``(n, K)`` expected costs. Only what the models in ``ran`` returned may be used.
    """

    def __call__(self, queries: IntArray, ran: BoolArray) -> tuple[Belief, FloatArray]:
        """Belief and expected costs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy did with N queries; with a leading axis L after a sweep over L values of the knob.

    Attributes:
        model: ``(..., N)`` whose answer was returned.
        ran: ``(..., N, K)`` which models ran.
        quality: ``(..., N)`` true quality of the answer returned.
        cost: ``(..., N)`` true cost of all calls.
    """

    model: IntArray
    ran: BoolArray
    quality: FloatArray
    cost: FloatArray


def simulate(strategy: Strategy, estimates: Estimates, quality: FloatArray, cost: FloatArray) -> Outcome:
    """Run a strategy over N queries.

    Args:
        strategy: its knob may be an array ``(N,)``.
        estimates: beliefs and expected costs.
        quality: ``(N, K)`` true quality of every model's answer.
        cost: ``(N, K)`` what every model truly cost.

    Raises:
        ArrayError: if the tables' shapes differ or a value is not finite.
    """
    outcome = sweep(strategy, None, estimates, quality, cost)
    return Outcome(outcome.model[0], outcome.ran[0], outcome.quality[0], outcome.cost[0])


def sweep(
    strategy: Strategy,
    knobs: FloatArray | IntArray | None,
    estimates: Estimates,
    quality: FloatArray,
    cost: FloatArray,
) -> Outcome:
    """Run a strategy with each of L values of its knob, as :func:`simulate`. ``None`` keeps the knob it has."""
    quality, cost = np.asarray(quality, dtype=float), np.asarray(cost, dtype=float)
    if quality.ndim != 2 or cost.shape != quality.shape:
        raise ArrayError(
            f"quality has shape {quality.shape} and cost {cost.shape}, expected (N, K): queries × models, for both"
        )
    if not (np.isfinite(quality).all() and np.isfinite(cost).all()):
        raise ArrayError("quality and cost must be finite: leave out queries that lack an answer")
    queries, models = quality.shape
    settings = np.asarray(getattr(strategy, strategy.knob)) if knobs is None else np.asarray(knobs)[:, None]
    values: NDArray[Any] = np.broadcast_to(settings, (1 if knobs is None else len(settings), queries))
    chosen = np.empty(values.shape, dtype=np.intp)
    ran = np.empty((*values.shape, models), dtype=bool)
    block = max(1, _BLOCK // values.shape[0])
    for start in range(0, queries, block):
        rows = np.arange(start, min(start + block, queries))
        query = np.tile(rows, values.shape[0])
        model, history = _run(strategy, values[:, rows].ravel(), query, estimates, models)
        chosen[:, rows] = model.reshape(-1, rows.size)
        ran[:, rows] = history.reshape(-1, rows.size, models)
    return Outcome(
        model=chosen,
        ran=ran,
        quality=quality[np.arange(queries), chosen],
        cost=np.einsum("lnk,nk->ln", ran, cost),
    )


def _run(
    strategy: Strategy, knob: NDArray[Any], query: IntArray, estimates: Estimates, models: int
) -> tuple[IntArray, BoolArray]:
    """Model returned ``(M,)`` and models run ``(M, K)`` of M decisions, each a query with a knob."""
    chosen = np.zeros(query.size, dtype=np.intp)
    ran = np.zeros((query.size, models), dtype=bool)
    active = np.arange(query.size)
    while active.size:
        first, row = _distinct(query[active], ran[active])
        queries, history = query[active][first], ran[active][first]
        belief, costs = estimates(queries, history)
        step = strategy.with_knob(knob[active]).next_model(belief, costs, history, rows=row)
        stopped = step == STOP
        chosen[active[stopped]] = strategy.answer(belief, history)[row[stopped]]
        active, step = active[~stopped], step[~stopped]
        ran[active, step] = True
    return chosen, ran


def _distinct(query: IntArray, ran: BoolArray) -> tuple[IntArray, IntArray]:
    """First occurrence of each distinct (query, models run), and for each decision which of them it is."""
    key = query
    for start in range(0, ran.shape[1], 32):
        bits = ran[:, start : start + 32]
        key = np.unique(key, return_inverse=True)[1] * np.int64(1 << bits.shape[1])
        key = key + bits @ (np.int64(1) << np.arange(bits.shape[1], dtype=np.int64))
    _, first, row = np.unique(key, return_index=True, return_inverse=True)
    return first, row
