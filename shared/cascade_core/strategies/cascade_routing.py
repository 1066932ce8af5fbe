"""Cascade routing: plan a set of models, run its cheapest, look at the answer, plan again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from cascade_core._normal import loss
from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.expected_max import subsets_expected_max
from cascade_core.strategies._base import STOP, PricedStrategy, in_order, still_ahead
from cascade_core.strategies.index import reservation_value

_CHUNK = 1 << 22
_BOUNDED = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class CascadeRouting(PricedStrategy):
    """Search all supermodels: the sets ``M ⊇ R`` of models, those already run included.

    ``argmax_M E[max_{m ∈ M} q̂_m] - λ·Σ_{m ∈ M} ĉ_m``; stop when the best is what has run, else run the cheapest
    model of ``M ∖ R`` and re-estimate (Dekoninck, Baader and Vechev, ICML 2025, Theorem 3). Unlike the index policy
    it plans sets, which prices no choice that depends on an answer still to come, but honours an order and a limit
    exactly.

    Attributes:
        order: models may only run in this order, skipping allowed; None for any order.
        search_limit: most open models whose subsets are all searched. Beyond it the search is bounded to the
            subsets of the eight with the highest reservation values, the models worth opening first.
    """

    name: ClassVar[str] = "cascade_routing"
    order: tuple[int, ...] | None = None
    search_limit: int = 11

    def _open(self, allowed: BoolArray, ran: BoolArray) -> BoolArray:
        if self.order is None:
            return allowed
        return still_ahead(in_order(self.order, ran.shape[1]), allowed, ran)

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        lam = self._lam(ran, rows)
        state = _State(
            belief.mean, belief.lead_sd(ran), costs, ran, _worth_a_look(belief, costs, ran, open_, rows, lam)
        )
        if int(state.open_.sum(axis=1).max()) > self.search_limit:
            state, rows = self._bounded(state.take(rows), lam), np.arange(rows.size)
        choice = np.full(rows.size, STOP)
        count = state.open_.sum(axis=1)
        for size in np.unique(count[count > 0]):  # sets of models are numbered within equally many
            members = np.flatnonzero(count == size)
            place = np.full(count.size, -1)
            place[members] = np.arange(members.size)
            here = np.flatnonzero(place[rows] >= 0)
            choice[here] = self._search(state.take(members), int(size), place[rows[here]], lam[here])
        return choice

    def _bounded(self, state: _State, lam: FloatArray) -> _State:
        """Close all but the open models of the highest reservation values, where more are open than the limit."""
        merit = reservation_value(state.mean, state.sd, lam * state.costs)
        merit = np.where(state.open_, merit, -np.inf)
        best = np.argsort(-merit, axis=1, kind="stable")[:, : min(_BOUNDED, self.search_limit)]
        kept = np.repeat(
            state.open_.sum(axis=1, keepdims=True) <= self.search_limit, state.open_.shape[1], axis=1
        )
        np.put_along_axis(kept, best, True, axis=1)
        return replace(state, open_=kept & state.open_)

    def _search(self, state: _State, size: int, rows: IntArray, lam: FloatArray) -> IntArray:
        """As :meth:`_next`, for queries that all have ``size`` models open."""
        models = np.nonzero(state.open_)[1].reshape(-1, size)
        costs = np.take_along_axis(state.costs, models, axis=1)
        worth = subsets_expected_max(
            np.take_along_axis(state.mean, models, axis=1),
            np.take_along_axis(state.sd, models, axis=1),
            np.where(state.ran, state.mean, -np.inf).max(axis=1),
        )
        members = _members(size)
        if self.max_models is not None:
            left = self.max_models - state.ran.sum(axis=1, keepdims=True)
            worth = np.where(members.sum(axis=1) > left, -np.inf, worth)
        spent = costs @ members.T
        best = np.empty(rows.size, dtype=np.intp)
        for start in range(0, rows.size, max(1, _CHUNK >> size)):
            part = slice(start, start + max(1, _CHUNK >> size))
            best[part] = (worth[rows[part]] - lam[part] * spent[rows[part]]).argmax(axis=1)
        # of the set found, the model to run now: the cheapest, or the first in order
        rank = costs if self.order is None else _place(self.order, state.mean.shape[1])[models]
        first = np.where(members[best] > 0, rank[rows], np.inf).argmin(axis=1)
        return np.where(best > 0, models[rows, first], STOP)


@dataclass(frozen=True)
class _State:
    """What is known about N queries; all ``(N, K)``."""

    mean: FloatArray
    sd: FloatArray
    costs: FloatArray
    ran: BoolArray
    open_: BoolArray

    def take(self, rows: IntArray) -> _State:
        return _State(self.mean[rows], self.sd[rows], self.costs[rows], self.ran[rows], self.open_[rows])


def _worth_a_look(
    belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray, lam: FloatArray
) -> BoolArray:
    """Open models that some set may want at one of the λ.

    What a model adds to any set is at most what it adds to the best in hand, ``E[(q̂_m - best)⁺]``; one for which
    that is less than its price is in no best set (the paper's Lemma 1, safe for independent estimates).
    """
    in_hand = np.where(ran, belief.mean, -np.inf).max(axis=1, keepdims=True)
    sd = np.maximum(belief.lead_sd(ran), 1e-100)
    below = np.where(np.isneginf(in_hand), 0.0, in_hand) - belief.mean
    gain = sd * loss(np.clip(below / sd, -1e6, 40.0))
    cheapest = np.full(ran.shape[0], np.inf)
    np.minimum.at(cheapest, rows, lam[:, 0])
    wanted: BoolArray = open_ & (np.isneginf(in_hand) | (gain > cheapest[:, None] * costs))
    return wanted


@lru_cache
def _members(models: int) -> FloatArray:
    """``(2**models, models)`` of 0 and 1: the bits of each subset's number."""
    bits: FloatArray = ((np.arange(1 << models)[:, None] >> np.arange(models)) & 1).astype(float)
    return bits


def _place(order: tuple[int, ...], models: int) -> FloatArray:
    place = np.full(models, np.inf)
    place[list(order)] = np.arange(len(order))
    return place
