"""Cascade routing: plan a set of models, run its cheapest, look at the answer, plan again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.expected_max import subsets_expected_max
from cascade_core.strategies._base import STOP, PricedStrategy, in_order, still_ahead
from cascade_core.strategies.index import reservation_value

_CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False)
class CascadeRouting(PricedStrategy):
    """Search all supermodels: the sets ``M ⊇ R`` of models, those already run included.

    ``argmax_M E[max_{m ∈ M} q̂_m] - λ·Σ_{m ∈ M} ĉ_m``; stop when the best is what has run, else run the cheapest model of
    ``M ∖ R`` and re-estimate (Dekoninck, Baader and Vechev, ICML 2025, Theorem 3). Unlike the index policy it plans sets,
    which prices no choice that depends on an answer still to come, but it honours an order and a limit exactly.

    Attributes:
        order: models may only run in this order, skipping allowed; None for any order.
        search_limit: most open models whose subsets are all searched. Beyond it the search is bounded to the
            subsets of those with the highest reservation values, the models worth opening first.
    """

    name: ClassVar[str] = "cascade_routing"
    order: tuple[int, ...] | None = None
    search_limit: int = 11

    def _open(self, closed: BoolArray, ran: BoolArray) -> BoolArray:
        if self.order is not None:
            closed = ~still_ahead(in_order(self.order, ran.shape[1]), closed, ran)
        return super()._open(closed, ran)

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        lam = self._lam(ran, rows)
        sd = belief.sd
        most = int(open_.sum(axis=1).max(initial=0))
        if most > self.search_limit:  # which models are searched depends on λ: nothing is shared between rows
            most = self.search_limit
            mean, sd, costs, ran, open_ = belief.mean[rows], sd[rows], costs[rows], ran[rows], open_[rows]
            merit = reservation_value(mean, sd, lam * costs)
            rows = np.arange(rows.size)
        else:
            mean, merit = belief.mean, np.zeros_like(belief.mean)
        # the models searched, packed to the left
        merit = np.where(open_, merit, -np.inf)
        packed = np.argsort(-merit, axis=1, kind="stable")[:, :most]
        is_open = np.take_along_axis(open_, packed, axis=1)
        in_hand = np.where(ran, mean, -np.inf).max(axis=1)
        worth = subsets_expected_max(
            np.where(is_open, np.take_along_axis(mean, packed, axis=1), -np.inf),
            np.where(is_open, np.take_along_axis(sd, packed, axis=1), 0.0),
            in_hand,
        )
        members = _members(most)
        if self.max_models is not None:
            left = self.max_models - ran.sum(axis=1, keepdims=True)
            worth = np.where(members.sum(axis=1) > left, -np.inf, worth)
        if not is_open.all():  # where fewer models are open, sets with an empty place are no sets
            worth = np.where(~is_open @ members.T > 0, -np.inf, worth)
        price = np.where(is_open, np.take_along_axis(costs, packed, axis=1), np.inf)
        spent = np.where(is_open, price, 0.0) @ members.T
        best = np.empty(rows.size, dtype=np.intp)
        for start in range(0, rows.size, max(1, _CHUNK >> most)):
            part = slice(start, start + max(1, _CHUNK >> most))
            best[part] = (worth[rows[part]] - lam[part] * spent[rows[part]]).argmax(axis=1)
        # of the set found, the model to run now: the cheapest, or the first in order
        rank = price if self.order is None else _place(self.order, mean.shape[1])[packed]
        first = np.where(members[best] > 0, rank[rows], np.inf).argmin(axis=1)
        return np.where(best > 0, packed[rows, first], STOP)


@lru_cache
def _members(models: int) -> FloatArray:
    """``(2**models, models)`` of 0 and 1: the bits of each subset's number."""
    bits: FloatArray = ((np.arange(1 << models)[:, None] >> np.arange(models)) & 1).astype(float)
    return bits


def _place(order: tuple[int, ...], models: int) -> FloatArray:
    place = np.full(models, np.inf)
    place[list(order)] = np.arange(len(order))
    return place
