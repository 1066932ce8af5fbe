"""From prompts to a policy with a certificate: collecting answers, scoring, targets, fitting, certifying.

Public names are loaded when they are first used: a database and scikit-learn are not needed to serve.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_core.calibration.collection import Ask, Collection, Plan, Progress, acollect, collect, plan
    from cascade_core.calibration.job import Calibration, acalibrate, calibrate
    from cascade_core.calibration.judges import Comparison, Evaluator, Judge
    from cascade_core.calibration.prompts import Prompt, read_prompts
    from cascade_core.calibration.scorers import (
        Agreement,
        Case,
        CodeTests,
        Contains,
        Exact,
        JsonSchema,
        MultipleChoice,
        Normalised,
        Numeric,
        Regex,
        Scorer,
        Similarity,
    )
    from cascade_core.calibration.scoring import Function, Weighted, as_scorer, score_table
    from cascade_core.calibration.store import Store
    from cascade_core.calibration.table import AnswerTable
    from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target

_HOME = {
    "collection": ("Ask", "Collection", "Plan", "Progress", "acollect", "collect", "plan"),
    "job": ("Calibration", "acalibrate", "calibrate"),
    "judges": ("Comparison", "Evaluator", "Judge"),
    "prompts": ("Prompt", "read_prompts"),
    "scorers": (
        "Agreement",
        "Case",
        "CodeTests",
        "Contains",
        "Exact",
        "JsonSchema",
        "MultipleChoice",
        "Normalised",
        "Numeric",
        "Regex",
        "Scorer",
        "Similarity",
    ),
    "scoring": ("Function", "Weighted", "as_scorer", "score_table"),
    "store": ("Store",),
    "table": ("AnswerTable",),
    "targets": ("Budget", "Quality", "RelativeQuality", "Savings", "Target"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Agreement",
    "AnswerTable",
    "Ask",
    "Budget",
    "Calibration",
    "Case",
    "CodeTests",
    "Collection",
    "Comparison",
    "Contains",
    "Evaluator",
    "Exact",
    "Function",
    "JsonSchema",
    "Judge",
    "MultipleChoice",
    "Normalised",
    "Numeric",
    "Plan",
    "Progress",
    "Prompt",
    "Quality",
    "Regex",
    "RelativeQuality",
    "Savings",
    "Scorer",
    "Similarity",
    "Store",
    "Target",
    "Weighted",
    "acalibrate",
    "acollect",
    "as_scorer",
    "calibrate",
    "collect",
    "plan",
    "read_prompts",
    "score_table",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *__all__})
