"""Topics and groups that are not for a user, on a mock cluster: Tansu knows no rights."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from hookstream.app.kafka import standstill
from hookstream.app.kafka import topics as topics_module
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.topics import KafkaSource
from tests.integration.kafka.agents import Agents
from tests.integration.kafka.test_source import TopicDoor, sooner, tool, topic_doors
from tests.support.mock_cluster import (
    DENIED,
    FIND_COORDINATOR,
    GROUP_DENIED,
    JOIN_GROUP,
    MockCluster,
)
from tests.support.stack import eventually

__all__ = ["sooner"]


@pytest.fixture
def cluster() -> Any:
    made = MockCluster()
    yield made
    made.close()


@pytest.fixture
async def door(cluster: MockCluster, tmp_path: Path) -> AsyncIterator[Callable[[Tool], TopicDoor]]:
    async with topic_doors(cluster.url, tmp_path) as made:
        yield made


async def send(cluster: MockCluster, topic: str, *numbers: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=cluster.server)
    await producer.start()
    try:
        for number in numbers:
            await producer.send_and_wait(topic, json.dumps({"n": number}).encode())
    finally:
        await producer.stop()


async def test_a_topic_that_may_not_be_read_is_in_no_other_one_s_way(
    cluster: MockCluster, name: str, door: Callable[[Tool], TopicDoor]
) -> None:
    for topic in (name, f"{name}-secret"):
        cluster.make_topic(topic)
        await send(cluster, topic, 1)
    cluster.fail_topic(f"{name}-secret", DENIED)
    good = tool(name)
    here = door(good)
    secret = replace(good, tool_id="secret", source=KafkaSource(f"{name}-secret"))
    here.current = Catalog(tools={"secret": secret, "orders": good})

    async def troubles(**wanted: str) -> bool:
        return {s.tool_id: s.trouble for s in here.intakes[0].states()} == wanted

    async def came(count: int) -> bool:
        return len(await here.events()) == count

    async with here.open():
        await eventually(lambda: came(1), "what may be read gives its event")
        await eventually(lambda: troubles(orders="", secret="denied"), "what may not is named")
        cluster.fail_topic(f"{name}-secret", 0)
        await eventually(lambda: came(2), "it comes once it may be read")
        await eventually(lambda: troubles(orders="", secret=""), "all is well")


async def test_a_group_that_may_not_be_joined_is_named(
    cluster: MockCluster, name: str, door: Callable[[Tool], TopicDoor]
) -> None:
    cluster.make_topic(name)
    await send(cluster, name, 1)
    cluster.fail(JOIN_GROUP, *[GROUP_DENIED] * 10_000)
    here = door(tool(name))

    async def told(trouble: str) -> bool:
        return here.troubles() == [trouble]

    async def came() -> bool:
        return len(await here.events()) == 1

    async with here.open():
        await eventually(lambda: told("denied"), "it may not join")
        cluster.relent(JOIN_GROUP)
        await eventually(came, "it comes once it may")
        await eventually(lambda: told(""), "all is well")


@pytest.mark.parametrize("what", ["topic", "group"])
async def test_agents_that_may_not_read_say_so_and_go_on_once_they_may(
    cluster: MockCluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(topics_module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(topics_module, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(topics_module, "START_SECONDS", 5.0)
    monkeypatch.setattr(standstill, "STILL_SECONDS", 3.0)
    cluster.make_topic(name)
    await send(cluster, name, 1)
    if what == "topic":
        cluster.fail_topic(name, DENIED)
    else:
        cluster.fail(FIND_COORDINATOR, *[GROUP_DENIED] * 10_000)
    agents = Agents(cluster.url, name, tmp_path)
    agents.take()

    async def has() -> bool:
        return agents.got == [1]

    async with agents.topics:
        await eventually(lambda: agents.how("denied"), "that is said")
        cluster.fail_topic(name, 0)
        cluster.relent(FIND_COORDINATOR)
        await eventually(has, "they go on once they may")
        await eventually(lambda: agents.how(""), "all is well")
        await asyncio.wait_for(agents.topics.stop(), 20)
