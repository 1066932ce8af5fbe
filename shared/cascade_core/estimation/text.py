"""What can be read off a text without a language model: hashed n-grams, and a few figures about its form.

All is numpy on the text's bytes, because it runs before every query. An n-gram's hash is that of its bytes: a
polynomial in a prime modulo 2^64, for all n-grams at once from one running sum (Karp and Rabin, *Efficient randomized
pattern-matching algorithms*, 1987), then one multiplication that spreads it over the columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import FloatArray, IntArray

FORM = 14
"""Number of figures about a text's form, see :func:`read`."""

_LONGEST = 4096
"""Bytes read of a text: of a longer one the beginning and the end, where the task is told."""

_PRIME = 0x100000001B3
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_PAIR = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(29)


def _powers(base: int) -> NDArray[np.uint64]:
    powers = np.full(_LONGEST + 2, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


_POWER = _powers(_PRIME)
_INVERSE = _powers(pow(_PRIME, -1, 1 << 64))

_SPACE, _LINE, _LOWER, _UPPER, _DIGIT, _OTHER, _MATH, _CODE, _QUESTION, _STOP = range(10)


def _byte_classes() -> NDArray[np.uint8]:
    kind = np.full(256, _STOP, dtype=np.uint8)
    kind[:33] = _SPACE
    kind[10] = _LINE
    kind[ord("a") : ord("z") + 1] = _LOWER
    kind[ord("A") : ord("Z") + 1] = _UPPER
    kind[ord("0") : ord("9") + 1] = _DIGIT
    kind[128:] = _OTHER
    kind[list(b"+=*/^<>\\$%|-")] = _MATH
    kind[list(b"{}[]();_#`&@~")] = _CODE
    kind[ord("?")] = _QUESTION
    return kind


# As tables of bytes.translate, which is quicker than to index an array.
_KIND = _byte_classes().tobytes()
_IN_WORD = bytes(kind in (_LOWER, _UPPER, _DIGIT, _OTHER) for kind in _KIND)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says at first sight.

    Attributes:
        hashes: 64-bit hash of every word, symbol and pair of neighbours.
        form: ``(FORM,)`` logarithms of its length in bytes, words and lines, mean length of a word, length of its
            last line, and the shares of nine kinds of characters.
    """

    hashes: NDArray[np.uint64]
    form: FloatArray


def read(text: str) -> Reading:
    """Read a text; of one longer than 4,096 bytes its beginning and end."""
    raw = text.encode("utf-8", "replace")
    size = len(raw)
    if size > _LONGEST:
        raw = raw[: _LONGEST // 2] + raw[-_LONGEST // 2 :]
    data = np.frombuffer(raw.lower(), dtype=np.uint8)
    kind = np.frombuffer(raw.translate(_KIND), dtype=np.uint8)
    in_word = np.frombuffer(raw.translate(_IN_WORD), dtype=bool)
    edge = np.empty(data.size + 1, dtype=bool)
    edge[0] = edge[-1] = True
    np.not_equal(in_word[1:], in_word[:-1], out=edge[1:-1])
    symbol = kind > _OTHER
    begins = np.flatnonzero((edge[:-1] & in_word) | symbol)
    ends = np.flatnonzero((edge[1:] & in_word) | symbol) + 1
    counts = np.bincount(kind, minlength=10)
    last_line = size - 1 - raw.rstrip().rfind(b"\n")
    form = np.empty(FORM)
    lengths = (size, begins.size, int(counts[_LINE]), size / (begins.size + 1), max(last_line, 0))
    form[:5] = [math.log1p(length) for length in lengths]
    form[5:] = counts[1:] / max(data.size, 1)
    return Reading(_hashes(data, begins, ends), form)


def _hashes(data: NDArray[np.uint8], begins: IntArray, ends: IntArray) -> NDArray[np.uint64]:
    if not begins.size:
        return np.zeros(0, dtype=np.uint64)
    running = np.zeros(data.size + 1, dtype=np.uint64)
    np.cumsum((data + np.uint64(1)) * _POWER[: data.size], out=running[1:])
    word = (running[ends] - running[begins]) * _INVERSE[begins] * _SPREAD
    word ^= word >> _SHIFT
    both = np.empty(2 * word.size - 1, dtype=np.uint64)
    both[: word.size] = word
    np.multiply(word[:-1] * _PAIR + word[1:], _SPREAD, out=both[word.size :])
    return both


def columns(hashes: NDArray[np.uint64], bits: int) -> tuple[IntArray, FloatArray]:
    """Columns of a table of ``2**bits`` that the n-grams fall into, each once, and 1 + log of how many do."""
    where = (hashes >> np.uint64(64 - bits)).astype(np.int32)  # sorts in half the time of 64 bits
    where.sort()
    begins = np.ones(where.size + 1, dtype=bool)
    np.not_equal(where[1:], where[:-1], out=begins[1:-1])
    first = np.flatnonzero(begins)  # and the end
    return where[first[:-1]].astype(np.intp), 1 + np.log(first[1:] - first[:-1])


def sparse(readings: list[Reading], bits: int) -> Any:
    """The n-grams of N texts as a ``scipy.sparse`` matrix ``(N, 2**bits)``."""
    from scipy.sparse import csr_matrix

    rows = [columns(reading.hashes, bits) for reading in readings]
    starts = np.cumsum([0] + [where.size for where, _ in rows])
    where = np.concatenate([row[0] for row in rows]) if rows else np.zeros(0, dtype=np.intp)
    value = np.concatenate([row[1] for row in rows]) if rows else np.zeros(0)
    return csr_matrix((value, where, starts), shape=(len(rows), 1 << bits))
