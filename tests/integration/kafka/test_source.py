"""What comes out of topics is in Redis before it is committed: with real servers of both."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.kafka import source as module
from hookstream.app.kafka.source import KafkaIntake
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.queues import door as door_module
from hookstream.app.queues import intake as intake_module
from hookstream.app.queues.door import QueueDoors
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.topics import KafkaSource
from hookstream.app.settings import Settings
from tests.integration.ingest.test_appender import appending_to
from tests.integration.sqs.test_intake import Door
from tests.support.kafka import Broker, Wire
from tests.support.servers import Node
from tests.support.stack import eventually


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done once in a while is done sooner than in earnest."""
    monkeypatch.setattr(intake_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "POLL_MS", 100)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(module, "METADATA_MS", 500)
    monkeypatch.setattr(door_module, "PATIENCE_SECONDS", 0.1)


class TopicDoor(Door):
    """A receiver, as far as topics ask it."""

    url = ""

    def settings_of(self, tool: Tool) -> Settings:
        return Settings(kafka_url=self.url, kafka_topics="*", kafka_group=self.group(tool))

    def group(self, tool: Tool) -> str:
        """One of the test's own: the broker is everybody's."""
        assert isinstance(tool.source, KafkaSource)
        return f"g-{tool.source.topic}"

    def intake_of(self, doors: QueueDoors) -> Any:
        return KafkaIntake(doors)

    def troubles(self) -> list[str]:
        return [state.trouble for intake in self.intakes for state in intake.states()]


def tool(topic: str, order_by: str = "tool", **more: Any) -> Tool:
    return Tool(
        *("orders", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()),
        *(0, order_by, "key" if order_by == "field" else ""),
        source=KafkaSource(topic),
        **more,
    )


@asynccontextmanager
async def topic_doors(url: str, folder: Path) -> AsyncIterator[Callable[[Tool], TopicDoor]]:
    """Doors for tools' topics at these brokers, over a Redis of their own."""
    node = Node(folder)
    node.start()
    TopicDoor.url = url
    try:
        async with appending_to(node, folder) as (client, appender):
            yield lambda tool: TopicDoor(node, client, appender, tool)
    finally:
        node.kill()


@pytest.fixture
async def door(broker: Broker, tmp_path: Path) -> AsyncIterator[Callable[[Tool], TopicDoor]]:
    async with topic_doors(broker.url, tmp_path) as made:
        yield made


async def committed(broker: Broker, here: TopicDoor, topic: str) -> int:
    """Offsets that are committed of a topic, in all of its partitions."""
    group = f"{here.group(here.current.tools['orders'])}.orders"
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{broker.own_port}")
    await admin.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(4)]
        found = await admin.list_consumer_group_offsets(group, partitions=partitions)
    finally:
        await admin.close()
    return sum(max(0, each.offset) for each in found.values())


def numbers_of(events: list[Any], key: str) -> list[int]:
    data = [event.data() for event in events]
    return [one["n"] for one in data if one["key"] == key]


async def test_partitions_move_between_receivers_and_each_key_keeps_its_order(
    broker: Broker, name: str, door: Callable[[Tool], TopicDoor]
) -> None:
    await broker.make_topic(name, 4)
    here = door(tool(name, order_by="field"))
    sent = dict.fromkeys("abcdefgh", 0)
    stopped = asyncio.Event()

    async def flow() -> None:
        async with broker.producer() as producer:
            while not stopped.is_set():
                for key in sent:
                    value = json.dumps({"key": key, "n": sent[key]}).encode()
                    await producer.send_and_wait(name, value, key=key.encode())
                    sent[key] += 1
                await asyncio.sleep(0.02)

    def shares() -> list[int]:
        # what each receiver has by now
        return [
            len(work._consumer.assignment()) if work._consumer else 0
            for intake in here.intakes
            for _, work, _ in intake._consumers._running.values()
        ]

    async def both() -> bool:
        found = shares()
        return len(found) == 2 and sorted(found) == [2, 2]

    async def all_here() -> bool:
        return {event.data()["key"]: 0 for event in await here.events()} == dict.fromkeys(sent, 0)

    flowing = asyncio.create_task(flow())
    async with here.open():
        await eventually(all_here, "one receiver takes from all partitions")
        another = asyncio.create_task(here.intakes[1].run())
        await eventually(both, "two of them share the partitions")
        await asyncio.sleep(0.5)
        # one leaves, and the other one has all of it again
        another.cancel()
        await asyncio.gather(another, return_exceptions=True)
        stopped.set()
        await flowing

        async def through() -> bool:
            return await committed(broker, here, name) == sum(sent.values())

        await eventually(through, "all offsets are committed")
        events = await here.events()
    first: dict[str, Any] = {}
    for event in events:
        first.setdefault(event.event_id, event)
    for key, count in sent.items():
        # what came twice is the same event, and the first of each are in order
        assert numbers_of(list(first.values()), key) == list(range(count)), key
    assert len(first) == sum(sent.values())


