"""A broker of Kafka's protocol, once a session of tests, and a wire to it that can be cut."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.kafka.agents import Agents
from tests.support.kafka import Broker, Wire


@pytest.fixture(scope="session")
async def wired(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Broker, Wire]]:
    wire = Wire(0)
    broker = Broker(tmp_path_factory.mktemp("kafka"), advertised=wire.port)
    wire.target = broker.own_port
    await broker.start()
    await wire.mend()
    yield broker, wire
    await wire.cut()
    broker.stop()


@pytest.fixture
async def broker(wired: tuple[Broker, Wire]) -> Broker:
    return wired[0]


@pytest.fixture
async def wire(wired: tuple[Broker, Wire]) -> AsyncIterator[Wire]:
    yield wired[1]
    await wired[1].mend()


@pytest.fixture
async def own_broker(tmp_path: Path, name: str) -> AsyncIterator[Broker]:
    """A broker of the test's own, with a topic called as the test is."""
    broker = Broker(tmp_path)
    await broker.start()
    await broker.make_topic(name)
    yield broker
    broker.stop()


@pytest.fixture
def agents(own_broker: Broker, name: str, tmp_path: Path) -> Agents:
    """Agents over that topic, to be declared and begun."""
    return Agents(own_broker.url, name, tmp_path)


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"
