"""The estimator used before anything has been fitted: does the answer look sure of itself?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from cascade_core.belief import Belief, FloatArray
from cascade_core.estimation._base import Estimator, Evidence
from cascade_core.values import Answer, Price, Query, Usage

_OUTPUT_TOKENS = 200
_CUT_OFF = frozenset({"length", "max_tokens", "content_filter"})
_REFUSAL = re.compile(
    r"^\W*(i('m| am) (sorry|unable|not able)|sorry, |i (can(no|')t|do not know|don't know)|as an ai\b)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether an answer opens by declining to give one.

    Example:
        >>> refuses("I'm sorry, but I can't help with that."), refuses("Paris.")
        (True, False)
    """
    return _REFUSAL.match(text) is not None


def cut_off(answer: Answer) -> bool:
    """Whether an answer was ended before its model was done, as its finish reason says."""
    return answer.finish_reason in _CUT_OFF


def confidence(answer: Answer) -> float:
    """How sure of itself an answer looks, in [0, 1].

    What a check of it came to; else the geometric mean of its token probabilities where the provider returns them,
    else 1; and 0 for an answer that is cut off, filtered or a refusal.
    """
    if cut_off(answer) or refuses(answer.text):
        return 0.0
    if answer.check is not None:
        return answer.check
    if not answer.logprobs:
        return 1.0
    return min(math.exp(sum(answer.logprobs) / len(answer.logprobs)), 1.0)


class Uncalibrated(Estimator):
    """Takes the models' order for their order of quality, and an answer's :func:`confidence` for its quality.

    Expected costs assume four characters a token and 200 output tokens. Where a price is missing, models are
    taken to cost more the later they come, and policies report no expected cost.
    """

    name: ClassVar[str] = "uncalibrated"
    calibrated: ClassVar[bool] = False

    def __init__(self, prices: tuple[Price | None, ...]) -> None:
        self.prices = prices
        ranks = np.linspace(0.5, 0.9, len(prices))[None, :]
        self._prior = Belief.independent(ranks, np.full(ranks.shape, 0.3))
        self._priced = all(price is not None for price in prices)
        self._by_rank = np.arange(1.0, len(prices) + 1)[None, :]

    def start(self, query: Query) -> Evidence:
        """Evidence without any answer."""
        return _Confidences(self._prior, self._costs_of(query))

    def _costs_of(self, query: Query) -> FloatArray:
        if not self._priced:
            return self._by_rank
        sent = Usage.estimated(query.sent_chars, "").input_tokens
        usage = Usage(input_tokens=sent, output_tokens=_OUTPUT_TOKENS)
        return np.array([[price.dollars(usage) for price in self.prices if price is not None]])

    def to_dict(self) -> dict[str, Any]:
        """The prices."""
        return {"prices": [None if price is None else price.model_dump(mode="json") for price in self.prices]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Uncalibrated:
        """Inverse of :meth:`to_dict`."""
        return cls(tuple(None if price is None else Price.model_validate(price) for price in data["prices"]))


class _Confidences(Evidence):
    def __init__(self, belief: Belief, costs: FloatArray) -> None:
        self._belief = belief
        self._costs = costs
        self._ran: list[int] = []

    def observe(self, model: int, answer: Answer) -> None:
        sure = confidence(answer)
        mean, step = self._belief.mean.copy(), self._belief.step.copy()
        if sure > 0 and self._ran:  # of answers that were not sure enough, a later model's is preferred
            mean[0, self._ran] = np.minimum(mean[0, self._ran], sure - 1e-6)
        mean[0, model] = sure
        step[0, model] = 0.0
        self._ran.append(model)
        self._belief = Belief(mean, step)

    def belief(self) -> Belief:
        return self._belief

    def foreseen(self, model: int) -> None:
        return None

    def costs(self) -> FloatArray:
        return self._costs
