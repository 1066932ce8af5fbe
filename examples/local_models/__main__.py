"""`python -m examples.local_models [N]`: how each local model does on the first N questions, by category."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

from . import ARMS, LocalModel, Question, local_models, questions


def measure(model: LocalModel, asked: list[Question]) -> list[dict[str, float]]:
    chat = model.chat_openai()
    rows = []
    for question in asked:
        start = time.perf_counter()
        message = chat.invoke(question.prompt)
        seconds = time.perf_counter() - start
        content = (message.response_metadata.get("logprobs") or {}).get("content") or []
        rows.append(
            {
                "right": question.right(message.text),
                "seconds": seconds,
                "logprob": fmean([token["logprob"] for token in content] or [0.0]),
                "input": message.usage_metadata["input_tokens"],
                "output": message.usage_metadata["output_tokens"],
            }
        )
    return rows


def main() -> None:
    asked = questions()[: int(sys.argv[1]) if len(sys.argv) > 1 else None]
    with local_models() as models, ThreadPoolExecutor() as pool:
        rows = dict(zip(models, pool.map(lambda model: measure(model, asked), models.values()), strict=True))
    print(
        f"{len(asked)} questions".ljust(22) + "".join(name.rjust(18) for name in ARMS) + "any right".rjust(12)
    )
    by_category = defaultdict(list)
    for index, question in enumerate(asked):
        by_category[question.category].append(index)
    for category, indices in [*sorted(by_category.items()), ("all", range(len(asked)))]:
        right = [fmean(rows[name][index]["right"] for index in indices) for name in ARMS]
        either = fmean(any(rows[name][index]["right"] for name in ARMS) for index in indices)
        print(
            f"{category} ({len(indices)})".ljust(22)
            + "".join(f"{r:18.2f}" for r in right)
            + f"{either:12.2f}"
        )
    for label, value in {
        "seconds": lambda rows, arm: fmean(row["seconds"] for row in rows),
        "input tokens": lambda rows, arm: fmean(row["input"] for row in rows),
        "output tokens": lambda rows, arm: fmean(row["output"] for row in rows),
        "$ for a million": lambda rows, arm: fmean(row["input"] + row["output"] for row in rows) * arm.price,
        "log-prob., right": lambda rows, arm: fmean(
            [row["logprob"] for row in rows if row["right"]] or [0.0]
        ),
        "log-prob., wrong": lambda rows, arm: fmean(
            [row["logprob"] for row in rows if not row["right"]] or [0.0]
        ),
    }.items():
        print(label.ljust(22) + "".join(f"{value(rows[name], arm):18.2f}" for name, arm in ARMS.items()))


if __name__ == "__main__":
    main()
