"""Always the same model: the baseline, and with two of them mixed, the linear interpolation between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.strategies._base import Strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleModel(Strategy):
    """Run one model and return its answer.

    Attributes:
        model: its index, or ``(M,)`` one for each decision. Where it may not run, the model of the best estimate
            that may, runs instead.
        max_models: 1 always.
    """

    name: ClassVar[str] = "single"
    knob: ClassVar[str] = "model"
    model: int | IntArray
    max_models: int | None = 1

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        may_run = open_[rows, self.model]
        if np.count_nonzero(may_run) == rows.size:
            return np.full(rows.size, self.model)
        instead = np.where(open_, belief.mean, -np.inf).argmax(axis=1)[rows]
        return np.where(may_run, self.model, instead)
