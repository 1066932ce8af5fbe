"""Whether two answers say the same: the strongest free sign of quality where answers can be compared.

An answer is taken down to what it comes to, its *key*: a number, a choice or its words. What serves as the key is
learned from the table: that whose agreement tells most about which answers are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray
from cascade_core.extract import choice, normalised, number
from cascade_core.values import Answer

Key = str | float | None
_SHORT = 24
"""Characters up to which an answer is its own key."""


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
"""Ways to take an answer down to what it comes to; None where it comes to nothing of the kind."""


def agree(first: Key, second: Key) -> int:
    """1 if two keys are the same, 0 if they differ, -1 if one is missing."""
    if first is None or second is None:
        return -1
    if isinstance(first, float) and isinstance(second, float):
        return int(abs(first - second) <= 1e-6 * max(abs(first), abs(second), 1e-9))
    return int(first == second)


def agreements(answers: Sequence[Sequence[Answer | None]], key: str) -> NDArray[np.int8]:
    """``(N, K, K)`` whether answers agree: 1 yes, 0 no, -1 not known."""
    keys = [[None if answer is None else KEYS[key](answer.text) for answer in row] for row in answers]
    count = len(keys[0]) if keys else 0
    result = np.full((len(keys), count, count), -1, dtype=np.int8)
    for n, row in enumerate(keys):
        for i in range(count):
            for j in range(i):
                result[n, i, j] = result[n, j, i] = agree(row[i], row[j])
    return result


def best_key(
    answers: Sequence[Sequence[Answer | None]], labels: FloatArray
) -> tuple[str, NDArray[np.int8]] | None:
    """The key whose agreement tells most about quality, and the agreements by it; None if none tells anything.

    What it tells is the mutual information, in nats per pair of answers, between agreeing and how good the two are
    together (``(N, K)`` labels in [0, 1]), less what chance alone would give.
    """
    best: tuple[float, str, NDArray[np.int8]] | None = None
    for key in KEYS:
        seen = agreements(answers, key)
        told = _information(seen, labels)
        if told > 0 and (best is None or told > best[0]):
            best = told, key, seen
    return None if best is None else (best[1], best[2])


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
