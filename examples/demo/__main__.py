"""The main job, on two real language models on this machine: collect, fit, measure, save, answer.

python -m examples.demo [--questions N] [--output FOLDER]

Interrupt it whenever you like: answers are kept, and the next run asks nothing twice.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from cascade_core.calibration import (
    AnswerTable,
    Ask,
    Prompt,
    RelativeQuality,
    Store,
    calibrate_table,
    collect,
)
from cascade_core.report import figures, plot, write_page
from cascade_core.values import Answer, Price
from cascade_langchain import ask_with as ask_langchain
from cascade_llamaindex import ask_with as ask_llamaindex
from examples.demo import answering, comparison
from examples.local_models import ARMS, LocalModel, local_models, questions

HOLDOUT = 0.4


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--questions", type=int, default=len(questions()), help="how many to ask (at least 200)"
    )
    options.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for what is made")
    arguments = options.parse_args()
    console = Console()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every call otherwise
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()

    console.rule("1  Two small models, offered in three ways")
    with local_models() as models:
        for name, model in models.items():
            console.print(f"{name:18} {model.base_url}   {model.price} $ per million tokens")

        console.rule("2  Their answers")
        table = answers(models, arguments.questions, arguments.output / "answers.sqlite", console)

        console.rule("3  A policy: as good as the best single model, for less")
        calibration = calibrate_table(
            table, RelativeQuality(1.0), scorer="exact match", guarantee=False, holdout=HOLDOUT
        )
        comparison.show(calibration, HOLDOUT, console)

        console.rule("4  Files")
        policy = arguments.output / "policy.json"
        calibration.policy.save(policy)
        drawn = figures(calibration.policy, calibration.fit.held_out, title="Two local models, three ways")
        plot(drawn, arguments.output / "frontier.png")
        write_page(drawn, arguments.output / "report.html")
        console.print(
            *(str(arguments.output / name) for name in ("policy.json", "frontier.png", "report.html"))
        )

        console.rule("5  In LangChain and in LlamaIndex")
        answering.langchain(models, policy, console)
        answering.llamaindex(models, policy, console)
    console.print(f"\nDone in {time.monotonic() - start:.0f} seconds.")


def answers(models: dict[str, LocalModel], number: int, store: Path, console: Console) -> AnswerTable:
    """All models' answers to the questions, scored; only those that the store lacks are asked for."""
    asked = questions()[:number]
    asks: dict[str, Ask] = {
        "smollm2": ask_langchain(models["smollm2"].chat_openai()),
        "smollm2-examples": ask_langchain(models["smollm2-examples"].chat_openai()),
        "gemma3-examples": ask_llamaindex(models["gemma3-examples"].openai_like()),
    }
    with Store(store) as kept:
        collected = collect(
            {name: checked(models[name], ask) for name, ask in asks.items()},
            [Prompt(id=question.id, text=question.prompt, reference=question.gold) for question in asked],
            kept,
            prices={name: Price(input=arm.price, output=arm.price) for name, arm in ARMS.items()},
            concurrency=1,
            progress=True,
        )
    console.print(
        f"{collected.calls} calls now, {len(models) * len(asked) - collected.calls} known from before"
    )
    by_id = {question.id: question for question in asked}
    return collected.table.with_quality(
        [
            [float("nan") if answer is None else by_id[key].right(answer.text) for answer in row]
            for key, row in zip(collected.table.ids, collected.table.answers, strict=True)
        ]
    )


def checked(model: LocalModel, ask: Ask) -> Callable[[Prompt], Answer]:
    """As ``ask``, but a server that has died is named as such."""

    def asking(prompt: Prompt) -> Answer:
        try:
            return ask(prompt)
        except Exception:
            model.check()
            raise

    return asking


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The answers so far are kept: run it again, and it goes on where it was.",
            file=sys.stderr,
        )
        sys.exit(130)
