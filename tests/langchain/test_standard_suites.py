"""LangChain's own suites for chat models, over a composite of two real ``ChatOpenAI`` at the loopback server."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from cascade_core import Policy
from cascade_langchain import ChatCascade
from tests.langchain.support import Plain, always_both, chat, only, pair
from tests.support.openai_server import OpenAIServer


def _png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )


ONCE_ONLY = "two models run, so on_chat_model_start fires twice: the suite asserts that it fires exactly once"


class _Composite:
    """What both suites are told of the composite."""

    policy: Policy

    @pytest.fixture(autouse=True)
    def _served(self, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = openai_server
        # The suite fetches its sample files from the web; any bytes will do for a server that does not look at them.
        monkeypatch.setattr(httpx, "get", lambda url, **_: httpx.Response(200, content=_png()))

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
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
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

    @pytest.mark.xfail(reason=ONCE_ONLY, raises=AssertionError, strict=True)
    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    def test_structured_output(self, model: BaseChatModel, schema_type: Any) -> None:
        super().test_structured_output(model, schema_type)

    @pytest.mark.xfail(reason=ONCE_ONLY, raises=AssertionError, strict=True)
    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    async def test_structured_output_async(self, model: BaseChatModel, schema_type: Any) -> None:
        await super().test_structured_output_async(model, schema_type)


class _Unlike(_Composite):
    """A model without tools, schemas and log-probabilities first, then one with all of them."""

    policy = always_both()

    @property
    def chat_model_params(self) -> dict[str, Any]:
        plain = Plain(
            model="small", base_url=self.server.base_url, api_key="none", max_retries=0, stream_usage=True
        )
        return {"models": [plain, chat(self.server, "large", logprobs=True)], "policy": self.policy}


class TestUnitsUnlikePair(_Unlike, ChatModelUnitTests):
    pass


class TestIntegrationUnlikePair(_Unlike, ChatModelIntegrationTests):
    pass
