"""A query engine whose policy sees how the retrieval went.

    python -m examples.llamaindex_rag

Answers questions about this project from a few of its documents. Nothing leaves the machine: the embedding comes in a
package, the two models run in processes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import LLM

from cascade_core import ModelSpec, Policy
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM, RetrievalSignals
from examples.local_models import local_models
from examples.local_models.embedding import WordLlamaEmbedding

DOCUMENTS = Path(__file__).with_name("demo") / "documents"
QUESTIONS = ("In which file is a policy saved?", "What does a certificate state?")


class Explanation(BaseEventHandler):
    """Prints each decision when LlamaIndex's instrumentation tells of it."""

    def handle(self, event: BaseEvent, **_: object) -> None:
        if isinstance(event, CascadeDecisionEvent):
            ran = ", then ".join(call["model"] for call in event.record["calls"])
            print(f"  ran {ran}; answer of {event.record['model']} ({event.record['reason']})")


def run(llms: Mapping[str, LLM]) -> list[str]:
    """Ask every question; the answers."""
    llm = CascadeLLM(llms, Policy.uncalibrated([ModelSpec(name=name) for name in llms]))
    documents = [Document(text=path.read_text(encoding="utf-8")) for path in sorted(DOCUMENTS.glob("*.md"))]
    index = VectorStoreIndex.from_documents(documents, embed_model=WordLlamaEmbedding())
    # A policy that was fitted with retrieval_features(nodes) as the prompts' features now finds them in the query.
    engine = index.as_query_engine(llm=llm, similarity_top_k=1, node_postprocessors=[RetrievalSignals()])
    get_dispatcher().add_event_handler(Explanation())
    answers = []
    for question in QUESTIONS:
        print(question)
        answers.append(str(engine.query(question)).strip())
        print(f"  {answers[-1]}")
    return answers


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as models:
        run({name: model.openai_like(max_tokens=40) for name, model in models.items()})
