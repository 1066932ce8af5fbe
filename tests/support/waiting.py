"""An embedding that is a service: whoever asks it waits until the test has seen that."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cascade_core import Policy
from cascade_core.calibration import AnswerTable, Savings, fit

LIMIT_S = 60.0
"""There to end a test that hangs."""


class Waiting:
    """Answers, while it is ``held``, when it is let go; ``asked`` is set when somebody waits for it."""

    def __init__(self) -> None:
        self.held = False
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if self.held:
            self.asked.set()
            assert self.let_go.wait(LIMIT_S), (
                "it was never let go: whoever should do that was kept waiting, too"
            )
        return [[float(len(text)), 1.0] for text in texts]


def fitted_with(embedding: Waiting) -> Policy:
    """A policy for ``small`` and ``large`` that asks the embedding about every query."""
    rows = [
        {
            "query_id": str(n),
            "query": f"question {n}" + "?" * (n % 5),
            "model": model,
            "answer": f"{model} on {n}",
            "quality": float(model == "large" or n % 3 > 0),
            "cost": cost,
        }
        for n in range(60)
        for model, cost in (("small", 1e-4), ("large", 1e-3))
    ]
    return fit(AnswerTable.from_rows(rows), Savings(0.3), embedding=embedding, strategy="routing").policy
