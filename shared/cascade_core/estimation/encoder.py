"""From a query to numbers: n-grams, form, the user's own features, and an embedding where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray, IntArray
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.estimation.text import FORM, Reading, columns, read
from cascade_core.values import Query

_MOST_BITS = 16
_WAVES = 128
"""Random Fourier features of the form (Rahimi and Recht, *Random features for large-scale kernel machines*, 2007):
what a text's form says about its difficulty is not linear."""

_WAVE_LENGTH = 4.0
_IDF_STEP = 1 / 20
_OWN_SCALE = 0.5

Embed = Callable[[list[str]], Any]
"""From N texts to an array ``(N, D)``."""


def as_embed(embedding: object) -> Embed:
    """The function that embeds queries, from whatever object the user's framework has for it.

    Args:
        embedding: a LangChain ``Embeddings``, a LlamaIndex ``BaseEmbedding``, any object with a method ``embed``
            or ``encode``, or a function from a list of texts to one vector each.

    Raises:
        ConfigurationError: if it is none of these.
    """
    for method in ("embed_documents", "get_text_embedding_batch", "embed", "encode"):
        found = getattr(embedding, method, None)
        if callable(found) and not isinstance(embedding, str):  # text, too, has a method "encode"
            return partial(_embedded, embedding, method)
    if callable(embedding):
        return embedding
    raise ConfigurationError(
        f"embedding is of type {type(embedding).__name__}: expected a LangChain Embeddings, a LlamaIndex "
        "BaseEmbedding, or a function from a list of texts to one vector each"
    )


def _embedded(embedding: object, method: str, texts: list[str]) -> Any:
    """What the object's method returns; found by its name, so that a policy can be pickled if the object can."""
    return getattr(embedding, method)(texts)


def embed_texts(embed: Embed, texts: Sequence[str], size: int | None = None) -> FloatArray:
    """``(N, D)`` embeddings of length 1.

    Raises:
        CalibrationError: if there is not one vector per text, of ``size`` numbers where that is given.
    """
    vectors = np.asarray(embed(list(texts)), dtype=float)
    expected = (len(texts), size or (vectors.shape[1] if vectors.ndim == 2 else 0))
    if vectors.shape != expected or not np.isfinite(vectors).all():
        raise CalibrationError(
            f"the embedding returned an array of shape {vectors.shape}, expected {expected} finite numbers: "
            "one vector per text, as when the policy was fitted"
        )
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


@dataclass(frozen=True, eq=False)
class Encoded:
    """One query in numbers: the n-grams' columns and values, and the dense features after them.

    Attributes:
        where: columns of the n-grams, of ``2**bits``.
        value: tf-idf of the n-grams, together of length 1.
        dense: ``(E,)`` everything else.
        form: ``(FORM,)`` the standardised form, from which part of ``dense`` was made.
    """

    where: IntArray
    value: FloatArray
    dense: FloatArray
    form: FloatArray


@dataclass(frozen=True, eq=False)
class Encoder:
    """Learned without labels from the queries of a table.

    Attributes:
        bits: n-grams are hashed into ``2**bits`` columns.
        rarity: ``(2**bits,)`` inverse document frequencies, in steps of 0.05.
        form_mean, form_sd: ``(FORM,)`` by which the form is standardised.
        waves: ``(FORM, 128)`` and ``phases`` ``(128,)`` the random Fourier features.
        own: names of the features in :attr:`Query.features` that are used.
        own_mean, own_sd: by which they are standardised.
        embedding_size: numbers of an embedding; 0 without one.
    """

    bits: int
    rarity: NDArray[np.uint8]
    form_mean: FloatArray
    form_sd: FloatArray
    waves: FloatArray
    phases: FloatArray
    own: tuple[str, ...]
    own_mean: FloatArray
    own_sd: FloatArray
    embedding_size: int

    @classmethod
    def fit(
        cls, queries: Sequence[Query], embedding_size: int = 0, seed: int = 0, most_bits: int = _MOST_BITS
    ) -> Encoder:
        """Learn what is rare and what is usual."""
        readings = [read(query.text) for query in queries]
        used = np.unique(np.concatenate([columns(reading.hashes, most_bits)[0] for reading in readings]))
        bits = int(np.clip(np.ceil(np.log2(2 * used.size + 1)), 10, most_bits))
        found = np.concatenate([columns(reading.hashes, bits)[0] for reading in readings])
        in_queries = np.bincount(found, minlength=1 << bits)
        rarity = np.log((1 + len(queries)) / (1 + in_queries)) + 1
        form = np.array([reading.form for reading in readings])
        own = tuple(sorted({name for query in queries for name in query.features}))
        values = np.array([[query.features.get(name, np.nan) for name in own] for query in queries])
        rng = np.random.default_rng(seed)
        return cls(
            bits=bits,
            rarity=np.clip(np.rint(rarity / _IDF_STEP), 0, 255).astype(np.uint8),
            form_mean=form.mean(axis=0),
            form_sd=np.maximum(form.std(axis=0), 1e-6),
            waves=rng.standard_normal((FORM, _WAVES)) / _WAVE_LENGTH,
            phases=rng.uniform(0, 2 * np.pi, _WAVES),
            own=own,
            own_mean=_nan_moment(np.nanmean, values),
            own_sd=np.maximum(_nan_moment(np.nanstd, values), 1e-9),
            embedding_size=embedding_size,
        )

    def encode(
        self, query: Query, embedding: FloatArray | None = None, reading: Reading | None = None
    ) -> Encoded:
        """One query, with its embedding ``(D,)`` where the encoder uses one."""
        reading = reading or read(query.text)
        where, value = columns(reading.hashes, self.bits)
        value = value * (self.rarity[where] * _IDF_STEP)
        value /= max(float(np.sqrt(value @ value)), 1e-9)
        form = np.minimum(np.maximum((reading.form - self.form_mean) / self.form_sd, -4), 4)
        waves = np.cos(form @ self.waves + self.phases) * np.sqrt(2 / _WAVES)
        parts = [waves]
        if self.own:
            own = np.array([query.features.get(name, np.nan) for name in self.own])
            own = np.clip((own - self.own_mean) / self.own_sd, -4, 4) * _OWN_SCALE
            parts.append(np.where(np.isfinite(own), own, 0.0))
        if embedding is not None:
            parts.append(embedding)
        return Encoded(where, value, np.concatenate(parts) if len(parts) > 1 else waves, form)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and arrays by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Encoder:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "own": tuple(data["own"])})


def stacked(encoded: Sequence[Encoded], bits: int) -> Any:
    """The encoded queries as one ``scipy.sparse`` matrix ``(N, 2**bits + E)``."""
    from scipy.sparse import csr_matrix, hstack

    starts = np.cumsum([0] + [one.where.size for one in encoded])
    grams = csr_matrix(
        (
            np.concatenate([one.value for one in encoded]),
            np.concatenate([one.where for one in encoded]),
            starts,
        ),
        shape=(len(encoded), 1 << bits),
    )
    return hstack([grams, csr_matrix(np.array([one.dense for one in encoded]))]).tocsr()


def _nan_moment(moment: Callable[..., Any], values: FloatArray) -> FloatArray:
    if not values.shape[1]:
        return np.zeros(0)
    return np.asarray(moment(values, axis=0))
