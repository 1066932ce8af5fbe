"""Every benchmark with its default settings, one after another; arguments such as ``--json`` go to each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNS = (
    ["parity.py"],
    ["noise.py", "--noise", "low"],
    ["noise.py", "--noise", "medium"],
    ["noise.py", "--noise", "high"],
    ["latency.py"],
    ["fit.py"],
    ["estimators.py"],
    ["coverage.py"],
    ["coreset.py"],
    ["overhead.py", "--framework", "langchain"],
    ["overhead.py", "--framework", "llamaindex"],
)


def main() -> int:
    folder = Path(__file__).parent
    failed = 0
    for script, *options in RUNS:
        print("#", script, *options, file=sys.stderr, flush=True)
        command = [sys.executable, str(folder / script), *options, *sys.argv[1:]]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
