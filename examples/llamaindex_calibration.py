"""Fit a policy to your own questions, see what it promises, and use it.

    python -m examples.llamaindex_calibration

About a minute and a half for the two local models' answers to 120 questions. They are kept in a file: run it again
and nothing is asked twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from llama_index.core.llms import LLM

from cascade_core import Price
from cascade_core.calibration import Calibration, RelativeQuality
from cascade_llamaindex import CascadeLLM, calibrate
from examples.local_models import local_models, questions

PROMPTS = questions()[:120]
FRESH = questions()[120:123]


def right(query: str, answer: str) -> bool:
    """The scorer: any function of the query, the answer and the reference. This one knows all right answers."""
    return next(question for question in PROMPTS if question.prompt == query).right(answer)


def run(llms: Mapping[str, LLM], prices: Mapping[str, Price], folder: Path) -> Calibration:
    """Collect, fit, save, load and answer."""
    found = calibrate(
        llms,
        [question.prompt for question in PROMPTS],
        right,
        RelativeQuality(0.95),
        store=folder / "answers.sqlite",
        prices=prices,
        concurrency=1,
        progress=True,
    )
    print(found.certificate.sentence)
    found.policy.save(folder / "policy.json")
    llm = CascadeLLM(llms, folder / "policy.json")
    for question in FRESH:
        response = llm.complete(question.prompt)
        record = response.additional_kwargs["cascade"]
        print(
            f"{question.prompt} {response.text.strip()} ({', '.join(call['model'] for call in record['calls'])})"
        )
    return found


if __name__ == "__main__":
    with local_models(("smollm2", "gemma3-examples")) as models:
        prices = {name: Price(input=model.price, output=model.price) for name, model in models.items()}
        kept = Path(tempfile.gettempdir()) / "cascade-llamaindex-calibration"
        kept.mkdir(exist_ok=True)
        run({name: model.openai_like() for name, model in models.items()}, prices, kept)
