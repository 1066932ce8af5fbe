"""The two-tier margin rule: a draft by a small model, kept where the model was sure of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, IntArray
from cascade_core.errors import ConfigurationError
from cascade_core.strategies._base import in_order
from cascade_core.strategies.threshold import ThresholdCascade


@dataclass(frozen=True, kw_only=True, eq=False)
class MarginRule(ThresholdCascade):
    """Keep the first model's answer if its post-hoc estimate reaches the threshold, else return the second's.

    The rule of Ramírez, Birch and Titov (arXiv 2405.02134) for two models, whose only signal is the generation
    margin: the probability of the likeliest token less that of the second. A calibrated estimate made from the
    margin alone rises with it, so that a threshold on one is a threshold on the other. The second answer is final:
    there is no recall.

    Attributes:
        order: the two models; None for the first and the last listed.
    """

    name: ClassVar[str] = "margin"

    def __post_init__(self) -> None:
        """Check the limit, and that there are two tiers."""
        super().__post_init__()
        if self.order is not None and len(self.order) != 2:
            raise ConfigurationError(f"the margin rule has two models, got order {self.order}")

    def _open(self, allowed: BoolArray, ran: BoolArray) -> BoolArray:
        models = ran.shape[1]
        tiers = (0, models - 1)[: min(models, 2)] if self.order is None else self.order
        inside = np.zeros(models, dtype=bool)
        inside[in_order(tiers, models)] = True
        return super()._open(allowed & inside, ran)

    def answer(self, belief: Belief, ran: BoolArray) -> IntArray:
        """``(N,)`` the last model that ran: the second tier's answer replaces the draft."""
        order = in_order(self.order, ran.shape[1])
        ran_in_order = ran[:, order]
        last: IntArray = order[order.size - 1 - ran_in_order[:, ::-1].argmax(axis=1)]
        return last
