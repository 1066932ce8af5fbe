"""A made-up answer table whose texts, tokens and log-probabilities hang together as real ones do."""

from __future__ import annotations

import numpy as np

from cascade_core import Answer, Price, Query, Usage
from cascade_core.calibration.table import AnswerTable

PRICES = {
    "small": Price(input=0.1, output=0.2),
    "medium": Price(input=1, output=2),
    "large": Price(input=5, output=15),
}
SKILL = {"small": 0.5, "medium": 1.5, "large": 3.0}


def sums(queries: int, *, seed: int = 0, logprobs: bool = True, answers: bool = True) -> AnswerTable:
    """Sums of two to six numbers. The longer the harder; wrong answers are far apart and unsure of themselves."""
    random = np.random.default_rng(seed)
    asked, said, quality, cost = [], [], [], []
    for n in range(queries):
        terms = [int(term) for term in random.integers(1, 90, int(random.integers(2, 7)))]
        asked.append(Query(id=f"q{seed}-{n}", text="What is " + " plus ".join(map(str, terms)) + "?"))
        rows: list[Answer | None] = []
        for model, skill in SKILL.items():
            right = bool(skill + 2.5 - len(terms) + random.logistic() > 0)
            value = sum(terms) + (0 if right else int(random.integers(1, 50)))
            text = f"The sum is {value}." + " Let me check." * int(random.integers(0, 3))
            sure = np.minimum(random.normal(-0.1 if right else -0.8, 0.3, 5), -1e-3)
            usage = Usage(input_tokens=4 * len(terms) + 6, output_tokens=len(text) // 4)
            answer = Answer(text=text, usage=usage, logprobs=tuple(sure.tolist()) if logprobs else None)
            rows.append(answer if answers else None)
            quality.append(float(right))
            cost.append(PRICES[model].dollars(usage))
        said.append(tuple(rows))
    shape = (queries, len(SKILL))
    return AnswerTable(
        tuple(asked), tuple(SKILL), tuple(said), np.reshape(quality, shape), np.reshape(cost, shape)
    )
