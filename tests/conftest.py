"""Real servers on state of their own, once a session; the whole system as a user runs it."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings

from hookstream.app import embedded
from tests.support.stack import Stack

# examples reach real servers, whose answers take as long as they take
settings.register_profile(
    "real", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("real")

for name in [name for name in os.environ if name.startswith("HOOKSTREAM_")]:
    del os.environ[name]


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder of this test process."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def redis_url(state_dir: Path) -> Iterator[str]:
    """A real Redis-protocol server."""
    server = embedded.start_valkey(state_dir)
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(state_dir: Path) -> Iterator[str]:
    """A real PostgreSQL."""
    server = embedded.start_postgres(state_dir)
    yield server.url
    server.stop()


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """A client of the session's server, which is emptied first."""
    client = redis.asyncio.Redis.from_url(redis_url, protocol=2)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`hookstream up`, as a newcomer has it; shared by the tests of this process."""
    with Stack(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return f"t{secrets.token_hex(4)}"
