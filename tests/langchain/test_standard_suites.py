"""LangChain's own suites for chat models, over a composite of two real ``ChatOpenAI`` at the loopback server."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from cascade_core import Policy
from cascade_langchain import ChatCascade
from tests.langchain.support import always_both, only, pair
from tests.support.openai_server import OpenAIServer


class _Composite:
    """What both suites are told of the composite."""

    policy: Policy

    @pytest.fixture(autouse=True)
    def _served(self, openai_server: OpenAIServer) -> None:
        self.server = openai_server

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCascade

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"models": pair(self.server), "policy": self.policy}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "large"


class TestUnitsOneCall(_Composite, ChatModelUnitTests):
    policy = only("small")


class TestIntegrationOneCall(_Composite, ChatModelIntegrationTests):
    policy = only("small")


class TestUnitsTwoCalls(_Composite, ChatModelUnitTests):
    policy = always_both()


class TestIntegrationTwoCalls(_Composite, ChatModelIntegrationTests):
    policy = always_both()
