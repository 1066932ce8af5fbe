"""Parity: wherever a bare model works, a composite over two works too, and comes to the same result."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.llamaindex.conftest import UNSURE, CascadeOf, MemberOf
from tests.llamaindex.scenarios.catalogue import SCENARIOS, Lab
from tests.llamaindex.scenarios.script import reply
from tests.support.openai_server import OpenAIServer


@pytest.mark.parametrize("small", ["sure", "unsure"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_composite_passes_where_the_bare_model_does(
    name: str, small: str, openai_server: OpenAIServer, member: MemberOf, cascade: CascadeOf
) -> None:
    openai_server.models = {"bare": reply, "small": reply if small == "sure" else UNSURE, "large": reply}
    expected = await _outcome(name, Lab(member("bare")))
    assert await _outcome(name, Lab(cascade())) == expected
    asked = {request.model for request in openai_server.requests}
    assert small == "sure" or asked <= {"bare"} or "large" in asked, "an unsure draft was not followed up"


async def _outcome(name: str, lab: Lab) -> Any:
    result = SCENARIOS[name](lab)
    return await result if inspect.isawaitable(result) else result
