"""The scripted server, seen through the clients that users have: ``ChatOpenAI`` and ``OpenAILike``."""

from __future__ import annotations

import asyncio
import json
import math
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.support.openai_server import (
    Break,
    Hang,
    HttpError,
    Malformed,
    OpenAIServer,
    Reply,
    example_of,
    tokenize,
)


class Joke(BaseModel):
    setup: str
    laughs: int


@tool
def lookup(word: str, limit: int) -> str:
    """Look a word up."""
    return f"{word}: {limit}"


@tool
def shout(word: str) -> str:
    """Say a word aloud."""
    return word.upper()


def chat(server: OpenAIServer, model: str = "small", **settings: object) -> ChatOpenAI:
    settings = {"max_retries": 0, "stream_usage": True, **settings}
    return ChatOpenAI(model=model, base_url=server.base_url, api_key="none", **settings)  # type: ignore[arg-type]


def like(server: OpenAIServer, model: str = "small", **settings: object) -> OpenAILike:
    settings = {"is_chat_model": True, "is_function_calling_model": True, "max_retries": 0, **settings}
    return OpenAILike(model=model, api_base=server.base_url, api_key="none", **settings)  # type: ignore[arg-type]


def test_models_answer_as_scripted_and_the_log_says_who_was_asked(openai_server: OpenAIServer) -> None:
    openai_server.models = {
        "text": "always this",
        "table": {"2+2?": "4", "fails": HttpError(503)},
        "function": lambda request: Reply(f"{request.model} has {len(request.messages)} message"),
    }
    assert chat(openai_server, "text").invoke("anything").content == "always this"
    assert chat(openai_server, "table").invoke("2+2?").content == "4"
    assert chat(openai_server, "function").invoke("x").content == "function has 1 message"
    assert [request.model for request in openai_server.requests] == ["text", "table", "function"]
    assert openai_server.requests[1].text == "2+2?"
    with pytest.raises(openai.InternalServerError, match="scripted failure"):
        chat(openai_server, "table").invoke("fails")


def test_the_server_and_the_client_count_the_same_tokens(openai_server: OpenAIServer) -> None:
    message = chat(openai_server).invoke("one two three")
    full = None
    for chunk in chat(openai_server).stream("one two three"):
        full = chunk if full is None else full + chunk
    assert full is not None
    count = openai_server.tokens["small"]
    assert message.usage_metadata == full.usage_metadata
    assert message.usage_metadata["input_tokens"] * 2 == count.input_tokens
    assert message.usage_metadata["output_tokens"] * 2 == count.output_tokens
    assert full.content == message.content == "You said: one two three"


def test_log_probabilities_are_those_of_the_script(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Reply("two words", logprobs=[-0.25, -1.5])}
    message = chat(openai_server, logprobs=True, top_logprobs=2).invoke("?")
    content = message.response_metadata["logprobs"]["content"]
    assert [(row["token"], row["logprob"]) for row in content] == [("two", -0.25), (" words", -1.5)]
    assert [len(row["top_logprobs"]) for row in content] == [2, 2]
    assert not chat(openai_server).invoke("?").response_metadata.get("logprobs")
    # llama-index reads the rows of top_logprobs alone: without at least one it shows none.
    answer = like(openai_server, logprobs=True, top_logprobs=1).chat([ChatMessage(content="?")])
    assert [row[0].logprob for row in answer.logprobs] == [-0.25, -1.5]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", ["any", "shout"])
def test_tool_calls_fit_their_schema(openai_server: OpenAIServer, choice: str, streamed: bool) -> None:
    model = chat(openai_server).bind_tools([lookup, shout], tool_choice=choice)
    question = "lookup 'Ålesund', at most 7"
    if streamed:
        parts = list(model.stream(question))
        message = parts[0]
        for part in parts[1:]:
            message = message + part
        assert len(parts) > 3, "arguments come in pieces"
    else:
        message = model.invoke(question)
    (call,) = message.tool_calls
    expected = {"any": ("lookup", {"word": "Ålesund", "limit": 7}), "shout": ("shout", {"word": "Ålesund"})}
    assert (call["name"], call["args"]) == expected[choice]


