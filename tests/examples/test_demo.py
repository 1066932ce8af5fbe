"""The demo does the main job on real local models, and asks nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_core import Policy
from cascade_core.calibration import Prompt, Store, collect
from cascade_core.errors import CalibrationError
from cascade_langchain import ask_with
from examples.local_models import ARMS, local_models, questions
from tests.examples.test_local_models import needs_weights

ROOT = Path(__file__).parents[2]


def start(output: Path) -> subprocess.Popen[str]:
    # With Ctrl-C as in a terminal: what a shell starts with `&` ignores it.
    program = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "runpy.run_module('examples.demo', run_name='__main__', alter_sys=True)"
    return subprocess.Popen(
        [sys.executable, "-c", program, "--questions", "80", "--output", str(output)],
        cwd=ROOT,
        # a wide console, so that no line of the output is broken
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def demo(output: Path) -> str:
    with start(output) as running:
        said, errors = running.communicate()
    assert running.returncode == 0, errors
    return said


def interrupted(output: Path) -> int:
    """Ctrl-C while answers come in; how many were kept."""
    with start(output) as running:
        assert running.stdout is not None
        while "Their answers" not in running.stdout.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 130
    assert "The answers so far are kept" in errors
    with Store(output / "answers.sqlite") as store:
        return sum(len(store.answered(name)) for name in ARMS)


@needs_weights
def test_the_demo_measures_saves_and_answers_and_asks_nothing_twice_however_it_is_interrupted(tmp_path):
    kept = interrupted(tmp_path)
    assert kept < 240
    first = demo(tmp_path)
    assert f"{240 - kept} calls now, {kept} known from before" in first
    for row in (
        "only smollm2 ",
        "only gemma3-examples",
        "linear interpolation",
        "threshold cascade",
        "index policy",
        "look-ahead",
    ):
        assert row in first
    assert "95 % confidence" in first
    assert first.count("→") == 4
    assert first.count("   answer of ") == 4
    policy = Policy.load(tmp_path / "policy.json", models=["smollm2", "smollm2-examples", "gemma3-examples"])
    assert policy.estimator.calibrated
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "0 calls now, 240 known from before" in demo(tmp_path)


@needs_weights
def test_a_server_that_dies_during_collection_is_named_and_what_was_collected_stays(tmp_path):
    prompts = [Prompt(id=question.id, text=question.prompt) for question in questions()[:12]]
    with local_models(["smollm2", "smollm2-examples"]) as models, Store(tmp_path / "answers.sqlite") as store:
        asks = {name: ask_with(model.chat_openai()) for name, model in models.items()}
        asked = 0

        def dies_on_the_sixth(prompt: Prompt):
            nonlocal asked
            asked += 1
            if asked == 6:
                models["smollm2-examples"].stop()
            return asks["smollm2-examples"](prompt)

        with pytest.raises(CalibrationError, match="smollm2-examples"):
            collect({**asks, "smollm2-examples": dies_on_the_sixth}, prompts, store, concurrency=1)
        assert len(store.answered("smollm2-examples")) == 5
        assert store.answered("smollm2")
