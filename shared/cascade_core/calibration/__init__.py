"""From answers to a policy: the answer table, targets, fitting."""

from __future__ import annotations

from cascade_core.calibration.table import AnswerTable
from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target

__all__ = ["AnswerTable", "Budget", "Quality", "RelativeQuality", "Savings", "Target"]
