"""What a cascade tells LlamaIndex's instrumentation."""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation.base import BaseEvent


class CascadeDecisionEvent(BaseEvent):
    """A query was answered: which models ran, why, and what it cost.

    Attributes:
        record: the decision record as plain values; its fields are those of ``cascade_core.DecisionRecord``. It
            holds no text of the query or the answer, and nothing of the models but their names.
    """

    record: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Name under which the event is dispatched."""
        return "CascadeDecisionEvent"
