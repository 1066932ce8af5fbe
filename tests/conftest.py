"""What every test may use: no network beyond loopback, and models that answer as the test says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

from tests.support.openai_server import OpenAIServer, refused_address

# The same examples in every run, however slow the machine; `--hypothesis-profile=default` looks for others.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _loopback_only() -> None:
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def _openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def openai_server(_openai_server: OpenAIServer) -> Iterator[OpenAIServer]:
    """An OpenAI-compatible server without behaviours or history; one thread serves the whole session."""
    _openai_server.reset()
    yield _openai_server
    _openai_server.release_all()


@pytest.fixture
def refused_url() -> Iterator[str]:
    """A base URL that refuses every connection."""
    url, taken = refused_address()
    with taken:
        yield url