def test_an_agent_loop_ends(openai_server: OpenAIServer) -> None:
    model = chat(openai_server).bind_tools([lookup])
    asked = HumanMessage("lookup 'sun' 3")
    called = model.invoke([asked])
    done = model.invoke([asked, called, lookup.invoke(called.tool_calls[0])])
    assert called.tool_calls
    assert not done.tool_calls
    assert done.content


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("streamed", [False, True])
def test_structured_output(openai_server: OpenAIServer, method: str, streamed: bool) -> None:
    openai_server.models = {"json": {"joke": '{"setup": "Why?", "laughs": 3}'}}
    model = chat(openai_server, "json" if method == "json_mode" else "small")
    model = model.with_structured_output(Joke, method=method)
    joke = list(model.stream("joke"))[-1] if streamed else model.invoke("joke")
    assert joke == (Joke(setup="Why?", laughs=3) if method == "json_mode" else Joke(setup="joke", laughs=1))


def test_images_and_files_are_accepted_and_stop_and_limits_obeyed(openai_server: OpenAIServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    message = chat(openai_server).invoke([HumanMessage([{"type": "text", "text": "see"}, image, file])])
    assert message.content == "You said: see"
    assert message.usage_metadata["input_tokens"] > 2 * 85
    assert chat(openai_server).invoke("a stop b", stop=["stop"]).content == "You said: a "
    short = chat(openai_server, max_tokens=2).invoke("a b c")
    assert (short.content, short.response_metadata["finish_reason"]) == ("You said", "length")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (HttpError(429, "slow down"), openai.RateLimitError),
        (HttpError(500), openai.InternalServerError),
        (HttpError(401), openai.AuthenticationError),
        (Malformed(), ValueError),
        (Break(), openai.APIConnectionError),
    ],
)
async def test_a_fault_meets_one_request_and_the_next_is_served(
    openai_server: OpenAIServer, fault: HttpError | Malformed | Break, error: type[Exception]
) -> None:
    model = chat(openai_server)
    openai_server.fail_next(fault, model="small", times=2)
    assert chat(openai_server, "other").invoke("hi").content
    with pytest.raises(error):
        model.invoke("hi")
    with pytest.raises(error):
        await model.ainvoke("hi")
    assert model.invoke("hi").content
    assert openai_server.tokens["small"].calls == 1, "a failed call is not counted"


def test_a_stream_breaks_after_it_began(openai_server: OpenAIServer) -> None:
    openai_server.fail_next(Break(after=3))
    seen = []
    with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
        seen.extend(iter(chat(openai_server).stream("a b c d e f")))
    assert 1 <= len(seen) <= 3


