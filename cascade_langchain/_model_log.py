"""What the chat models inside a runnable said, whatever the runnable itself returns."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from cascade_core.values import Usage
from cascade_langchain._messages import usage_of


class ModelLog(BaseCallbackHandler):
    """Keeps the messages of all chat models that run below the run it is attached to, and which of them run still."""

    run_inline = True  # in the order of the calls, on the thread that makes them

    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []
        self._running: dict[UUID, UUID | None] = {}

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any
    ) -> None:
        """Note that a model runs."""
        self._running[run_id] = parent_run_id

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Note that a model has failed."""
        self._running.pop(run_id, None)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Note a message."""
        self._running.pop(run_id, None)
        for generations in response.generations:
            if generations and isinstance(generations[0], ChatGeneration):
                self.messages.append(generations[0].message)

    @property
    def usage(self) -> Usage | None:
        """Tokens of all calls; None if no provider reported any."""
        reported = [usage for message in self.messages if (usage := usage_of(message)) is not None]
        if not reported:
            return None
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in reported),
            output_tokens=sum(usage.output_tokens for usage in reported),
            cached_input_tokens=sum(usage.cached_input_tokens for usage in reported),
        )

    async def close(self, error: BaseException, handlers: list[BaseCallbackHandler]) -> None:
        """Tell the handlers that the models still running have ended by ``error``.

        A chat model that is cancelled in ``ainvoke`` leaves its run open.
        """
        for run_id, parent_run_id in list(self._running.items()):
            run = AsyncCallbackManagerForLLMRun(
                run_id=run_id, parent_run_id=parent_run_id, handlers=handlers, inheritable_handlers=[]
            )
            await run.on_llm_error(error, response=LLMResult(generations=[]))
