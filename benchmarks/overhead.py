"""What the plugin adds to a call: time on top of the bare model, and how that compares.

One row a case: ``case``, ``added_ms`` (milliseconds on top of the bare framework) and ``ratio``, whose meaning is in
the case's name. Times are medians of repetitions in turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any

from _tables import parser, report

Case = dict[str, Any]


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


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--framework", choices=["langchain", "llamaindex"], required=True)
    arguments = options.parse_args()
    cases: Iterator[Case] = import_module(f"_overhead_{arguments.framework}").cases()
    for row in cases:
        report(row, arguments.json)


if __name__ == "__main__":
    main()
