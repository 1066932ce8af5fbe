"""The v3 event stream of a composite: its chunks as the framework's content-block events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from langchain_core.language_models._compat_bridge import achunks_to_events, chunks_to_events
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk


def event_stream(chunks: Iterator[AIMessageChunk]) -> ChatModelStream:
    """A stream whose consumer pulls the chunks."""
    stream = ChatModelStream()
    events = chunks_to_events(ChatGenerationChunk(message=chunk) for chunk in chunks)

    def pump() -> bool:
        try:
            stream.dispatch(next(events))
        except StopIteration:
            return False
        except BaseException as error:  # as the framework's own: whoever reads the stream gets it
            stream.fail(error)
            return False
        return True

    stream.bind_pump(pump)
    return stream


def aevent_stream(chunks: AsyncIterator[AIMessageChunk]) -> AsyncChatModelStream:
    """A stream that a task fills once somebody reads it."""
    stream = AsyncChatModelStream()

    async def produce() -> None:
        try:
            async for event in achunks_to_events(
                ChatGenerationChunk(message=chunk) async for chunk in chunks
            ):
                stream.dispatch(event)
        except asyncio.CancelledError as error:
            stream.fail(error)
            raise
        except BaseException as error:
            stream.fail(error)

    async def start() -> None:
        if stream._producer_task is None:
            stream._producer_task = asyncio.get_running_loop().create_task(produce())

    stream.set_start(start)
    return stream
