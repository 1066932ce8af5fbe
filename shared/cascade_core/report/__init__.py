"""A report on a policy: one HTML page without network access, and static plots."""

from __future__ import annotations

from cascade_core.report.figures import Figures, figures
from cascade_core.report.page import page, write_page
from cascade_core.report.plot import plot

__all__ = ["Figures", "figures", "page", "plot", "write_page"]