def test_a_refused_connection(refused_url: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        ChatOpenAI(model="x", base_url=refused_url, api_key="none", max_retries=0).invoke("hi")


async def test_a_hanging_model_answers_when_the_test_lets_it(openai_server: OpenAIServer) -> None:
    hang = Hang()
    openai_server.fail_next(hang)
    waiting = asyncio.create_task(chat(openai_server).ainvoke("hi"))
    await asyncio.to_thread(hang.arrived.wait)
    assert not waiting.done()
    hang.release()
    assert (await waiting).content == "You said: hi"


async def test_a_client_that_gives_up_on_a_hang_raises_its_timeout(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": Hang()}
    with pytest.raises(openai.APITimeoutError):
        await chat(openai_server, timeout=0.01).ainvoke("hi")


async def test_what_was_asked_before_a_reset_is_not_counted_after_it(openai_server: OpenAIServer) -> None:
    hang = Hang()
    openai_server.models = {"small": hang}
    old = chat(openai_server)
    waiting = asyncio.create_task(old.ainvoke("hi"))
    await asyncio.to_thread(hang.arrived.wait)
    openai_server.reset()
    for late in (waiting, old.ainvoke("hi")):
        with pytest.raises(openai.APIStatusError, match="reset"):
            await late
    assert chat(openai_server).invoke("hi").content == "You said: hi"
    assert len(openai_server.requests) == openai_server.tokens["small"].calls == 1
    assert openai_server.peak_concurrency == 1


async def test_two_thousand_requests_at_once(openai_server: OpenAIServer) -> None:
    hang = Hang(expected=2000)
    openai_server.models = {"small": hang}
    body = json.dumps({"model": "small", "messages": [{"role": "user", "content": "hi"}]})
    url = urlsplit(openai_server.base_url)
    head = f"POST {url.path}/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"

    async def ask() -> bytes:  # without a client library: their pools are slow at this size
        reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
        writer.write((head + body).encode())
        answer = await reader.read()
        writer.close()
        return answer

    asked = asyncio.gather(*(ask() for _ in range(2000)))
    arrived = asyncio.create_task(asyncio.to_thread(hang.arrived.wait))
    # However long it takes, unless a client fails: then this one does.
    await asyncio.wait([asked, arrived], return_when=asyncio.FIRST_COMPLETED)
    hang.arrived.set()
    hang.release()
    answers = await asked
    assert all(answer.startswith(b"HTTP/1.1 200") and b"You said: hi" in answer for answer in answers)
    assert openai_server.tokens["small"].calls == openai_server.peak_concurrency == 2000


def test_llama_index_completes_chats_and_streams(openai_server: OpenAIServer) -> None:
    model, plain = like(openai_server), like(openai_server, is_chat_model=False)
    assert model.complete("hi").text == plain.complete("hi").text == "You said: hi"
    assert [request.endpoint for request in openai_server.requests] == ["chat/completions", "completions"]
    assert "".join(chunk.delta for chunk in plain.stream_complete("hi")) == "You said: hi"
    *_, last = model.stream_chat([ChatMessage(content="hi")])
    assert last.message.content == "You said: hi"


async def test_llama_index_async(openai_server: OpenAIServer) -> None:
    model = like(openai_server, reuse_client=False)
    assert (await model.acomplete("hi")).text == "You said: hi"
    assert [chunk.delta async for chunk in await model.astream_chat([ChatMessage(content="hi")])][:2] == [
        "You",
        " said",
    ]


def test_llama_index_calls_tools_and_predicts_structures(openai_server: OpenAIServer) -> None:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import FunctionTool

    model = like(openai_server)
    answer = model.chat_with_tools([FunctionTool.from_defaults(lookup.func)], user_msg="lookup 'sun' 3")
    (call,) = model.get_tool_calls_from_response(answer)
    assert call.tool_kwargs == {"word": "sun", "limit": 3}
    assert model.structured_predict(Joke, PromptTemplate("a joke")).laughs == 1


def test_embeddings_are_normalised_and_near_for_shared_words(openai_server: OpenAIServer) -> None:
    client = OpenAIEmbeddings(
        base_url=openai_server.base_url, api_key="none", check_embedding_ctx_length=False
    )
    a, b, c = client.embed_documents(["the red house", "a red house", "ninety-nine violins"])
    dot = lambda x, y: sum(map(float.__mul__, x, y))  # noqa: E731
    assert math.isclose(dot(a, a), 1.0, rel_tol=1e-5)
    assert dot(a, b) > dot(a, c)


def test_models_are_listed(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": "x", "large": "y"}
    client = openai.OpenAI(base_url=openai_server.base_url, api_key="none")
    assert [model.id for model in client.models.list()] == ["small", "large"]


def test_tokens_joined_are_the_text() -> None:
    for text in ["", " ", "a  b,c\n", "Ålesund (3.5)!", "\n\nx "]:
        assert "".join(tokenize(text)) == text


def test_an_example_follows_references_unions_and_bounds() -> None:
    class Leaf(BaseModel):
        kind: str | None
        size: int

    class Tree(BaseModel):
        leaves: list[Leaf]
        note: str = "optional"

    value = example_of(Tree.model_json_schema(), "'oak' 12")
    assert Tree.model_validate(value) == Tree(leaves=[Leaf(kind="oak", size=12)])


def test_a_mistake_in_a_script_is_named(openai_server: OpenAIServer) -> None:
    openai_server.models = {"small": lambda request: Reply(str(1 / 0))}
    with pytest.raises(openai.InternalServerError, match="behaviour of 'small' raised ZeroDivisionError"):
        chat(openai_server).invoke("hi")


def test_messages_of_tools_have_the_type_langchain_expects(openai_server: OpenAIServer) -> None:
    message = chat(openai_server).bind_tools([shout]).invoke("shout")
    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["type"] == "tool_call"
