"""Threshold cascade: models in a fixed order, until one looks good enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.strategies._base import STOP, Strategy, in_order, still_ahead


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdCascade(Strategy):
    """Run the models in order; go on while the best post-hoc estimate in hand is below τ_j.

    The usual baseline (e.g. Chen, Zaharia and Zou, *FrugalGPT*, 2023). It looks at neither the costs nor at what the
    next model would add, which is what cascading repairs.

    Attributes:
        threshold: τ in units of quality; a float, or ``(M,)`` one for each decision.
        step_offsets: τ after the j-th call is ``threshold + step_offsets[j]``, the last offset serving all later
            calls. Empty means all 0.
        order: indices of the models in the order they run; None for the order they are listed in.
    """

    name: ClassVar[str] = "threshold"
    knob: ClassVar[str] = "threshold"
    threshold: float | FloatArray
    step_offsets: tuple[float, ...] = ()
    order: tuple[int, ...] | None = None

    def _open(self, allowed: BoolArray, ran: BoolArray) -> BoolArray:
        return still_ahead(in_order(self.order, ran.shape[1]), allowed, ran)

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        order = in_order(self.order, ran.shape[1])
        following = order[open_[:, order].argmax(axis=1)]
        threshold = np.asarray(self.threshold, dtype=float)
        if self.step_offsets:
            offsets = np.asarray(self.step_offsets, dtype=float)
            calls = np.maximum(ran.sum(axis=1) - 1, 0)
            threshold = threshold + offsets[np.minimum(calls, offsets.size - 1)][rows]
        in_hand = np.where(ran, belief.mean, -np.inf).max(axis=1)
        return np.where(in_hand[rows] >= threshold, STOP, following[rows])
