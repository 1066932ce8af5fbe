"""A cascade at the end of a RAG pipeline decides by how the retrieval went, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from cascade_core import Price, Query
from cascade_core.calibration import Prompt, RelativeQuality
from cascade_core.estimation import Evidence, Uncalibrated
from cascade_llamaindex import CascadeLLM, RetrievalSignals, calibrate, query_signals, retrieval_features
from tests.llamaindex.conftest import CascadeOf, uncalibrated
from tests.support.openai_server import OpenAIServer, Reply, Request

QUESTION = "What is the code of item 7?"


class Shelf(BaseRetriever):
    """Finds one note about the item asked for; how well says ``score``."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text="A note about items."), score=self.score)]


class Watching(Uncalibrated):
    """Keeps the queries that a policy was asked about."""

    seen: list[Query]

    def start(self, query: Query) -> Evidence:
        self.seen.append(query)
        return super().start(query)


@pytest.fixture
def watched(cascade: CascadeOf, openai_server: OpenAIServer) -> tuple[CascadeLLM, list[Query]]:
    openai_server.models = {"small": "It is 42."}
    estimator = Watching(prices=(None, None))
    estimator.seen = []
    return cascade(policy=replace(uncalibrated("small", "large"), estimator=estimator)), estimator.seen


def _engine(llm: CascadeLLM, score: float = 0.8, **options: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine(
        Shelf(score),
        get_response_synthesizer(llm=llm, **options),
        node_postprocessors=[RetrievalSignals()],
    )


EXPECTED = {
    "retrieval_nodes": 1.0,
    "retrieval_chars": float(len("A note about items.")),
    "retrieval_top": 0.8,
    "retrieval_mean": 0.8,
    "retrieval_gap": 0.0,
}


async def test_the_policy_sees_the_question_and_what_was_retrieved(
    watched: tuple[CascadeLLM, list[Query]],
) -> None:
    llm, seen = watched
    _engine(llm).query(QUESTION)
    await _engine(llm).aquery(QUESTION)
    "".join(_engine(llm, streaming=True).query(QUESTION).response_gen)  # type: ignore[union-attr]
    ContextChatEngine.from_defaults(Shelf(0.8), llm=llm, node_postprocessors=[RetrievalSignals()]).chat(
        QUESTION
    )
    assert len(seen) == 4
    for query in seen:
        assert query.text == QUESTION
        assert query.features == EXPECTED
        assert query.sent_chars > len(QUESTION) + len("A note about items."), (
            "the cost is that of the whole prompt"
        )


def test_signals_hold_for_their_own_question_only(watched: tuple[CascadeLLM, list[Query]]) -> None:
    llm, seen = watched
    _engine(llm).query(QUESTION)
    llm.complete("Why is the sky blue?")
    assert seen[-1].text == "Why is the sky blue?"
    assert seen[-1].features == {}


def test_signals_of_ones_own(watched: tuple[CascadeLLM, list[Query]]) -> None:
    llm, seen = watched
    with query_signals("Who wrote it?", language_is_rare=1.0):
        llm.predict(PromptTemplate("Context: a book.\nQuestion: {question}"), question="Who wrote it?")
        llm.chat([ChatMessage("Something else")])
    llm.complete("Who wrote it?")
    assert [query.features for query in seen] == [{"language_is_rare": 1.0}, {}, {}]
    assert seen[0].text == "Who wrote it?"


def test_features_of_nodes_without_scores() -> None:
    nodes = [NodeWithScore(node=TextNode(text="abc")), NodeWithScore(node=TextNode(text="de"))]
    assert retrieval_features(nodes) == {"retrieval_nodes": 2.0, "retrieval_chars": 5.0}
    assert retrieval_features([]) == {"retrieval_nodes": 0.0, "retrieval_chars": 0.0}


def test_a_fitted_cascade_goes_by_the_retrieval(
    openai_server: OpenAIServer, cascade: CascadeOf, tmp_path: Path
) -> None:
    """The small model answers well from a well retrieved context only, and neither question nor answer shows it."""
    template = "Context ({score}): a note.\nQuery: {text}"

    def asked(request: Request) -> int:
        return int("".join(filter(str.isdigit, request.text.split("Query:")[-1])) or 0)

    def small(request: Request) -> Reply:
        well = "(0.9)" in request.text
        return Reply(str(asked(request)) if well else "0", logprobs=-0.1)

    openai_server.models = {
        "small": small,
        "large": lambda request: Reply(str(asked(request)), logprobs=-0.1),
    }
    prompts = [
        {
            "text": f"What is the code of item {number}?",
            "reference": str(number),
            "features": {"retrieval_top": 0.9 if number % 2 else 0.1},
        }
        for number in range(1, 161)
    ]

    def make_input(prompt: Prompt) -> str:
        return template.format(score=prompt.features["retrieval_top"], text=prompt.text)

    llm = cascade()
    found = calibrate(
        llm,
        prompts,
        "exact",
        RelativeQuality(0.95, of="large"),
        tmp_path / "answers.sqlite",
        make_input=make_input,
        prices={"small": Price(input=1, output=1), "large": Price(input=10, output=10)},
    )
    llm.policy = found.policy
    for score, first in ((0.9, "small"), (0.1, "large")):
        before = len(openai_server.requests)
        _engine(llm, score).query("What is the code of item 200?")
        assert openai_server.requests[before].model == first
