"""Cascading: models in a fixed order, each run only while a longer prefix promises more than it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.expected_max import prefixes_expected_max
from cascade_core.strategies._base import STOP, PricedStrategy, in_order, still_ahead


@dataclass(frozen=True, kw_only=True, eq=False)
class Cascading(PricedStrategy):
    """Compare the prefixes of a fixed order and go on while the best is longer than the one already run.

    At every step the prefixes ``M_{1:i}`` that contain what has run are compared by ``E[max_{m ∈ M_{1:i}} q̂_m] -
    λ·ĉ(M_{1:i})``. Optimal among cascades of this order (Dekoninck, Baader and Vechev, ICML 2025, Theorem 2).
    The one to use where the order is given from outside (one's own model first, say).

    Attributes:
        order: indices of the models in the order they run; None for the order they are listed in. A model that is
            not allowed is passed over.
    """

    name: ClassVar[str] = "cascading"
    order: tuple[int, ...] | None = None

    def _open(self, allowed: BoolArray, ran: BoolArray) -> BoolArray:
        return still_ahead(in_order(self.order, ran.shape[1]), allowed, ran)

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        order = in_order(self.order, ran.shape[1])
        ahead = open_[:, order]
        in_hand = np.where(ran, belief.mean, -np.inf).max(axis=1)
        mean = np.where(ahead, belief.mean[:, order], -np.inf)
        sd = np.where(ahead, belief.lead_sd(ran)[:, order], 0.0)
        length = np.cumsum(ahead, axis=1)
        too_long = np.zeros_like(ahead)
        if self.max_models is not None:
            too_long = length + ran.sum(axis=1, keepdims=True) > self.max_models
        worth = np.where(too_long, -np.inf, prefixes_expected_max(mean, sd, in_hand))
        spent = np.cumsum(np.where(ahead, costs[:, order], 0.0), axis=1)
        best = (worth[rows] - self._lam(ran, rows) * spent[rows]).max(axis=1)
        return np.where(best > in_hand[rows], order[ahead.argmax(axis=1)][rows], STOP)
