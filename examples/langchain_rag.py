"""A cascade of whole chains: a quick look into the documents first, a thorough one where that does not answer.

    python -m examples.langchain_rag

Each arm is a retrieval chain of its own, with its own price. Nothing leaves the machine: the embedding comes in a
package, the two models run in processes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import wordllama
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from cascade_core import Price
from cascade_core.policy import ModelSpec, Policy
from cascade_langchain import RunnableCascade
from examples.local_models import local_models

DOCUMENTS = Path(__file__).with_name("demo") / "documents"
QUESTIONS = ("In which file is a policy saved?", "What is a draft?")
PROMPT = ChatPromptTemplate.from_template("{context}\n\n{question} Answer in a few words.")


class WordLlama(Embeddings):
    """Static vectors that come in a package: a few microseconds a sentence."""

    def __init__(self) -> None:
        self._vectors = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._vectors.embed(texts, norm=True).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Explanation(BaseCallbackHandler):
    """Prints each decision: a chain that returns a text has nowhere else to put it."""

    def on_custom_event(self, name: str, data: object, **_: object) -> None:
        if name == "cascade_stop" and isinstance(data, dict):
            print(f"  [{', then '.join(call['model'] for call in data['calls'])}: {data['reason']}]")


def joined(passages: list[Document]) -> str:
    return "\n".join(passage.page_content for passage in passages)


def look(store: InMemoryVectorStore, passages: int, model: BaseChatModel) -> Runnable[str, str]:
    """A chain that reads so many passages before its model answers."""
    context = store.as_retriever(search_kwargs={"k": passages}) | RunnableLambda(joined)
    return {"context": context, "question": RunnablePassthrough()} | PROMPT | model | StrOutputParser()


def run(models: Mapping[str, BaseChatModel], prices: Mapping[str, Price]) -> list[str]:
    """Ask every question; the answers."""
    passages = [
        Document(paragraph)
        for path in sorted(DOCUMENTS.glob("*.md"))
        for paragraph in path.read_text(encoding="utf-8").split("\n\n")
    ]
    store = InMemoryVectorStore.from_documents(passages, WordLlama())
    (small, quick), (large, thorough) = models.items()
    arms = {"a quick look": look(store, 1, quick), "a thorough look": look(store, 3, thorough)}
    policy = Policy.uncalibrated(
        [ModelSpec(name=arm, price=prices[name]) for arm, name in zip(arms, (small, large), strict=True)]
    )
    cascade: RunnableCascade[str, str] = RunnableCascade(arms, policy=policy)
    answers = []
    for question in QUESTIONS:
        print(question)
        answers.append(cascade.invoke(question, {"callbacks": [Explanation()]}).strip())
        print(f"  {answers[-1]}")
    return answers


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as local:
        run(
            {name: model.chat_openai(max_tokens=40) for name, model in local.items()},
            {name: Price(input=model.price, output=model.price) for name, model in local.items()},
        )
