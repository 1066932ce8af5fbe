"""Whether a certificate still holds: its bounds beside what new data show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.calibration.bounds import lower_mean, lower_ratio, upper_mean, upper_ratio
from cascade_core.calibration.certificate import LEAST_PROMPTS, Certificate, certificate_of
from cascade_core.calibration.replay import as_counted, sample, unseen
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from cascade_core.policy import Policy

Status = Literal["holds", "doubtful", "broken"]
"""``broken``: new data contradict the bound at the certificate's confidence; ``doubtful``: they miss it, but no more
than chance may explain."""

_ORDER: tuple[Status, ...] = ("holds", "doubtful", "broken")


@dataclass(frozen=True)
class Checked:
    """One promised bound on new data: what was promised, what was measured, and the interval around that."""

    number: str
    promised: float
    measured: float
    low: float
    high: float
    status: Status


@dataclass(frozen=True)
class Check:
    """All bounds of a certificate on new data."""

    queries: int
    confidence: float
    numbers: tuple[Checked, ...]

    @property
    def status(self) -> Status:
        """The worst of the bounds."""
        return max((number.status for number in self.numbers), key=_ORDER.index)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "status": self.status,
            "queries": self.queries,
            "confidence": self.confidence,
            "numbers": {number.number: {**vars(number)} for number in self.numbers},
        }


def check(policy: Policy, table: AnswerTable) -> Check:
    """Check a policy's certificate on new answers of all its models. Queries it was fitted on are left out.

    Raises:
        CalibrationError: the policy has no certificate, or too few queries are new and complete.
    """
    promised = _promised(policy)
    new = sample(policy, unseen(policy, as_counted(policy, table)))
    k = new.models.index(promised.reference)
    reference_quality, reference_cost = new.single_quality[:, k], new.single_cost[:, k]
    most = max(promised.most_cost, new.most_cost)
    level = _level(promised, len(new.quality), numbers=4)
    return Check(
        len(new.quality),
        promised.confidence,
        (
            _quality(promised, new.quality, level),
            _at_least(
                "relative_quality",
                promised.relative_quality.bound,
                float(new.quality.sum() / max(reference_quality.sum(), 1e-12)),
                lower_ratio(new.quality, reference_quality, level, worst=(0.0, 1.0)),
                upper_ratio(new.quality, reference_quality, level, worst=(1.0, 0.0)),
            ),
            _cost(promised, new.cost, level, most),
            _at_most(
                "relative_cost",
                promised.relative_cost.bound,
                float(new.cost.sum() / max(reference_cost.sum(), 1e-12)),
                lower_ratio(new.cost, reference_cost, level, worst=(0.0, most)),
                upper_ratio(new.cost, reference_cost, level, worst=(most, 0.0)),
            ),
        ),
    )


def check_served(policy: Policy, quality: Sequence[float], cost: Sequence[float]) -> Check:
    """Check quality and cost of answers that were served: one number each for every query.

    Without the other models' answers the ratios to a reference cannot be checked.

    Raises:
        CalibrationError: the policy has no certificate, or there are too few queries.
    """
    promised = _promised(policy)
    scores, spent = np.asarray(quality, dtype=float), np.asarray(cost, dtype=float)
    if scores.shape != spent.shape or not ((scores >= 0) & (scores <= 1)).all() or not (spent >= 0).all():
        raise CalibrationError("served answers need a quality from 0 to 1 and a cost of at least 0 each")
    level = _level(promised, scores.size, numbers=2)
    most = max(promised.most_cost, float(spent.max(initial=0.0)))
    return Check(
        scores.size,
        promised.confidence,
        (_quality(promised, scores, level), _cost(promised, spent, level, most)),
    )


def _promised(policy: Policy) -> Certificate:
    certificate = certificate_of(policy.certificate)
    if certificate is None:
        raise CalibrationError("this policy has no certificate to check: fit it with held-out prompts")
    return certificate


def _level(promised: Certificate, queries: int, *, numbers: int) -> float:
    """Confidence of each interval, so that all hold together."""
    if queries < LEAST_PROMPTS:
        raise CalibrationError(
            f"{queries} new queries are too few to check a certificate: expected {LEAST_PROMPTS}"
        )
    return 1 - (1 - promised.confidence) / numbers


def _quality(promised: Certificate, scores: FloatArray, level: float) -> Checked:
    low, high = lower_mean(scores, level), upper_mean(scores, level, worst=1.0)
    return _at_least("quality", promised.quality.bound, float(scores.mean()), low, high)


def _cost(promised: Certificate, spent: FloatArray, level: float, most: float) -> Checked:
    low, high = lower_mean(spent, level), upper_mean(spent, level, worst=most)
    return _at_most("cost", promised.cost.bound, float(spent.mean()), low, high)


def _at_least(number: str, promised: float, measured: float, low: float, high: float) -> Checked:
    status: Status = "holds" if measured >= promised else "doubtful" if high >= promised else "broken"
    return Checked(number, promised, measured, low, high, status)


def _at_most(number: str, promised: float, measured: float, low: float, high: float) -> Checked:
    status: Status = "holds" if measured <= promised else "doubtful" if low <= promised else "broken"
    return Checked(number, promised, measured, low, high, status)
