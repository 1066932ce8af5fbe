"""Answer each query with the cheapest run of your own LlamaIndex models that meets your target.

``CascadeLLM`` looks to LlamaIndex like one model: set it as ``Settings.llm``, or pass it to an index, a chat engine,
an agent, an extractor or an evaluator.

Example:
    >>> from llama_index.core import Settings
    >>> from llama_index.core.llms import MockLLM
    >>> from cascade_llamaindex import CascadeLLM
    >>> Settings.llm = CascadeLLM({"small": MockLLM(max_tokens=3), "large": MockLLM(max_tokens=9)})
    >>> str(Settings.llm.complete("How are you?"))
    'text text text'
"""

from __future__ import annotations

from cascade_core.default_policy import UncalibratedWarning
from cascade_llamaindex._llm import CascadeLLM
from cascade_llamaindex.events import CascadeDecisionEvent
from cascade_llamaindex.signals import RetrievalSignals, query_signals, retrieval_features

__all__ = [
    "CascadeDecisionEvent",
    "CascadeLLM",
    "RetrievalSignals",
    "UncalibratedWarning",
    "query_signals",
    "retrieval_features",
]
