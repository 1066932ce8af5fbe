"""What is known about a query beyond its text, told to the policy: retrieval scores, the length of the context.

The language model at the end of a RAG pipeline sees a long prompt and nothing of how the context was found. A policy
that knows whether the retrieval went well can send the query to the right model before any has run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from cascade_core.values import Query


class _Signals(NamedTuple):
    text: str
    features: dict[str, float]


_current: ContextVar[_Signals | None] = ContextVar("cascade_llamaindex_signals", default=None)


@contextmanager
def query_signals(text: str, **features: float) -> Iterator[None]:
    """Tell the policy about the query in every prompt within the block that contains ``text``.

    Args:
        text: the question itself, which the policy then sees instead of the whole prompt around it.
        **features: numbers known before any model runs.

    Example:
        >>> from cascade_core import Query
        >>> with query_signals("Who wrote it?", retrieval_top=0.83):
        ...     query = with_signals(Query(text="Context: ...\\nQuery: Who wrote it?"), [])
        >>> query.text, query.features
        ('Who wrote it?', {'retrieval_top': 0.83})
    """
    token = _current.set(_Signals(text, features))
    try:
        yield
    finally:
        _current.reset(token)


def retrieval_features(nodes: Sequence[NodeWithScore]) -> dict[str, float]:
    """Features of what was retrieved.

    Returns:
        ``retrieval_nodes``: number of nodes; ``retrieval_chars``: characters of their text; and where they have
        scores, ``retrieval_top`` and ``retrieval_mean`` of them, and ``retrieval_gap`` from the best to the second.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> found = [NodeWithScore(node=TextNode(text="a tale"), score=s) for s in (0.75, 0.25)]
        >>> retrieval_features(found)["retrieval_gap"]
        0.5
    """
    features = {
        "retrieval_nodes": float(len(nodes)),
        "retrieval_chars": float(sum(len(node.get_content()) for node in nodes)),
    }
    scores = sorted((node.score for node in nodes if node.score is not None), reverse=True)
    if scores:
        features["retrieval_top"] = float(scores[0])
        features["retrieval_mean"] = float(sum(scores) / len(scores))
        features["retrieval_gap"] = float(scores[0] - scores[1]) if len(scores) > 1 else 0.0
    return features


class RetrievalSignals(BaseNodePostprocessor):
    """Node postprocessor that changes nothing and tells the policy of a ``CascadeLLM`` what was retrieved.

    Put it last among the ``node_postprocessors`` of a query or chat engine. It holds for prompts that contain the
    question until the next retrieval in the same thread or task.

    Example:
        >>> from llama_index.core.schema import QueryBundle, TextNode
        >>> nodes = [NodeWithScore(node=TextNode(text="Paris is the capital."), score=0.9)]
        >>> RetrievalSignals().postprocess_nodes(nodes, QueryBundle("What is the capital?")) == nodes
        True
    """

    @classmethod
    def class_name(cls) -> str:
        """Name under which it is stored."""
        return "RetrievalSignals"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is not None:
            _current.set(_Signals(query_bundle.query_str, retrieval_features(nodes)))
        return nodes

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        # Not in a thread, as inherited: what is set there is not seen here.
        return self._postprocess_nodes(nodes, query_bundle)


def with_signals(query: Query, messages: Sequence[ChatMessage]) -> Query:
    """The query with the features that were told of it; unchanged if they are of another."""
    signals = _current.get()
    if signals is None or not signals.text:
        return query
    if signals.text not in query.text and not any(signals.text in (m.content or "") for m in messages):
        return query
    return query.model_copy(update={"text": signals.text, "features": signals.features})
