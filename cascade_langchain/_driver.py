"""Runs a job: one driver for sync code and one for async.

The outer run is a chain run, and every call of a member is a child of it, so that traces nest and handlers count
each token once. A driver alternates between the job, which knows the next step, and the members, which answer:

- a call that the job lets be shown is streamed, if the caller streams; any other runs to its end;
- a call that fails before anything was passed on is the job's to handle: it goes on without that member;
- one that fails afterwards is the caller's.

Decisions are custom events of the outer run: before each call, and when the answer is chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, AsyncCallbackManagerForChainRun, CallbackManager
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langchain_core.tracers._streaming import _StreamingCallbackHandler

from cascade_core.values import Call

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig

    from cascade_langchain._job import Job

CALL_EVENT, STOP_EVENT = "cascade_call", "cascade_stop"


def drive(job: Job, config: RunnableConfig | None, *, stream: bool) -> Iterator[Any]:
    """Run a job. Yields chunks if ``stream``, else nothing; the answer is then ``job.output``."""
    config = ensure_config(config)
    job.begin()
    manager = job.configured(CallbackManager, config)
    run = manager.on_chain_start(None, job.input, **job.start_arguments(config))
    job.run_id = run.run_id
    try:
        chunks = _steps(job, run, config, stream=stream)
        tap = _tap(run.handlers) if stream else None
        yield from chunks if tap is None else tap.tap_output_iter(run.run_id, chunks)
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(job.output)


def _steps(
    job: Job, run: CallbackManagerForChainRun, config: RunnableConfig, *, stream: bool
) -> Iterator[Any]:
    while isinstance(step := job.next(), Call):
        live = stream and job.live(step)
        member, below = job.member(step, live=live), job.below(config, run)
        watching: CallbackManager | None = below["callbacks"]  # type: ignore[assignment]
        if watching:
            watching.on_custom_event(CALL_EVENT, _told(step), run_id=run.run_id)
        try:
            if live:
                with closing(_within(below, member.stream(job.input, below, **job.kwargs))) as chunks:
                    for chunk in chunks:
                        yield from job.release(chunk)
            else:
                sent, kwargs = job.sent(step)
                with _Within(below):
                    job.take(member.invoke(sent, below, **kwargs))
        except Exception as error:
            job.fail(error)
        else:
            job.answered()
    record = job.finish(step)
    if run.inheritable_handlers:
        run.get_child().on_custom_event(STOP_EVENT, record.payload(), run_id=run.run_id)
    if stream:
        yield from job.rest(record)


async def adrive(job: Job, config: RunnableConfig | None, *, stream: bool) -> AsyncGenerator[Any, None]:
    """As :func:`drive`."""
    config = ensure_config(config)
    await asyncio.to_thread(job.begin) if job.waits else job.begin()
    run = await _astarted(job, config)
    try:
        chunks = _asteps(job, run, config, stream=stream)
        tap = _tap(run.handlers) if stream else None
        async with aclosing(chunks if tap is None else tap.tap_output_aiter(run.run_id, chunks)) as tapped:
            async for chunk in tapped:
                yield chunk
    except BaseException as error:
        await run.on_chain_error(error)
        raise
    if run.handlers:
        await run.on_chain_end(job.output)


async def _astarted(job: Job, config: RunnableConfig) -> AsyncCallbackManagerForChainRun:
    """The outer run. Of its manager nothing is kept: thousands of queries may be waiting at once."""
    manager = job.configured(AsyncCallbackManager, config)
    arguments = job.start_arguments(config)
    if manager.handlers:
        run = await manager.on_chain_start(None, job.input, **arguments)
    else:  # telling nobody would still cost a turn of the loop, and at the end a task
        run = AsyncCallbackManagerForChainRun.get_noop_manager()
    job.run_id = arguments["run_id"] or run.run_id
    return run


async def _asteps(
    job: Job, run: AsyncCallbackManagerForChainRun, config: RunnableConfig, *, stream: bool
) -> AsyncGenerator[Any, None]:
    while isinstance(step := job.next(), Call):
        live = stream and job.live(step)
        member, below = job.member(step, live=live), job.below(config, run)
        watching: AsyncCallbackManager | None = below["callbacks"]  # type: ignore[assignment]
        if watching:
            await watching.on_custom_event(CALL_EVENT, _told(step), run_id=run.run_id)
        try:
            if live:
                async with aclosing(
                    _awithin(below, member.astream(job.input, below, **job.kwargs))
                ) as chunks:
                    async for chunk in chunks:
                        for item in job.release(chunk):
                            yield item
            else:
                sent, kwargs = job.sent(step)
                with _Within(below):
                    job.take(await member.ainvoke(sent, below, **kwargs))
        except Exception as error:
            job.fail(error)
        except asyncio.CancelledError as error:
            if watching:
                await job.log.close(error, watching.handlers)
            raise
        else:
            await asyncio.to_thread(job.answered) if job.waits else job.answered()
    record = job.finish(step)
    if run.inheritable_handlers:
        await run.get_child().on_custom_event(STOP_EVENT, record.payload(), run_id=run.run_id)
    if stream:
        for item in job.rest(record):
            yield item


def run_to_end(job: Job, config: RunnableConfig | None) -> Any:
    """Run a job and return its answer."""
    for _ in drive(job, config, stream=False):
        pass
    return job.output


async def arun_to_end(job: Job, config: RunnableConfig | None) -> Any:
    """Run a job and return its answer."""
    async for _ in adrive(job, config, stream=False):
        pass
    return job.output


def _told(call: Call) -> dict[str, Any]:
    """A call as an event tells of it: without the text of a verification."""
    return call.model_dump(exclude={"prompt"}, exclude_none=True)


def _tap(handlers: Iterable[object]) -> Any:
    """The handler that wants to see the chunks of the outer run: that of ``astream_events`` or ``astream_log``."""
    return next((handler for handler in handlers if isinstance(handler, _StreamingCallbackHandler)), None)


class _Within:
    """Makes a configuration that somebody watches the implicit one, as bindings merge theirs with it.

    Not around a ``yield``: a consumer's code is not below our run.
    """

    def __init__(self, config: RunnableConfig) -> None:
        self._config = config

    def __enter__(self) -> None:
        watched = self._config["callbacks"] is not None
        self._token = var_child_runnable_config.set(self._config) if watched else None

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            var_child_runnable_config.reset(self._token)


def _within(config: RunnableConfig, chunks: Iterator[Any]) -> Generator[Any, None, None]:
    """The chunks, each made within the configuration; closes their stream at the end, so that its run ends."""
    try:
        while True:
            with _Within(config):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


async def _awithin(config: RunnableConfig, chunks: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """As :func:`_within`."""
    try:
        while True:
            with _Within(config):
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield chunk
    finally:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
