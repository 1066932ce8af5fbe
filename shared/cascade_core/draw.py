"""The one random draw of a policy: which of two strategies decides a query, reproducible from the query's key."""

from __future__ import annotations

import hashlib


def draw(key: str) -> float:
    """Uniform number in [0, 1) that depends on ``key`` alone.

    Example:
        >>> draw("query-1") == draw("query-1"), 0 <= draw("query-2") < 1
        (True, True)
    """
    return int.from_bytes(hashlib.sha256(f"draw:{key}".encode()).digest()[:6], "big") / 2**48
