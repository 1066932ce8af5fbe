"""The loop, once sync and once async; everything that decides is in the turn.

Decisions are made before an endpoint returns, also for a stream, so that the members' spans lie within the
endpoint's. Of a stream, a candidate that may still be rejected is called without streaming and shown whole when it is
accepted; a call that is certainly the last is shown live. A live stream counts as shown from its first chunk with
content on: until then, a failure leads on to the next member.

The members' endpoints count and time themselves. What LlamaIndex's decorator does besides is done here: one trace
around all calls, and the cascade's own rate limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from cascade_core.values import Call
from cascade_llamaindex._answer import shows
from cascade_llamaindex._turn import Result, Turn


def answer(turn: Turn[Result]) -> Result:
    """The accepted response."""
    result: Result = _drive(turn, streaming=False)
    return result


def stream(turn: Turn[Result]) -> Generator[Result, None, None]:
    """The accepted response in pieces."""
    chunks: Generator[Result, None, None] = _drive(turn, streaming=True)
    return chunks


async def aanswer(turn: Turn[Result]) -> Result:
    """The accepted response, awaiting the members."""
    result: Result = await _adrive(turn, streaming=False)
    return result


async def astream(turn: Turn[Result]) -> AsyncGenerator[Result, None]:
    """The accepted response in pieces, awaiting the members."""
    chunks: AsyncGenerator[Result, None] = await _adrive(turn, streaming=True)
    return chunks


def _drive(turn: Turn[Any], *, streaming: bool) -> Any:
    cascade = turn.cascade
    if cascade.rate_limiter is not None:
        cascade.rate_limiter.acquire()
    turn.begin()
    with cascade.callback_manager.as_trace("chat"):
        while isinstance(step := turn.next(), Call):
            live = streaming and step.final
            try:
                with turn.waiting():
                    result = turn.call("stream_" if live else "")
                head = list(_head(turn, result)) if live else [result]
            except Exception as error:
                turn.failed(error)
                continue
            if live and head and shows(head[-1]):
                return _pass_on(turn, head, result)
            turn.answered(head[-1] if head else None)
        return _replay(turn) if streaming else turn.result()


async def _adrive(turn: Turn[Any], *, streaming: bool) -> Any:
    cascade = turn.cascade
    if cascade.rate_limiter is not None:
        await cascade.rate_limiter.async_acquire()
    await asyncio.to_thread(turn.begin) if turn.waits else turn.begin()
    with cascade.callback_manager.as_trace("chat"):
        while isinstance(step := turn.next(), Call):
            live = streaming and step.final
            try:
                with turn.waiting():
                    result = await turn.call("astream_" if live else "a")
                head = [chunk async for chunk in _ahead(turn, result)] if live else [result]
            except Exception as error:
                turn.failed(error)
                continue
            if live and head and shows(head[-1]):
                return _apass_on(turn, head, result)
            answered = partial(turn.answered, head[-1] if head else None)
            await asyncio.to_thread(answered) if turn.waits else answered()
        return _areplay(turn) if streaming else turn.result()


_END: Any = object()


def _chunks(turn: Turn[Any], stream: Iterator[Any]) -> Iterator[Any]:
    while True:
        with turn.waiting():
            chunk = next(stream, _END)
        if chunk is _END:
            return
        yield chunk


async def _achunks(turn: Turn[Any], stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    while True:
        with turn.waiting():
            chunk = await anext(stream, _END)
        if chunk is _END:
            return
        yield chunk


def _head(turn: Turn[Any], stream: Iterator[Any]) -> Iterator[Any]:
    """The chunks up to the first that shows something, or all."""
    for chunk in _chunks(turn, stream):
        yield chunk
        if shows(chunk):
            return


async def _ahead(turn: Turn[Any], stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in _achunks(turn, stream):
        yield chunk
        if shows(chunk):
            return


def _pass_on(turn: Turn[Any], head: list[Any], stream: Iterator[Any]) -> Iterator[Any]:
    last = head[-1]
    try:
        for chunk in head:
            yield turn.passing(chunk)
        for chunk in _chunks(turn, stream):
            last = chunk
            yield turn.passing(chunk)
    except GeneratorExit:  # the reader has had enough; the call was made and is in the record all the same
        turn.passed(last)
        _close(stream)
        raise
    except Exception:
        turn.broke()
        raise
    closing = turn.passed(last)
    if closing is not None:
        yield closing


async def _apass_on(turn: Turn[Any], head: list[Any], stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    last = head[-1]
    try:
        for chunk in head:
            yield turn.passing(chunk)
        async for chunk in _achunks(turn, stream):
            last = chunk
            yield turn.passing(chunk)
    except GeneratorExit:
        turn.passed(last)
        await _aclose(stream)
        raise
    except Exception:
        turn.broke()
        raise
    closing = turn.passed(last)
    if closing is not None:
        yield closing


def _replay(turn: Turn[Any]) -> Iterator[Any]:
    chunk = turn.replay()  # here and not in the generator: if nothing can be shown, the call itself fails

    def chunks() -> Iterator[Any]:
        if chunk is not None:
            yield chunk
        turn.replayed()

    return chunks()


def _areplay(turn: Turn[Any]) -> AsyncIterator[Any]:
    chunk = turn.replay()

    async def chunks() -> AsyncIterator[Any]:
        if chunk is not None:
            yield chunk
        turn.replayed()

    return chunks()


def _close(stream: Any) -> None:
    with suppress(AttributeError):
        stream.close()


async def _aclose(stream: Any) -> None:
    with suppress(AttributeError):
        await stream.aclose()
