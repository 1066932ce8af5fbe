"""An OpenAI-compatible server on loopback, scripted by the test that uses it.

The real clients (``ChatOpenAI``, ``OpenAILike``) talk to it over real sockets, so that a test sees what a user's
program would: streamed deltas, usage, log-probabilities, HTTP errors, connections that break.

    with OpenAIServer({"small": {"2+2?": "4"}, "large": lambda request: Reply("four", logprobs=-0.01)}) as server:
        ChatOpenAI(model="small", base_url=server.base_url, api_key="none").invoke("2+2?")
        assert [request.model for request in server.requests] == ["small"]

What a model does is its *behaviour*: a text, a table from the last user text to a reply, or a function of the
request. A model that is not scripted obeys its request: it calls the tools it is offered, fills the schema it is
given, and otherwise says something about the last message. Faults are replies like any other; `fail_next` queues
them before the behaviour.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the model says. ``logprobs`` is one value for every token or one for each (the last is repeated)."""

    text: str = ""
    tool_calls: Sequence[tuple[str, Json]] = ()
    logprobs: float | Sequence[float] = -0.1
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class HttpError:
    """The server answers with this status and an error body of OpenAI's shape."""

    status: int
    message: str = "scripted failure"


@dataclass(frozen=True)
class Malformed:
    """Status 200, and a body (or a stream event) that is not JSON."""


@dataclass(frozen=True)
class Break:
    """The connection is cut: of a stream after ``after`` events, of a plain answer after half its bytes."""

    after: int = 2


@dataclass
class Hang:
    """No answer until `release`; then the usual one. ``arrived`` is set once ``expected`` requests wait here."""

    expected: int = 1
    arrived: threading.Event = field(default_factory=threading.Event)
    _released: Future[None] = field(default_factory=Future)

    def release(self) -> None:
        if not self._released.done():
            self._released.set_result(None)

    async def wait(self) -> None:
        self.expected -= 1
        if self.expected <= 0:
            self.arrived.set()
        # Shielded: a client that gives up cancels its own wait, not that of the others.
        await asyncio.shield(asyncio.wrap_future(self._released))


Fault = HttpError | Malformed | Break | Hang


@dataclass(frozen=True)
class Request:
    """One logged request: the endpoint (its path after ``/v1/``) and the body as it was sent."""

    endpoint: str
    body: Json

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[Json]:
        if "prompt" in self.body:
            return [{"role": "user", "content": self.body["prompt"]}]
        return list(self.body.get("messages", []))

    @property
    def text(self) -> str:
        """The text of the last user message, images and files left out."""
        users = [message for message in self.messages if message["role"] == "user"]
        return _text_of(users[-1]) if users else ""


Behaviour = (
    str | Reply | Fault | Mapping[str, "str | Reply | Fault"] | Callable[[Request], "str | Reply | Fault"]
)


