"""The whole system with a Kafka beside it, which is away at first."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

from hookstream.proto.envelope_pb2 import Envelope
from tests.integration.kafka.agents import EVENTS, UPDATES, stack_beside
from tests.integration.web.test_agent_keys import call
from tests.support import ROOT
from tests.support.kafka import Broker, Wire
from tests.support.stack import Stack, eventually, fresh

DOCS = (ROOT / "docs" / "kafka.md").read_text().split("```python\n")
READING, AGENTS = (block.split("```")[0] for block in DOCS[1:])
#: The agent in the docs, and one over a stream channel that gets what another one has sent there.
STAGES = (
    AGENTS
    + """

sent = app.stream_channel("sent", codec="json")
counted = app.topic("counted", value_serializer="json")


@app.agent(app.topic("done", value_serializer="json"))
async def pass_on(stream):
    async for value in stream:
        await sent.send(key="k", value=value)


@app.agent(sent)
async def count(values):
    async for value in values:
        await counted.send(value=value)
"""
)
SOURCE = {"provider": "none", "dedup": {"strategy": "none"}}


@pytest.fixture(scope="module")
async def own(
    wired: tuple[Broker, Wire], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """`hookstream up` that was started while its Kafka was away."""
    broker, wire = wired
    for topic, partitions in (("orders", 2), ("done", 1), ("counted", 1)):
        await broker.make_topic(topic, partitions)
    for topic in (EVENTS, UPDATES):
        await broker.make_topic(topic, 3)
    await wire.cut()
    folder = tmp_path_factory.mktemp("kafka-stack")
    stack = stack_beside(broker.url, folder, "topic_stages", STAGES)
    await asyncio.to_thread(stack.start)
    yield stack
    await asyncio.to_thread(stack.stop)


async def kafka_part(port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/health"
    async with aiohttp.ClientSession() as session, fresh(session, url) as response:
        return dict((await response.json())["parts"].get("kafka") or {})


async def numbers(broker: Broker, topic: str) -> list[int]:
    return [json.loads(record.value)["number"] for record in await broker.records(topic)]


async def test_a_kafka_that_is_away_is_named_and_nothing_waits_for_it(
    own: Stack, broker: Broker, wire: Wire, name: str
) -> None:
    await own.context(name, SOURCE)
    ids = [await own.hook(name, json.dumps({"n": n}).encode()) for n in range(10)]
    assert [update["event_id"] for update in await own.updates(name, 10)] == ids

    async def told() -> bool:
        part = await kafka_part(own.worker_port)
        troubles = {each["topic"]: each["trouble"] for each in part["troubles"]}
        return troubles == dict.fromkeys((EVENTS, UPDATES, "(of agents)"), "unreachable")

    await eventually(told, "mirrors and agents miss it")
    await wire.mend()

    async def well() -> bool:
        return (await kafka_part(own.worker_port))["status"] == "ok"

    await eventually(well, "all is well once it is there")

    async def mirrored() -> bool:
        return len(await broker.records(EVENTS)) >= 10

    await eventually(mirrored, "what waited is mirrored")
    events = [e for e in await broker.records(EVENTS) if (b := dict(e.headers)) and b]
    assert [dict(e.headers)["hookstream_event_id"].decode() for e in events] == ids
    envelopes = [Envelope.FromString(each.value[6:]) for each in events]
    assert [json.loads(each.payload)["n"] for each in envelopes] == list(range(10))
    assert len({event.key for event in events}) == 1

    async def updated() -> list[Any]:
        found = await broker.records(UPDATES)
        return found if len(found) >= 10 else []

    updates = await eventually(updated, "and so are updates")
    assert {update.key.decode() for update in updates} == {f"default/{name}"}
    bodies = [json.loads(update.value[5:]) for update in updates]
    assert [body["event_id"] for body in bodies] == ids
    assert [body["seq"] for body in bodies] == list(range(1, 11))
    # Confluent's own deserializers read them, as the docs say
    found: dict[str, Any] = {"URL": own.url, "KEY": own.key}
    exec(READING, found)
    read = {EVENTS: found["read_event"], UPDATES: found["read_update"]}
    value = SerializationContext(EVENTS, MessageField.VALUE)
    assert (await asyncio.to_thread(read[EVENTS], events[0].value, value)).event_id == ids[0]
    update = await asyncio.to_thread(read[UPDATES], updates[0].value, value)
    assert (update["event_id"], update["seq"]) == (ids[0], 1)


async def test_agents_over_topics_work_beside_the_pipeline_and_come_back(
    own: Stack, broker: Broker, wire: Wire, name: str
) -> None:
    await wire.mend()

    async def send(numbers: range) -> None:
        await broker.send("orders", [json.dumps({"number": n}).encode() for n in numbers])

    async def came(topic: str, wanted: set[int]) -> bool:
        return set(await numbers(broker, topic)) == wanted

    await send(range(5))
    await eventually(lambda: came("done", set(range(5))), "an agent takes from its topic")
    await eventually(lambda: came("counted", set(range(5))), "and sends to Redis, and back")
    await own.context(name, SOURCE)
    await wire.cut()
    ids = [await own.hook(name, json.dumps({"n": n}).encode()) for n in range(10)]
    assert [update["event_id"] for update in await own.updates(name, 10)] == ids

    async def missed() -> bool:
        part = await kafka_part(own.worker_port)
        return "(of agents)" in {each["topic"] for each in part["troubles"]}

    await eventually(missed, "agents miss their brokers")
    await wire.mend()
    await send(range(5, 10))
    await eventually(lambda: came("done", set(range(10))), "they go on")

    async def well() -> bool:
        return (await kafka_part(own.worker_port))["status"] == "ok"

    await eventually(well, "all is well again")


async def test_a_topic_is_a_tool_s_source(
    own: Stack, broker: Broker, wire: Wire, name: str
) -> None:
    await wire.mend()
    topic = f"source-{name}"
    await broker.make_topic(topic, 2)
    await own.context(name, SOURCE)
    source = {"kafka": {"topic": topic, "headers": {"x-kind": "kind"}}}
    kept = await own.put(f"/tools/{name}", {**SOURCE, "source": source})
    assert kept["source"] == source
    await broker.send(topic, [json.dumps({"n": n}).encode() for n in range(5)], key=b"k")
    updates = await own.updates(name, 5)
    found = [await own.get(f"/events/{update['event_id']}") for update in updates]
    assert [event["payload"]["n"] for event in found] == list(range(5))
    assert {event["source"] for event in found} == {"topic"}
    assert {update["provenance"]["source"] for update in updates} == {"topic"}

    async def well() -> bool:
        part = await kafka_part(own.port)
        return (part["status"], part["topics"]) == ("ok", 1)

    await eventually(well, "the receiver says how the topic does")


async def test_topics_that_are_not_for_tools_are_refused(own: Stack, name: str) -> None:
    await own.put(f"/tools/{name}", SOURCE)
    sqs = {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q"}
    for source, said in (
        ({"kafka": {"topic": "orders"}}, "HOOKSTREAM_KAFKA_TOPICS"),
        ({"kafka": {"topic": EVENTS}}, "they would go round"),
        ({"kafka": {"topic": "a b"}}, "source.kafka.topic: up to 249"),
        ({"kafka": {"topic": "source-a", "headers": {"a b": "c"}}}, "no name of a header"),
        ({}, "either sqs or kafka"),
        ({"kafka": {"topic": "source-a"}, "sqs": sqs}, "either sqs or kafka"),
    ):
        status, problem = await call(own, own.key, "PUT", f"/tools/{name}", **SOURCE, source=source)
        assert (status, said in problem["detail"]) == (400, True), problem
