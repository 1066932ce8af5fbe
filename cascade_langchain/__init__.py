"""One chat model, or one runnable, made of several: each query is answered by the cheapest run that will do.

Public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_core._lazy import lazily

if TYPE_CHECKING:
    from cascade_core.default_policy import UncalibratedWarning
    from cascade_langchain.calibration import LangSmithEvaluator, acalibrate, ask_with, calibrate
    from cascade_langchain.chat_model import ChatCascade
    from cascade_langchain.middleware import CascadeMiddleware
    from cascade_langchain.runnable import RunnableCascade

__getattr__, __dir__ = lazily(
    __name__,
    {
        "cascade_core.default_policy": ("UncalibratedWarning",),
        "cascade_langchain.calibration": ("LangSmithEvaluator", "acalibrate", "ask_with", "calibrate"),
        "cascade_langchain.chat_model": ("ChatCascade",),
        "cascade_langchain.middleware": ("CascadeMiddleware",),
        "cascade_langchain.runnable": ("RunnableCascade",),
    },
)
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
