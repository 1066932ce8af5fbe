"""Index policy: each model not yet run has a reservation value; run the highest while it beats what is in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core._normal import inverse_loss
from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.strategies._base import STOP, PricedStrategy

_TINY = 1e-100


def reservation_value(mean: FloatArray, sd: FloatArray, price: FloatArray) -> FloatArray:
    """The ``z`` with ``E[(X - z)⁺] = price`` for ``X ~ N(mean, sd²)``; all arguments of one shape.

    A quality in hand of exactly ``z`` makes running the model at this price a matter of indifference. Without
    spread it is ``mean - price``.
    """
    sd = np.maximum(sd, _TINY)
    return mean + sd * inverse_loss(price / sd)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexPolicy(PricedStrategy):
    """Weitzman's rule for Pandora's box (*Optimal Search for the Best Alternative*, Econometrica 1979).

    Model ``i`` has the reservation value ``z_i`` that solves ``E[(q_i - z_i)⁺] = λ·ĉ_i``. Run the model of the
    highest one while it exceeds the best estimate in hand. For independent estimates this is the exact optimum of the
    adaptive problem, in O(K): the next call may depend on what the last one returned. The one to use by default.

    With a joint belief a call moves the best answer in hand, too, and σ is that of their difference
    (:meth:`Belief.lead_sd <cascade_core.belief.Belief.lead_sd>`): the value of one call is then exactly that of the
    upper envelope of two lines (Frazier, Powell and Dayanik, *INFORMS J. Computing* 2009).
    """

    name: ClassVar[str] = "index"

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        in_hand = np.where(ran, belief.mean, -np.inf).max(axis=1)
        sd = belief.lead_sd(ran)
        z = reservation_value(belief.mean[rows], sd[rows], self._lam(ran, rows) * costs[rows])
        z = np.where(open_[rows], z, -np.inf)
        choice: IntArray = z.argmax(axis=1)
        return np.where(z[np.arange(choice.size), choice] > in_hand[rows], choice, STOP)