async def test_nothing_is_lost_while_redis_or_the_broker_is_away(
    broker: Broker, wire: Wire, name: str, door: Callable[[Tool], TopicDoor]
) -> None:
    await broker.make_topic(name)
    await wire.cut()
    here = door(tool(name))

    async def told(*kinds: str) -> bool:
        return set(here.troubles()) == set(kinds)

    async with here.open():
        # away at the start
        await eventually(lambda: told("unreachable"), "it is said that nobody answers")
        await wire.mend()
        await broker.send(name, [json.dumps({"n": n}).encode() for n in range(5)])

        async def came(count: int) -> bool:
            return len({event.event_id for event in await here.events()}) == count

        await eventually(lambda: came(5), "what is there comes")

        async def is_committed(count: int) -> bool:
            return await committed(broker, here, name) == count

        await eventually(lambda: is_committed(5), "and is committed")
        await eventually(lambda: told(""), "all is well")
        # away later, with something in hand
        here.node.kill()
        await broker.send(name, [json.dumps({"n": n}).encode() for n in range(5, 15)])

        async def spooled() -> bool:
            return here.appender.has_spooled

        await eventually(spooled, "the first of them waits in the spool")
        assert await committed(broker, here, name) == 5
        await wire.cut()
        here.node.start()
        await eventually(lambda: told("unreachable"), "the broker is missed")
        await wire.mend()
        await broker.send(name, [b'{"n": 15}'])
        await eventually(lambda: came(16), "all of them have come")
        await eventually(lambda: is_committed(16), "and are committed")
    numbers = [event.data()["n"] for event in await here.events()]
    assert list(dict.fromkeys(numbers)) == list(range(16))


async def test_what_can_be_no_event_is_told_of_and_holds_up_nothing(
    broker: Broker, name: str, door: Callable[[Tool], TopicDoor]
) -> None:
    await broker.make_topic(name)
    # a value that is none, as in compacted topics; one that is larger than a webhook may be
    await broker.send(name, [None, b"x" * 100_001, b'{"n": 1}'], key=b"k")
    here = door(tool(name))

    async def told() -> list[Any]:
        return await here.refusals.page(here.current.tools["orders"], 10)

    async def all_committed() -> bool:
        return await committed(broker, here, name) == 3

    async with here.open():
        [refusal] = await eventually(told, "a refusal")
        await eventually(all_committed, "what is behind it comes")
    assert (refusal.method, refusal.status) == ("KAFKA", 413)
    assert refusal.path == f"kafka://{name}/0/1"
    assert "record 1 of partition 0" in refusal.detail
    assert [event.data() for event in await here.events()] == [{"n": 1}]


async def test_a_topic_that_is_not_there_is_in_no_other_one_s_way(
    broker: Broker,
    name: str,
    door: Callable[[Tool], TopicDoor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await broker.make_topic(name)
    await broker.send(name, [b'{"n": 1}'])
    good = tool(name)
    here = door(good)
    missing = replace(good, tool_id="missing", source=KafkaSource(f"{name}-nowhere"))
    here.current = Catalog(tools={"missing": missing, "orders": good})
    # this broker makes what it is asked for
    known = module.AIOKafkaConsumer.partitions_for_topic

    def partitions(consumer: Any, topic: str) -> Any:
        return None if topic.endswith("-nowhere") else known(consumer, topic)

    monkeypatch.setattr(module.AIOKafkaConsumer, "partitions_for_topic", partitions)

    async def came() -> bool:
        return len(await here.events()) == 1

    async def told() -> bool:
        troubles = {s.queue: s.trouble for s in here.intakes[0].states()}
        return troubles == {name: "", f"{name}-nowhere": "missing"}

    async with here.open():
        await eventually(came, "what is there gives its event")
        await eventually(told, "what is not is named")
        # a tool that has no topic any more reads nothing
        here.current = Catalog(tools={"orders": good})

        async def gone() -> bool:
            return [s.queue for s in here.intakes[0].states()] == [name]

        await eventually(gone, "nobody reads the other one any more")
