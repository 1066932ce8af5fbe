"""One chat model, or one runnable, made of several: each query is answered by the cheapest run that will do.

Public names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_core.default_policy import UncalibratedWarning
    from cascade_langchain.calibration import LangSmithEvaluator, acalibrate, ask_with, calibrate
    from cascade_langchain.chat_model import ChatCascade
    from cascade_langchain.middleware import CascadeMiddleware
    from cascade_langchain.runnable import RunnableCascade

_HOME = {
    "cascade_core.default_policy": ("UncalibratedWarning",),
    "cascade_langchain.calibration": ("LangSmithEvaluator", "acalibrate", "ask_with", "calibrate"),
    "cascade_langchain.chat_model": ("ChatCascade",),
    "cascade_langchain.middleware": ("CascadeMiddleware",),
    "cascade_langchain.runnable": ("RunnableCascade",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CascadeMiddleware",
    "ChatCascade",
    "LangSmithEvaluator",
    "RunnableCascade",
    "UncalibratedWarning",
    "acalibrate",
    "ask_with",
    "calibrate",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *__all__})
