"""Sentence embeddings that need no download: wordllama's static vectors, as LlamaIndex's embedding object."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import wordllama
from llama_index.core.embeddings import BaseEmbedding


@cache
def _vectors() -> Any:
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


class WordLlamaEmbedding(BaseEmbedding):
    """256 dimensions, a few microseconds a sentence, on the processor."""

    model_name: str = "wordllama"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _vectors().embed(texts, norm=True).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
