"""The strategy core of cascade-routing: decides which model answers a query, and calls none itself.

Public names are loaded when they are first used, so that importing a wrapper costs little more than importing its
framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_core.belief import Belief
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

_HOME = {
    "belief": ("Belief",),
    "episode": ("Episode",),
    "errors": (
        "AllModelsFailedError",
        "ArrayError",
        "CalibrationError",
        "CascadeError",
        "ConfigurationError",
        "InfeasibleTargetError",
        "PolicyError",
    ),
    "health": ("Health",),
    "policy": ("Limits", "ModelSpec", "Policy"),
    "values": ("Answer", "Call", "CallRecord", "DecisionRecord", "Price", "Query", "Stop", "Usage"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

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
    "Stop",
    "Usage",
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
