"""Routing: one model per query, chosen before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.strategies._base import PricedStrategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing(PricedStrategy):
    """Run the model of highest ``q̂_i - λ·ĉ_i`` and return its answer.

    Optimal among strategies that run one model (Dekoninck, Baader and Vechev, ICML 2025, Theorem 1). The one to use
    where a second call is out of the question (latency), or answers say nothing about their own quality.
    """

    name: ClassVar[str] = "routing"
    max_models: int | None = 1

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        value = belief.mean[rows] - self._lam(ran, rows) * costs[rows]
        best: IntArray = np.where(open_[rows], value, -np.inf).argmax(axis=1)
        return best
