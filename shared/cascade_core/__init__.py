"""The strategy core of cascade-routing: decides which model answers a query, and calls none itself.

Public names are loaded when they are first used, so that importing a wrapper costs little more than importing its
framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_core._lazy import lazily

if TYPE_CHECKING:
    from cascade_core.belief import Belief
    from cascade_core.checks import SelfConsistency, Verification
    from cascade_core.episode import Episode
    from cascade_core.errors import (
        AllModelsFailedError,
        ArrayError,
        CalibrationError,
        CascadeError,
        ConfigurationError,
        InfeasibleTargetError,
        PolicyError,
    )
    from cascade_core.health import Health
    from cascade_core.policy import Limits, ModelSpec, Policy
    from cascade_core.values import (
        Answer,
        Call,
        CallRecord,
        DecisionRecord,
        Price,
        Query,
        Stop,
        Usage,
    )

__version__ = "0.1.0"

__getattr__, __dir__ = lazily(
    __name__,
    {
        "cascade_core.belief": ("Belief",),
        "cascade_core.checks": ("SelfConsistency", "Verification"),
        "cascade_core.episode": ("Episode",),
        "cascade_core.errors": (
            "AllModelsFailedError",
            "ArrayError",
            "CalibrationError",
            "CascadeError",
            "ConfigurationError",
            "InfeasibleTargetError",
            "PolicyError",
        ),
        "cascade_core.health": ("Health",),
        "cascade_core.policy": ("Limits", "ModelSpec", "Policy"),
        "cascade_core.values": (
            "Answer",
            "Call",
            "CallRecord",
            "DecisionRecord",
            "Price",
            "Query",
            "Stop",
            "Usage",
        ),
    },
)
__all__ = [
    "AllModelsFailedError",
    "Answer",
    "ArrayError",
    "Belief",
    "CalibrationError",
    "Call",
    "CallRecord",
    "CascadeError",
    "ConfigurationError",
    "DecisionRecord",
    "Episode",
    "Health",
    "InfeasibleTargetError",
    "Limits",
    "ModelSpec",
    "Policy",
    "PolicyError",
    "Price",
    "Query",
    "SelfConsistency",
    "Stop",
    "Usage",
    "Verification",
]
