"""Step 5, and how step 2 asks: the local models as LangChain's and LlamaIndex's own objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from rich.console import Console

from cascade_langchain import ChatCascade
from cascade_llamaindex import CascadeDecisionEvent, CascadeLLM
from examples.local_models import LocalModel
from examples.local_models.embedding import WordLlamaEmbedding

FRESH = ("What is the capital of Peru?", "What is the plural of wolf?", "What is 7 times 8?")
RETRIEVAL = "In which file is a policy saved?"


class Decisions(BaseCallbackHandler):
    """Prints a decision when LangChain's callbacks tell of it."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        if name == "cascade_stop":
            explain(data, self.console)


class DecisionEvents(BaseEventHandler):
    """Prints a decision when LlamaIndex's instrumentation tells of it."""

    console: Any

    def handle(self, event: Any, **_: Any) -> None:
        if isinstance(event, CascadeDecisionEvent):
            explain(event.record, self.console)


def explain(record: dict[str, Any], console: Console) -> None:
    """Which models ran and why, from a decision record."""
    for call in record["calls"]:
        found = f", its answer then {call['quality']:.2f}" if "quality" in call else f", {call['error']}"
        console.print(f"   ran {call['model']}: expected quality {call['expected_quality']:.2f}{found}")
    why = record["reason"].replace("_", " ")
    console.print(
        f"   answer of {record['model']} ({why}) at ${1e6 * record['cost']:.1f} per million such queries; "
        f"{record['reference_model']} alone: ${1e6 * record['reference_cost']:.1f}"
    )


def langchain(models: dict[str, LocalModel], policy: Path, console: Console) -> None:
    """Three fresh questions through an LCEL pipeline."""
    llm = ChatCascade({name: model.chat_openai() for name, model in models.items()}, policy=policy)
    chain = ChatPromptTemplate.from_template("{question}") | llm | StrOutputParser()
    for question in FRESH:
        console.print(f"[bold]{question}[/]")
        answer = chain.invoke({"question": question}, {"callbacks": [Decisions(console)]})
        console.print(f"   → {answer.strip()}")


def llamaindex(models: dict[str, LocalModel], policy: Path, console: Console) -> None:
    """One question about this project's own documents, through a query engine."""
    llm = CascadeLLM(
        {name: model.openai_like(max_tokens=40) for name, model in models.items()}, policy=policy
    )
    texts = sorted(Path(__file__).with_name("documents").glob("*.md"))
    documents = [Document(text=path.read_text(encoding="utf-8")) for path in texts]
    index = VectorStoreIndex.from_documents(documents, embed_model=WordLlamaEmbedding())
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(DecisionEvents(console=console))
    console.print(f"[bold]{RETRIEVAL}[/]  (retrieval over {len(documents)} documents)")
    answer = engine.query(RETRIEVAL)
    console.print(f"   → {str(answer).strip()}")
