"""Whether two answers say the same: the strongest free sign of quality where answers can be compared.

An answer is taken down to what it comes to, its *key*: a number, a choice, its words or, where the user handed over
an embedding, its meaning. What serves as the key is learned from the table: that whose agreement tells most about
which answers are right. Keys are the same or not; two meanings are the same if the cosine between them is at least a
threshold, which is learned as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray
from cascade_core.estimation.encoder import Embed, embed_texts
from cascade_core.extract import choice, normalised, number
from cascade_core.values import Answer

Key = str | float | FloatArray | None
_SHORT = 24
"""Characters up to which an answer is its own key."""

MEANING = "meaning"
"""Name of the key that is an embedding."""

_QUANTILES = np.linspace(0.05, 0.95, 19)
"""Of the similarities seen in the table: the thresholds that are tried."""

_MARGIN = 1e-6
"""By which a threshold is under the similarity it is taken from: rounding must not decide."""


def _short_or_number(text: str) -> Key:
    short = normalised(text) if len(text) <= _SHORT else ""
    return short or number(text)


def _short_or_choice(text: str) -> Key:
    return choice(text) or (normalised(text) or None if len(text) <= _SHORT else None)


KEYS: dict[str, Callable[[str], Key]] = {
    "number": number,
    "choice": choice,
    "words": lambda text: normalised(text) or None,
    "short or number": _short_or_number,
    "short or choice": _short_or_choice,
}
"""Ways to take an answer down to what it comes to by its text; None where it comes to nothing of the kind."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """How answers are compared, as learned from a table.

    Attributes:
        key: name of what an answer comes to; empty if agreement tells nothing.
        threshold: least cosine between two answers of the same meaning; of no account for other keys.
        seen: ``(N, K, K)`` whether the table's answers agree: 1 yes, 0 no, -1 not known; None without a key.
    """

    key: str = ""
    threshold: float = 0.0
    seen: NDArray[np.int8] | None = None


def keys_of(texts: Sequence[str], key: str, embed: Embed | None = None, size: int | None = None) -> list[Key]:
    """What each text comes to. Meanings, embeddings of ``size`` numbers, are asked for together and once each.

    Raises:
        CalibrationError: the embedding does not return one vector per text, of that size.
    """
    if key != MEANING:
        return [KEYS[key](text) for text in texts]
    assert embed is not None
    said = list(dict.fromkeys(text for text in texts if text.strip()))
    meanings = dict(zip(said, embed_texts(embed, said, size), strict=True)) if said else {}
    return [meanings.get(text) for text in texts]


def agree(first: Key, second: Key, threshold: float = 0.0) -> int:
    """1 if two keys are the same, 0 if they differ, -1 if one is missing."""
    if first is None or second is None:
        return -1
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return int(float(first @ second) >= threshold)
    if isinstance(first, float) and isinstance(second, float):
        return int(abs(first - second) <= 1e-6 * max(abs(first), abs(second), 1e-9))
    return int(first == second)


def agreements(
    answers: Sequence[Sequence[Answer | None]],
    key: str,
    threshold: float = 0.0,
    embed: Embed | None = None,
    size: int | None = None,
) -> NDArray[np.int8]:
    """``(N, K, K)`` whether answers agree: 1 yes, 0 no, -1 not known."""
    keys = _grid(answers, key, embed, size)
    count = len(keys[0]) if keys else 0
    result = np.full((len(keys), count, count), -1, dtype=np.int8)
    for n, row in enumerate(keys):
        for i in range(count):
            for j in range(i):
                result[n, i, j] = result[n, j, i] = agree(row[i], row[j], threshold)
    return result


def best_comparison(
    answers: Sequence[Sequence[Answer | None]], labels: FloatArray, embed: Embed | None = None
) -> Comparison:
    """The key whose agreement tells most about quality, and the agreements by it.

    What it tells is the mutual information, in nats per pair of answers, between agreeing and how good the two are
    together (``(N, K)`` labels in [0, 1]), less what chance alone would give. A threshold that is chosen on one half
    of the queries counts for what it tells about the other.
    """
    best, most = Comparison(), 0.0
    for key in KEYS:
        seen = agreements(answers, key)
        told = _information(seen, labels)
        if told > most:
            best, most = Comparison(key, seen=seen), told
    if embed is None:
        return best
    similar = _similarities(_grid(answers, MEANING, embed))
    half = np.arange(len(similar)) % 2 == 0
    told = 0.0
    for chosen_on, rest in ((half, ~half), (~half, half)):
        threshold = _best_threshold(similar[chosen_on], labels[chosen_on])
        told += _information(_over(similar[rest], threshold), labels[rest]) / 2
    if told > most:
        threshold = _best_threshold(similar, labels)
        best = Comparison(MEANING, threshold, _over(similar, threshold))
    return best


def _grid(
    answers: Sequence[Sequence[Answer | None]], key: str, embed: Embed | None = None, size: int | None = None
) -> list[list[Key]]:
    """The answers' keys, None where there is no answer."""
    texts = [answer.text for row in answers for answer in row if answer is not None]
    keys = iter(keys_of(texts, key, embed, size))
    return [[None if answer is None else next(keys) for answer in row] for row in answers]


def _similarities(meanings: Sequence[Sequence[Key]]) -> FloatArray:
    """``(N, K, K)`` cosines, NaN where a meaning is missing and between an answer and itself."""
    count = len(meanings[0]) if meanings else 0
    result = np.full((len(meanings), count, count), np.nan)
    for n, row in enumerate(meanings):
        for i, first in enumerate(row):
            for j, second in enumerate(row[:i]):
                if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
                    result[n, i, j] = result[n, j, i] = first @ second
    return result


def _over(similar: FloatArray, threshold: float) -> NDArray[np.int8]:
    return np.where(np.isnan(similar), -1, similar >= threshold).astype(np.int8)


def _best_threshold(similar: FloatArray, labels: FloatArray) -> float:
    known = similar[np.isfinite(similar)]
    if not known.size:
        return 0.0
    thresholds = np.unique(np.quantile(known, _QUANTILES, method="higher")) - _MARGIN
    told = [_information(_over(similar, threshold), labels) for threshold in thresholds]
    return float(thresholds[int(np.argmax(told))])


def _information(seen: NDArray[np.int8], labels: FloatArray) -> float:
    first, second = np.tril_indices(labels.shape[1], -1)
    said = seen[:, first, second]
    known = (said >= 0) & np.isfinite(labels[:, first]) & np.isfinite(labels[:, second])
    pairs = known.sum()
    if not pairs:
        return 0.0
    a, b, said = labels[:, first][known], labels[:, second][known], said[known]
    both = np.array([(1 - a) * (1 - b), a * (1 - b) + (1 - a) * b, a * b])
    joint = np.array([both[:, said == value].sum(axis=1) for value in (0, 1)]) / pairs
    chance = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    nats = float((joint[filled] * np.log(joint[filled] / chance[filled])).sum())
    # answers to one query are not independent of one another, so the queries are what is counted
    return float((nats - 1 / labels.shape[0]) * pairs / known.size)
