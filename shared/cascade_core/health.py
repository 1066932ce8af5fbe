"""Which models are down at the moment, so that a failing provider does not cost every query a timeout.

A circuit breaker: after three failures in a row a model is left out for a while; then one query may try it again,
and its success closes the circuit. It is the only state that calls of one composite share.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FAILURES_TO_OPEN = 3
_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 300.0


class Health:
    """Consecutive failures of each model, by name. Safe to share between threads.

    Args:
        clock: seconds on a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._closed_until: dict[str, float] = {}

    def __reduce__(self) -> tuple[type[Health], tuple[()]]:
        """A copy, wherever it is made, starts without failures and with a lock of its own."""
        return (Health, ())

    def failed(self, model: str) -> None:
        """Note a failure. From the third in a row on, the model pauses, twice as long each time."""
        with self._lock:
            count = self._failures.get(model, 0) + 1
            self._failures[model] = count
            if count >= _FAILURES_TO_OPEN:
                pause = min(_FIRST_PAUSE_S * 2 ** min(count - _FAILURES_TO_OPEN, 10), _LONGEST_PAUSE_S)
                self._closed_until[model] = self._clock() + pause

    def succeeded(self, model: str) -> None:
        """Note a success: the model is healthy again."""
        if self._failures:
            with self._lock:
                self._failures.pop(model, None)
                self._closed_until.pop(model, None)

    def down(self) -> frozenset[str]:
        """Models to leave out of the coming query.

        A model whose pause is over is let through for one query; until that query's outcome is known, others
        leave it out for another first pause.
        """
        if not self._closed_until:
            return frozenset()
        now = self._clock()
        with self._lock:
            closed = {model for model, until in self._closed_until.items() if until > now}
            for model in self._closed_until.keys() - closed:
                self._closed_until[model] = now + _FIRST_PAUSE_S
            return frozenset(closed)
