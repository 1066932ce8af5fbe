"""From prompts to a policy with a certificate: collecting answers, scoring, targets, fitting, certifying.

Public names are loaded when they are first used: a database and scikit-learn are not needed to serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_core._lazy import lazily

if TYPE_CHECKING:
    from cascade_core.calibration.asking import Ask
    from cascade_core.calibration.certificate import Bound, Certificate
    from cascade_core.calibration.checking import Check, Checked, check, check_served
    from cascade_core.calibration.collection import Collection, Plan, Progress, acollect, collect, plan
    from cascade_core.calibration.evaluation import Evaluation, evaluate
    from cascade_core.calibration.fitting import Fit, Frontier, Line, fit, join
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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "cascade_core.calibration.asking": ("Ask",),
        "cascade_core.calibration.certificate": (
            "Bound",
            "Certificate",
        ),
        "cascade_core.calibration.checking": (
            "Check",
            "Checked",
            "check",
            "check_served",
        ),
        "cascade_core.calibration.collection": (
            "Collection",
            "Plan",
            "Progress",
            "acollect",
            "collect",
            "plan",
        ),
        "cascade_core.calibration.evaluation": (
            "Evaluation",
            "evaluate",
        ),
        "cascade_core.calibration.fitting": (
            "Fit",
            "Frontier",
            "Line",
            "fit",
            "join",
        ),
        "cascade_core.calibration.job": (
            "Calibration",
            "acalibrate",
            "calibrate",
            "calibrate_table",
        ),
        "cascade_core.calibration.judges": (
            "Comparison",
            "Evaluator",
            "Judge",
        ),
        "cascade_core.calibration.logs": ("read_logs",),
        "cascade_core.calibration.prompts": (
            "Prompt",
            "read_prompts",
        ),
        "cascade_core.calibration.scorers": (
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
        "cascade_core.calibration.scoring": (
            "Function",
            "Weighted",
            "as_scorer",
            "score_table",
        ),
        "cascade_core.calibration.select": ("choose_prompts",),
        "cascade_core.calibration.store": ("Store",),
        "cascade_core.calibration.table": ("AnswerTable",),
        "cascade_core.calibration.targets": (
            "Budget",
            "Quality",
            "RelativeQuality",
            "Savings",
            "Target",
        ),
    },
)
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
    "fit",
    "join",
    "plan",
    "read_logs",
    "read_prompts",
    "score_table",
]
