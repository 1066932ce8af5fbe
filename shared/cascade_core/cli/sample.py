"""A table of answers for trying things out: three imaginary models do sums of different difficulty.

Nothing here was said by a real model. The smaller a model, the sooner long sums defeat it, the likelier a slip in the
last digit, and the less sure its tokens are when it slips.
"""

from __future__ import annotations

import math

import numpy as np

from cascade_core.calibration.table import AnswerTable
from cascade_core.values import Answer, Price, Query, Usage

MODELS = {
    "small": Price(input=0.1, output=0.4),
    "medium": Price(input=0.5, output=2.0),
    "large": Price(input=3.0, output=15.0),
}
_SKILL = {"small": 1.4, "medium": 2.7, "large": 4.6}
_TALK = {"small": 30, "medium": 45, "large": 60}
_PEOPLE = ("Ada", "Ben", "Cleo", "Dev", "Eva", "Finn")
_THINGS = {
    "sells {a} apples and {b} pears": (0.0, "+"),
    "packs {a} boxes of {b} nails": (1.1, "*"),
    "walks {a} km a day for {b} days": (0.9, "*"),
    "had {a} coins and spent {b}": (0.1, "-"),
    "shares {a} cards among {b} friends and keeps the rest": (2.4, "%"),
}


def sample_table(queries: int = 600, *, seed: int = 0) -> AnswerTable:
    """Answers of three imaginary models to word problems, scored and priced.

    Example:
        >>> table = sample_table(50)
        >>> len(table), table.models
        (50, ('small', 'medium', 'large'))
    """
    draw = np.random.default_rng(seed)
    asked: dict[str, tuple[int, float]] = {}
    while len(asked) < queries:
        text, right, difficulty = _problem(draw)
        asked.setdefault(text, (right, difficulty))
    answers, quality, cost = [], np.empty((queries, len(MODELS))), np.empty((queries, len(MODELS)))
    for n, (text, (right, difficulty)) in enumerate(asked.items()):
        row = []
        for k, (model, price) in enumerate(MODELS.items()):
            answer, good = _answer(draw, model, text, right, difficulty)
            row.append(answer)
            quality[n, k] = good
            cost[n, k] = price.dollars(answer.usage or Usage(input_tokens=0, output_tokens=0))
        answers.append(tuple(row))
    return AnswerTable(
        tuple(Query(text=text) for text in asked), tuple(MODELS), tuple(answers), quality, cost
    )


def _problem(draw: np.random.Generator) -> tuple[str, int, float]:
    """Text, right answer and difficulty."""
    things = list(_THINGS)
    said, right, difficulty = [], 0, 0.0
    for _ in range(int(draw.integers(1, 4))):
        what = things[int(draw.integers(len(things)))]
        hard, sign = _THINGS[what]
        size = 10 ** int(draw.integers(1, 4))
        a, b = int(draw.integers(2, size + 2)), int(draw.integers(2, 13))
        right += {"+": a + b, "*": a * b, "-": a - b, "%": a % b}[sign]
        difficulty += 0.5 + hard * 0.6 + 0.25 * math.log10(size)
        said.append(f"{_PEOPLE[int(draw.integers(len(_PEOPLE)))]} {what.format(a=a, b=b)}.")
    return f"{' '.join(said)} Add up what comes out.", right, difficulty


def _answer(
    draw: np.random.Generator, model: str, text: str, right: int, difficulty: float
) -> tuple[Answer, bool]:
    odds = 1.6 * (_SKILL[model] + 1.2 - difficulty)
    good = bool(draw.random() < 1 / (1 + math.exp(-odds)))
    wrong = right + int(draw.choice([-10, -2, -1, 1, 2, 10]))
    tokens = max(5, int(draw.normal(_TALK[model], 6)) + 3 * int(difficulty))
    unsure = 0.03 + (0.0 if good else 0.12) + 0.02 * difficulty
    logprobs = -draw.exponential(unsure, size=min(tokens, 24))
    answer = Answer(
        text=f"Step by step, that makes {right if good else wrong}.",
        usage=Usage(input_tokens=len(text) // 4, output_tokens=tokens),
        latency=tokens / {"small": 200, "medium": 90, "large": 40}[model],
        logprobs=tuple(round(float(x), 4) for x in logprobs),
        finish_reason="stop",
    )
    return answer, good
