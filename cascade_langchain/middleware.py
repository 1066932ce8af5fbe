"""The composite as middleware of an agent."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse

from cascade_langchain.chat_model import ChatCascade

if TYPE_CHECKING:
    from cascade_core.default_policy import Prices
    from cascade_core.policy import Policy


class CascadeMiddleware(AgentMiddleware[Any, Any, Any]):
    """Lets a :class:`ChatCascade` answer in the place of an agent's own model, in every step of its loop.

    Tools, structured output and streaming go through the composite as they would through any chat model.

    Args:
        models: as for :class:`ChatCascade`, or one that exists.
        policy: as for :class:`ChatCascade`.
        prices: as for :class:`ChatCascade`.

    Example:
        ```python
        from langchain.agents import create_agent
        from langchain_openai import ChatOpenAI

        from cascade_langchain import CascadeMiddleware

        nano, large = ChatOpenAI(model="gpt-4.1-nano", logprobs=True), ChatOpenAI(model="gpt-5")
        agent = create_agent(large, middleware=[CascadeMiddleware([nano, large])])
        agent.invoke({"messages": [("human", "Why is the sky blue?")]})
        ```
    """

    def __init__(
        self,
        models: ChatCascade | Mapping[str, Any] | Sequence[Any],
        *,
        policy: Policy | str | os.PathLike[str] | None = None,
        prices: Prices | None = None,
    ) -> None:
        super().__init__()
        self.cascade = (
            models if isinstance(models, ChatCascade) else ChatCascade(models, policy=policy, prices=prices)
        )

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Make the call with the composite."""
        return handler(request.override(model=self.cascade))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """As :meth:`wrap_model_call`."""
        return await handler(request.override(model=self.cascade))
