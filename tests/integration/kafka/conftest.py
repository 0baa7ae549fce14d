"""A broker of Kafka's protocol, once a session of tests, and a wire to it that can be cut."""

import uuid
from collections.abc import AsyncIterator

import pytest

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
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"