@dataclass
class TokenCount:
    """The server's own count of what a model answered, to hold a client's count against."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class OpenAIServer:
    """A server thread on a free port of 127.0.0.1; a context manager.

    ``models`` may be changed at any time. ``latency`` (seconds for each request) is for benchmarks only: a test
    that needs a slow model takes a `Hang` and releases it.
    """

    def __init__(self, models: Mapping[str, Behaviour] | None = None, *, latency: float = 0.0) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._run = 0
        # A reset happens before or after a step of the server's thread, never between a look at `_run` and the step.
        self._step = threading.Lock()
        routes = [
            Route("/{run:int}/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/{run:int}/v1/completions", self._complete, methods=["POST"]),
            Route("/{run:int}/v1/embeddings", self._embed, methods=["POST"]),
            Route("/{run:int}/v1/models", self._list_models),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            lifespan="off",
            log_level="critical",
            backlog=4096,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=600,  # a slow machine must not find a connection closed that it is about to use
        )
        self._server = uvicorn.Server(config)
        # The socket listens already: a client that connects before the thread is up waits in its queue.
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self.reset(models, latency=latency)

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release_all()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def base_url(self) -> str:
        """The address to give to a client. It changes with every `reset`."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{self._run}/v1"

    def reset(self, models: Mapping[str, Behaviour] | None = None, *, latency: float = 0.0) -> None:
        """Forget behaviours, faults and logs, as if the server had just been started.

        What a client that gave up had asked before may still be on its way, or be waiting in a `Hang`: it came by
        the old address, is told so and is neither logged nor counted.
        """
        with self._step:
            self._run += 1
            self.release_all()
            self.models: dict[str, Behaviour] = dict(models or {})
            self.latency = latency
            self.requests: list[Request] = []
            self.tokens: dict[str, TokenCount] = defaultdict(TokenCount)
            self.peak_concurrency = 0
            self._in_flight = 0
            self._faults: dict[str | None, deque[Fault]] = defaultdict(deque)
            self._hangs: list[Hang] = []

    def fail_next(self, fault: Fault, *, model: str | None = None, times: int = 1) -> None:
        """Let the next ``times`` requests (of ``model``, or of any) meet ``fault`` before any behaviour."""
        self._faults[model].extend([fault] * times)

    def requests_to(self, model: str) -> list[Request]:
        return [request for request in self.requests if request.model == model]

    def release_all(self) -> None:
        """Let go of every request that hangs, so that nothing waits at the end of a test."""
        for hang in getattr(self, "_hangs", []):
            hang.release()

    # The endpoints

    async def _complete(self, http: HttpRequest) -> Response:
        request = Request(http.url.path.split("/v1/")[1], await http.json())
        run = http.path_params["run"]
        with self._step:
            if run != self._run:
                return _gone()
            self.requests.append(request)
            self._in_flight += 1
            self.peak_concurrency = max(self.peak_concurrency, self._in_flight)
        if self.latency:
            await asyncio.sleep(self.latency)
        with self._step:
            if run != self._run:
                return _gone()
            reply = self._reply(request, self._next_reply)
            if isinstance(reply, Hang):
                self._hangs.append(reply)
        if isinstance(reply, Hang):
            await reply.wait()
        with self._step:
            if run != self._run:
                return _gone()
            self._in_flight -= 1
            cut = reply.after if isinstance(reply, Break) else None
            if isinstance(reply, (Hang, Break)):
                reply = self._reply(request, self._usual_reply)
            if isinstance(reply, HttpError):
                error = {"message": reply.message, "type": "server_error", "param": None, "code": None}
                return JSONResponse({"error": error}, reply.status)
            return self._answer(request, reply, cut)

    def _reply(self, request: Request, script: Callable[[Request], Any]) -> Any:
        try:
            return script(request)
        except Exception as error:  # a mistake in the test's script: say so instead of a bare 500
            return HttpError(500, f"the scripted behaviour of {request.model!r} raised {error!r}")

    def _next_reply(self, request: Request) -> Reply | Fault:
        for queue in (self._faults[request.model], self._faults[None]):
            if queue:
                return queue.popleft()
        return self._scripted_reply(request)

    def _usual_reply(self, request: Request) -> Reply | HttpError | Malformed:
        """What follows a hang, or is cut by a break: the script's reply unless that is the same fault again."""
        reply = self._scripted_reply(request)
        return _obey(request) if isinstance(reply, (Hang, Break)) else reply

    def _scripted_reply(self, request: Request) -> Reply | Fault:
        behaviour: Any = self.models.get(request.model, _obey)
        if isinstance(behaviour, Mapping):
            behaviour = behaviour.get(request.text, _obey)
        reply = behaviour(request) if callable(behaviour) else behaviour
        return Reply(reply) if isinstance(reply, str) else reply

    def _answer(self, request: Request, reply: Reply | Malformed, cut: int | None) -> Response:
        if isinstance(reply, Malformed):
            if request.body.get("stream"):
                return Response('data: {"choices": [{"delta": \n\n', media_type="text/event-stream")
            return Response('{"choices": [{"message": ', media_type="application/json")
        answer = _Answer(request, reply)
        if cut is None:
            count = self.tokens[request.model]
            count.calls += 1
            count.input_tokens += answer.usage["prompt_tokens"]
            count.output_tokens += answer.usage["completion_tokens"]
        if request.body.get("stream"):
            events = [f"data: {json.dumps(event)}\n\n" for event in answer.events()] + ["data: [DONE]\n\n"]
            return StreamingResponse(_send(events, cut), media_type="text/event-stream")
        if cut is not None:
            body = json.dumps(answer.whole())
            return StreamingResponse(_send([body[: len(body) // 2], ""], 1), media_type="application/json")
        return JSONResponse(answer.whole())

    async def _embed(self, http: HttpRequest) -> Response:
        request = Request("embeddings", await http.json())
        with self._step:
            if http.path_params["run"] != self._run:
                return _gone()
            self.requests.append(request)
        texts = request.body["input"]
        texts = [texts] if isinstance(texts, str) else [str(text) for text in texts]
        packed = request.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _pack(vector) if packed else vector}
            for index, vector in enumerate(map(embedding, texts))
        ]
        used = sum(len(tokenize(text)) for text in texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return JSONResponse({"object": "list", "model": request.model, "data": data, "usage": usage})

    async def _list_models(self, http: HttpRequest) -> Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models]
        return JSONResponse({"object": "list", "data": data})


def _gone() -> Response:
    return JSONResponse({"error": {"message": "the server was reset", "type": "server_error"}}, 410)


class _Answer:
    """A reply in the shape of its endpoint, whole or as stream events."""

    def __init__(self, request: Request, reply: Reply) -> None:
        self.request, self.chat = request, request.endpoint == "chat/completions"
        pieces, finish = tokenize(reply.text), "tool_calls" if reply.tool_calls else "stop"
        limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
        if limit is not None and len(pieces) > limit:
            pieces, finish = pieces[:limit], "length"
        text, stop = "".join(pieces), request.body.get("stop") or []
        for sequence in [stop] if isinstance(stop, str) else stop:
            text = text.split(sequence, 1)[0]
        self.pieces, self.finish = tokenize(text), finish
        digest = hashlib.sha256(json.dumps(request.body, sort_keys=True).encode()).hexdigest()[:12]
        self.calls = [
            {
                "id": f"call_{digest}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
            }
            for index, (name, arguments) in enumerate(reply.tool_calls)
        ]
        self.head = {"id": f"cmpl-{digest}", "created": 0, "model": request.model}
        values = [reply.logprobs] if isinstance(reply.logprobs, (int, float)) else list(reply.logprobs)
        self.logprobs = [values[min(index, len(values) - 1)] for index in range(len(self.pieces))]
        used, made = reply.input_tokens, reply.output_tokens
        used = sum(map(_message_tokens, request.messages)) if used is None else used
        if made is None:
            made = len(self.pieces) + sum(len(tokenize(str(call["function"]))) for call in self.calls)
        self.usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}

    def whole(self) -> Json:
        everything = slice(0, len(self.pieces))
        choice: Json = {"index": 0, "finish_reason": self.finish, "logprobs": self._logprobs(everything)}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": "".join(self.pieces) or None}
            if self.calls:
                choice["message"]["tool_calls"] = self.calls
        else:
            choice["text"] = "".join(self.pieces)
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [choice], "usage": self.usage}

    def events(self) -> Iterator[Json]:
        with_usage = (self.request.body.get("stream_options") or {}).get("include_usage", False)
        kind = {"object": "chat.completion.chunk" if self.chat else "text_completion"}
        for choice in self._deltas():
            choice = {"index": 0, "finish_reason": None, **choice}
            yield {**self.head, **kind, "choices": [choice], **({"usage": None} if with_usage else {})}
        if with_usage:
            yield {**self.head, **kind, "choices": [], "usage": self.usage}

    def _deltas(self) -> Iterator[Json]:
        for index, piece in enumerate(self.pieces):
            logprobs = self._logprobs(slice(index, index + 1))
            if self.chat:
                role = {"role": "assistant"} if index == 0 else {}
                yield {"delta": {**role, "content": piece}, "logprobs": logprobs}
            else:
                yield {"text": piece, "logprobs": logprobs}
        for index, call in enumerate(self.calls):
            # As the real service does: the name first, the arguments in pieces that are not JSON by themselves.
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            first = {**call, "index": index, "function": {"name": name, "arguments": ""}}
            yield {"delta": {"role": "assistant", "content": None, "tool_calls": [first]}}
            for start in range(0, len(arguments), 5):
                part = {"index": index, "function": {"arguments": arguments[start : start + 5]}}
                yield {"delta": {"tool_calls": [part]}}
        yield (
            {"delta": {}, "finish_reason": self.finish}
            if self.chat
            else {"text": "", "finish_reason": self.finish}
        )

    def _logprobs(self, part: slice) -> Json | None:
        wanted = self.request.body.get("logprobs")
        if not wanted or not self.pieces:
            return None
        tokens = list(zip(self.pieces, self.logprobs, strict=True))[part]
        if not self.chat:
            return {
                "tokens": [token for token, _ in tokens],
                "token_logprobs": [value for _, value in tokens],
            }
        top = self.request.body.get("top_logprobs") or 0
        content = []
        for token, value in tokens:
            others = [(token, value)] + [(f"~{rank}", value - rank) for rank in range(1, top)]
            rows = [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in others]
            content.append({**rows[0], "top_logprobs": rows[:top]})
        return {"content": content, "refusal": None}


