"""From prompts to a policy with a certificate: collecting answers, scoring, targets, fitting, certifying.

Public names are loaded when they are first used: a database and scikit-learn are not needed to serve.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_core.calibration.certificate import Bound, Certificate
    from cascade_core.calibration.checking import Check, Checked, check, check_served
    from cascade_core.calibration.collection import Ask, Collection, Plan, Progress, acollect, collect, plan
    from cascade_core.calibration.evaluation import Evaluation, evaluate
    from cascade_core.calibration.fit import Fit, Frontier, Line
    from cascade_core.calibration.job import Calibration, acalibrate, calibrate, calibrate_table
    from cascade_core.calibration.judges import Comparison, Evaluator, Judge
    from cascade_core.calibration.logs import read_logs
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
    from cascade_core.calibration.select import choose_prompts
    from cascade_core.calibration.store import Store
    from cascade_core.calibration.table import AnswerTable
    from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target

_HOME = {
    "certificate": (
        "Bound",
        "Certificate",
    ),
    "checking": (
        "Check",
        "Checked",
        "check",
        "check_served",
    ),
    "collection": (
        "Ask",
        "Collection",
        "Plan",
        "Progress",
        "acollect",
        "collect",
        "plan",
    ),
    "evaluation": (
        "Evaluation",
        "evaluate",
    ),
    "fit": (
        "Fit",
        "Frontier",
        "Line",
    ),
    "job": (
        "Calibration",
        "acalibrate",
        "calibrate",
        "calibrate_table",
    ),
    "judges": (
        "Comparison",
        "Evaluator",
        "Judge",
    ),
    "logs": ("read_logs",),
    "prompts": (
        "Prompt",
        "read_prompts",
    ),
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
    "scoring": (
        "Function",
        "Weighted",
        "as_scorer",
        "score_table",
    ),
    "select": ("choose_prompts",),
    "store": ("Store",),
    "table": ("AnswerTable",),
    "targets": (
        "Budget",
        "Quality",
        "RelativeQuality",
        "Savings",
        "Target",
    ),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Agreement",
    "AnswerTable",
    "Ask",
    "Bound",
    "Budget",
    "Calibration",
    "Case",
    "Certificate",
    "Check",
    "Checked",
    "CodeTests",
    "Collection",
    "Comparison",
    "Contains",
    "Evaluation",
    "Evaluator",
    "Exact",
    "Fit",
    "Frontier",
    "Function",
    "JsonSchema",
    "Judge",
    "Line",
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
    "calibrate_table",
    "check",
    "check_served",
    "choose_prompts",
    "collect",
    "evaluate",
    "plan",
    "read_logs",
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
