"""Starts the local models and hands them out as the frameworks' own objects.

with local_models() as models:
    models["smollm2"].chat_openai().invoke("What is the capital of France?")
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import prompts, weights

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI
    from llama_index.llms.openai_like import OpenAILike

START_SECONDS = 300.0  # a few seconds, but a busy machine with a cold disk may take its time


class LocalModelError(RuntimeError):
    """A server did not start, or is gone; the message has the end of its log."""


@dataclass(frozen=True)
class Arm:
    """A model as the demo offers it: weights, the prompt around the question, and what it costs.

    ``price`` is in dollars for a million tokens, in and out. Local tokens have no list price: this one is a dollar
    for each billion parameters, so that cost is in proportion to parameters times tokens, as the work is.
    """

    weights: Callable[[], Path]
    template: str
    price: float
    max_tokens: int


ARMS: dict[str, Arm] = {
    "smollm2": Arm(weights.smollm2, prompts.CHAT, price=0.135, max_tokens=16),
    "smollm2-examples": Arm(weights.smollm2, prompts.COMPLETION, price=0.135, max_tokens=10),
    "gemma3-examples": Arm(weights.gemma3, prompts.COMPLETION, price=0.27, max_tokens=10),
}


class LocalModel:
    """One running server. ``base_url`` is OpenAI's API on loopback; ``model`` is the name to ask for."""

    def __init__(self, name: str, arm: Arm) -> None:
        self.model = name
        self.price = arm.price
        self.max_tokens = arm.max_tokens
        spec = {"model": name, "weights": str(arm.weights()), "template": arm.template}
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_serve.py")), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._first_line: list[str] = []
        self._reader = threading.Thread(target=self._read_address, daemon=True)
        self._reader.start()
        self.base_url = ""

    def _read_address(self) -> None:
        assert self._process.stdout is not None
        self._first_line.append(self._process.stdout.readline().strip())

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once the server answers; raise `LocalModelError` if it ends or takes longer."""
        self._reader.join(seconds)
        if not self._first_line or not self._first_line[0].startswith("http"):
            raise LocalModelError(
                f"the server of {self.model!r} did not start within {seconds:g} s: {self._tail()}"
            )
        self.base_url = self._first_line[0] + "/v1"

    def check(self) -> None:
        """Raise `LocalModelError` if the server has ended."""
        code = self._process.poll()
        if code is not None:
            raise LocalModelError(f"the server of {self.model!r} ended with code {code}: {self._tail()}")

    def stop(self) -> None:
        """End the server; harmless when it has ended already."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._log.close()

    def _tail(self) -> str:
        if self._log.closed:
            return "(stopped)"
        self._log.seek(0)
        return self._log.read()[-800:].strip() or "(it wrote no log)"

    def chat_openai(self, **settings: Any) -> ChatOpenAI:
        """The model for LangChain, with log-probabilities; ``settings`` go to ``ChatOpenAI``."""
        from langchain_openai import ChatOpenAI

        own: dict[str, Any] = {
            "model": self.model,
            "base_url": self.base_url,
            "api_key": "none",
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            "stop": ["\n"],
            "logprobs": True,
            "stream_usage": True,
            "max_retries": 0,
        }
        return ChatOpenAI(**{**own, **settings})

    def openai_like(self, **settings: Any) -> OpenAILike:
        """The model for LlamaIndex, with log-probabilities; ``settings`` go to ``OpenAILike``."""
        from llama_index.llms.openai_like import OpenAILike

        own: dict[str, Any] = {
            "model": self.model,
            "api_base": self.base_url,
            "api_key": "none",
            "is_chat_model": True,
            "context_window": 4096,
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "top_logprobs": 1,  # llama-index shows log-probabilities only from these rows
            "additional_kwargs": {"stop": ["\n"]},
            "max_retries": 0,
        }
        return OpenAILike(**{**own, **settings})


@contextmanager
def local_models(names: Sequence[str] = tuple(ARMS)) -> Iterator[dict[str, LocalModel]]:
    """Start the servers of ``names`` side by side and stop them at the end, whatever ends it."""
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ValueError(f"no local model is called {unknown[0]!r}; there are {', '.join(ARMS)}")
    weights.require("xllamacpp")
    with ExitStack() as stack:
        models: dict[str, LocalModel] = {}
        for name in names:
            models[name] = LocalModel(name, ARMS[name])
            stack.callback(models[name].stop)
        for model in models.values():
            model.wait_until_ready()
        yield models