async def _send(events: Sequence[str], cut: int | None) -> AsyncIterator[str]:
    for index, event in enumerate(events):
        if index == cut:
            raise ConnectionAbortedError("scripted break")
        yield event


# What a model does that no test scripted


def _obey(request: Request) -> Reply:
    body, text = request.body, request.text
    tools = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
    choice = body.get("tool_choice") or ("auto" if tools else "none")
    if isinstance(choice, Mapping):
        tools, choice = [tool for tool in tools if tool["name"] == choice["function"]["name"]], "required"
    answered = bool(request.messages) and request.messages[-1]["role"] == "tool"
    if tools and (choice == "required" or (choice == "auto" and not answered)):
        called = {c["function"]["name"] for m in request.messages for c in m.get("tool_calls") or []}
        fresh = [tool for tool in tools if tool["name"] not in called] or tools[-1:]
        tool = next((tool for tool in fresh if re.search(rf"\b{re.escape(tool['name'])}\b", text)), fresh[0])
        return Reply(tool_calls=[(tool["name"], example_of(tool.get("parameters") or {}, text))])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return Reply(json.dumps(example_of(form["json_schema"]["schema"], text), ensure_ascii=False))
    if form.get("type") == "json_object":
        keys = re.findall(r"['\"](\w+)['\"]", text) or ["answer"]
        return Reply(json.dumps({key: "something" for key in keys}))
    return Reply(f"You said: {text}" if text else "Hello.")


