"""Answer each query with the cheapest run of your own LlamaIndex models that meets your target.

``CascadeLLM`` looks to LlamaIndex like one model: set it as ``Settings.llm``, or pass it to an index, a chat engine,
an agent, an extractor or an evaluator. ``calibrate`` fits the policy that it decides by.

Example:
    >>> from llama_index.core import Settings
    >>> from llama_index.core.llms import MockLLM
    >>> from cascade_llamaindex import CascadeLLM
    >>> Settings.llm = CascadeLLM({"small": MockLLM(max_tokens=3), "large": MockLLM(max_tokens=9)})
    >>> str(Settings.llm.complete("How are you?"))
    'text text text'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade_core.default_policy import UncalibratedWarning
from cascade_llamaindex._llm import CascadeLLM
from cascade_llamaindex.events import CascadeDecisionEvent
from cascade_llamaindex.signals import RetrievalSignals, query_signals, retrieval_features

if TYPE_CHECKING:
    from cascade_llamaindex.calibration import acalibrate, ask_with, calibrate, scorer_of

__all__ = [
    "CascadeDecisionEvent",
    "CascadeLLM",
    "RetrievalSignals",
    "UncalibratedWarning",
    "acalibrate",
    "ask_with",
    "calibrate",
    "query_signals",
    "retrieval_features",
    "scorer_of",
]


def __getattr__(name: str) -> Any:
    """Load what fits a policy on first use: serving needs nothing of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cascade_llamaindex import calibration

    return getattr(calibration, name)
