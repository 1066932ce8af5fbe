"""What the plugin adds to a call: time on top of the bare model, and how that compares.

One row a case: ``case``, ``added_ms`` (milliseconds on top of the bare framework) and ``ratio``, whose meaning is in
the case's name. Times are medians of repetitions in turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

from _tables import parser, report

Case = dict[str, Any]

LATENCY_S = 0.05
"""What a model waits for nothing else in the measurements of throughput."""


def case(name: str, added_s: float, ratio: float) -> Case:
    return {"case": name, "added_ms": added_s * 1e3, "ratio": ratio}


def medians(
    functions: Sequence[Callable[[], object]], repetitions: int = 4000, block: int = 100
) -> list[float]:
    """Median seconds of each function. They take turns in blocks, of which the first call warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repetitions // block):
        for function, taken in zip(functions, times, strict=True):
            function()
            for _ in range(block):
                start = perf_counter()
                function()
                taken.append(perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def import_times(statements: Sequence[str], repetitions: int = 7) -> list[float]:
    """Least seconds that each statement takes in a fresh interpreter, tried in turn."""
    best = [float("inf")] * len(statements)
    for _ in range(repetitions):
        for index, statement in enumerate(statements):
            code = f"from time import perf_counter as t; s = t(); {statement}; print(t() - s)"
            run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            best[index] = min(best[index], float(run.stdout))
    return best


def throughput(
    what: str,
    bare: Callable[[], Awaitable[Any]],
    composite: Callable[[], Awaitable[Any]],
    concurrent: int,
    rounds: int = 7,
) -> Case:
    """So many queries at once, to the bare model and to the composite in turn, in one event loop.

    The least time of each counts, without the first round: it opens connections, and to look for one among those that
    are open takes HTTP clients longer.
    """

    async def seconds(ask: Callable[[], Awaitable[Any]]) -> float:
        start = perf_counter()
        await asyncio.gather(*(ask() for _ in range(concurrent)))
        return perf_counter() - start

    async def measured() -> list[list[float]]:
        return [[await seconds(ask) for ask in (bare, composite)] for _ in range(1 + rounds)]

    bare_s, composite_s = map(min, zip(*asyncio.run(measured())[1:], strict=True))
    return case(
        f"{concurrent} concurrent {what} at {LATENCY_S * 1e3:.0f} ms; throughput to the bare model's",
        (composite_s - bare_s) / concurrent,
        bare_s / composite_s,
    )


@contextmanager
def served() -> Iterator[str]:
    """Address of an OpenAI-compatible server, in a process of its own, that answers after the latency."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    yield here.recv()
    here.send("enough")
    process.join()


def _serve(pipe: Connection) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.openai_server import OpenAIServer

    with OpenAIServer(latency=LATENCY_S) as server:
        pipe.send(server.base_url)
        pipe.recv()


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--framework", choices=["langchain", "llamaindex"], required=True)
    arguments = options.parse_args()
    cases: Iterator[Case] = import_module(f"_overhead_{arguments.framework}").cases()
    for row in cases:
        report(row, arguments.json)


if __name__ == "__main__":
    main()