def example_of(schema: Json, text: str, root: Json | None = None) -> Any:
    """A value that meets a JSON schema, with the numbers and quoted words of ``text`` where they fit."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return example_of(target, text, root)
    if "const" in schema or "enum" in schema:
        return schema.get("const", *schema.get("enum", [])[:1])
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return example_of(next((o for o in options if o.get("type") != "null"), options[0]), text, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: example_of(properties.get(key, {}), text, root) for key in schema.get("required", [])}
    if kind == "array":
        return [example_of(schema.get("items", {}), text, root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        found = re.search(r"-?\d+", text)
        value = int(found.group()) if found else 1
        return min(max(value, schema.get("minimum", value)), schema.get("maximum", value))
    if kind in ("boolean", "null"):
        return True if kind == "boolean" else None
    quoted = re.search(r"'([^']+)'|\"([^\"]+)\"", text)
    word = (quoted.group(1) or quoted.group(2)) if quoted else (text or "something")
    return word[: schema.get("maxLength")]


# Tokens and embeddings: small, the same on every machine


def tokenize(text: str) -> list[str]:
    """Words and marks, each with the space before it; joined they are the text again."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+", text)


def embedding(text: str, dimensions: int = 32) -> list[float]:
    """A normalised bag of hashed words: texts that share words are near each other."""
    vector = [1e-3] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        vector[hashlib.sha256(word.encode()).digest()[0] % dimensions] += 1.0
    norm = sum(value * value for value in vector) ** 0.5
    return [value / norm for value in vector]


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _text_of(message: Json) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(
        part["text"] if isinstance(part, dict) else str(part) for part in content if _is_text(part)
    )


def _is_text(part: Any) -> bool:
    return not isinstance(part, dict) or part.get("type") == "text"


def _message_tokens(message: Json) -> int:
    content = message.get("content")
    media = sum(not _is_text(part) for part in content) if isinstance(content, list) else 0
    return 3 + len(tokenize(_text_of(message))) + 85 * media


def refused_address() -> tuple[str, socket.socket]:
    """A base URL at which every connection is refused, and the socket that keeps its port taken: close it."""
    # Bound but not listening: refused at once, and no other program can be given the port meanwhile.
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{taken.getsockname()[1]}/v1", taken
