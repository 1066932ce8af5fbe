"""What the chat models inside a runnable said, whatever the runnable itself returns."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from cascade_core.values import Usage
from cascade_langchain._messages import usage_of


class ModelLog(BaseCallbackHandler):
    """Keeps the messages of all chat models that run below the run it is attached to."""

    run_inline = True  # in the order of the calls, on the thread that makes them

    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Note a message."""
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
