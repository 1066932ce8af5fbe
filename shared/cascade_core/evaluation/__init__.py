"""How good a strategy is over all budgets, and how sure that is."""

from __future__ import annotations

from cascade_core.evaluation.frontier import aiq, area, area_difference, hull, max_gain

__all__ = ["aiq", "area", "area_difference", "hull", "max_gain"]
