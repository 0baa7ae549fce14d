"""What comes out of queues is in Redis before it is gone from them: with real servers of both."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.ingest.acceptance import Acceptance
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.privacy.rules import MASKED, Rules
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.queues import door as door_module
from hookstream.app.queues import intake as intake_module
from hookstream.app.queues.door import QueueDoors
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.queues import Queue, SqsSource
from hookstream.app.routing.tenants import SUSPENDED, Tenant
from hookstream.app.settings import Settings
from hookstream.app.sqs import intake as module
from hookstream.app.sqs.intake import SqsIntake
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.token_bucket import TokenBuckets
from hookstream.app.web.limits import ToolLimit
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.payload import Packing
from tests.integration.ingest.test_appender import appending_to
from tests.support.servers import Node
from tests.support.sqs import SqsServer, answers, one_at_a_time
from tests.support.stack import eventually

PARTITIONS = 4


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done once in a while is done sooner than in earnest."""
    monkeypatch.setattr(intake_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(door_module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "WAIT_SECONDS", 1)


class Door:
    """A receiver, as far as queues ask it, on a server that may be killed."""

    def __init__(self, node: Node, client: Any, appender: Any, tool: Tool) -> None:
        self.node, self.redis, self.appender = node, client, appender
        self.current = Catalog(tools={tool.tool_id: tool})
        settings = self.settings_of(tool).model_copy(update={"partitions": PARTITIONS})
        catalog = cast(CatalogCache, self)
        shelf: Any = SimpleNamespace(current=lambda *_: None)
        self.refusals = Refusals(client, Scripts(client), catalog)
        self.intakes = [self.intake(settings, catalog, shelf) for _ in range(2)]

    def settings_of(self, tool: Tool) -> Settings:
        """Those that let a tool have its source."""
        assert isinstance(tool.source, SqsSource)
        return Settings(sqs_queues=f"{tool.source.queue.url.rpartition('/')[0]}/")

    def intake_of(self, doors: QueueDoors) -> Any:
        """What asks the tool's source."""
        return SqsIntake(doors)

    def intake(self, settings: Settings, catalog: CatalogCache, shelf: Any) -> Any:
        doors = QueueDoors(
            settings=settings,
            catalog=lambda: self.current,
            acceptance=Acceptance(
                settings=settings,
                catalog=catalog,
                payloads=Payloads(self.redis, shelf, Packing()),
                appender=self.appender,
                functions={},
                payload_check=cast(Any, None),
                maskers=Maskers(lambda: self.current),
            ),
            appender=self.appender,
            limit=ToolLimit("tool_webhooks_per_second", TokenBuckets(0, 1), "too many"),
            refusals=self.refusals,
            most_bytes=lambda tool: 100_000,
        )
        return self.intake_of(doors)

    async def events(self) -> list[Event]:
        """All that is there, by stream and in its order; what was appended twice is there twice."""
        found = []
        for number in range(PARTITIONS):
            for _, fields in await self.redis.xrange(keys.events(number)):
                found.append(decode_event(fields[b"d"]))
        return found

    @asynccontextmanager
    async def open(self, which: int = 1) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(intake.run()) for intake in self.intakes[:which]]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def tool(source: SqsSource, order_by: str = "tool", **more: Any) -> Tool:
    return Tool(
        *("orders", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()),
        *(0, order_by, "key" if order_by == "field" else ""),
        source=source,
        **more,
    )


@pytest.fixture
async def door(sqs: SqsServer, tmp_path: Path) -> AsyncIterator[Callable[[Tool], Door]]:
    node = Node(tmp_path)
    node.start()
    try:
        async with appending_to(node, tmp_path) as (client, appender):
            yield lambda tool: Door(node, client, appender, tool)
    finally:
        node.kill()


async def test_messages_become_events_and_are_gone_from_their_queue(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(name)
    for number in range(25):
        sqs.send(url, json.dumps({"n": number}))
    here = door(tool(SqsSource(Queue(url))))

    async def all_of_them() -> bool:
        return sqs.counts(url) == (0, 0) and len(await here.events()) >= 25

    async with here.open(which=2):
        await eventually(all_of_them, "25 events, and nothing in the queue")
        assert [state.trouble for intake in here.intakes for state in intake.states()] == ["", ""]
    events = await here.events()
    assert sorted(event.data()["n"] for event in events) == list(range(25))
    assert len({event.event_id for event in events}) == 25


async def test_a_fifo_group_keeps_its_order_with_two_receivers(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(f"{name}.fifo")
    for number in range(40):
        key = "abcd"[number % 4]
        sqs.send(url, json.dumps({"key": key, "n": number}), group=key)
    here = door(tool(SqsSource(Queue(url)), order_by="field"))

    async def all_of_them() -> bool:
        return sqs.counts(url) == (0, 0) and len(await here.events()) >= 40

    with sqs.server.failing(one_at_a_time()):
        async with here.open(which=2):
            await eventually(all_of_them, "40 events")
    events = [event.data() for event in await here.events()]
    for key in "abcd":
        own = [data["n"] for data in events if data["key"] == key]
        assert own == sorted(own)
        assert len(own) == 10


async def test_a_queue_that_is_there_again_is_well_at_once_and_the_log_says_so(
    sqs: SqsServer,
    name: str,
    door: Callable[[Tool], Door],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # as in earnest: nobody waits for as long as a poll of an empty queue takes
    monkeypatch.setattr(module, "WAIT_SECONDS", 20)
    caplog.set_level(logging.INFO)
    here = door(tool(SqsSource(Queue(f"{sqs.url}/123456789012/{name}"))))

    async def is_(trouble: str) -> bool:
        return [state.trouble for state in here.intakes[0].states()] == [trouble]

    async with here.open():
        await eventually(lambda: is_("missing"), "it is missing")
        sqs.queue(name)
        await eventually(lambda: is_(""), "it is well", timeout_seconds=6)
    told = [line for line in caplog.messages if line.startswith(f"the queue {name} of tool orders")]
    assert ["QueueDoesNotExist" in told[0], told[1:]] == [
        True,
        [f"the queue {name} of tool orders is well again"],
    ]


async def test_a_message_that_comes_again_is_the_same_event(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is done is not deleted, and not hidden for long
    monkeypatch.setattr(module, "HIDDEN_SECONDS", 1)
    url = sqs.queue(name)
    sqs.send(url, '{"n": 1}')
    here = door(tool(SqsSource(Queue(url))))

    async def twice() -> bool:
        return len(await here.events()) >= 2

    with sqs.server.failing(answers("ThrottlingException", of="DeleteMessageBatch")):
        async with here.open():
            await eventually(twice, "the message came again")
    assert len({event.event_id for event in await here.events()}) == 1

    async def gone() -> bool:
        return sqs.counts(url) == (0, 0)

    async with here.open():
        await eventually(gone, "it is deleted once that can be done")


async def test_while_redis_is_away_nothing_is_deleted_and_then_nothing_is_missing(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(f"{name}.fifo")
    here = door(tool(SqsSource(Queue(url))))
    async with here.open():
        here.node.kill()
        for number in range(15):
            sqs.send(url, json.dumps({"n": number}), group="g")

        async def in_hand() -> bool:
            return here.appender.has_spooled

        await eventually(in_hand, "the first of them wait in the spool")
        assert sum(sqs.counts(url)) == 15
        here.node.start()

        async def all_of_them() -> bool:
            return sqs.counts(url) == (0, 0)

        await eventually(all_of_them, "all of them have come")
    numbers = [event.data()["n"] for event in await here.events()]
    assert list(dict.fromkeys(numbers)) == list(range(15))


@pytest.mark.parametrize("redrives", [False, True])
async def test_what_can_be_no_event_is_told_of_and_holds_up_nothing(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door], redrives: bool
) -> None:
    policy = {}
    if redrives:
        dead = sqs.queue(f"{name}-dead")
        arn = sqs.client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        target = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": "3",
        }
        policy["RedrivePolicy"] = json.dumps(target)
    url = sqs.queue(name, **policy)
    sqs.send(url, "no JSON")
    sqs.send(url, json.dumps({"delivery_id": "d", "event_type": "x", "payload": {"n": 1}}))
    here = door(tool(SqsSource(Queue(url), "predecessor")))

    async def told() -> list[Any]:
        return await here.refusals.page(here.current.tools["orders"], 10)

    async def rest() -> bool:
        # where SQS has another queue for it, it is left to that
        return sum(sqs.counts(url)) == int(redrives)

    async with here.open():
        [refusal] = await eventually(told, "a refusal")
        await eventually(rest, "the other one is gone")
    assert (refusal.method, refusal.body) == ("SQS", b"no JSON")
    assert (refusal.status, refusal.reason) == (400, "bad-request")
    assert "the predecessor's" in refusal.detail
    assert [event.data() for event in await here.events()] == [{"n": 1}]


async def test_of_what_is_refused_nothing_is_kept_where_events_are_kept_masked(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(name)
    sqs.send(url, "ada@example.com is no JSON")
    source = SqsSource(Queue(url), "predecessor")
    here = door(tool(source, masking=Rules(agents={"email": "mask"}, keep=MASKED)))

    async def told() -> list[Any]:
        return await here.refusals.page(here.current.tools["orders"], 10)

    async with here.open():
        [refusal] = await eventually(told, "a refusal")
    assert (refusal.method, refusal.status, refusal.reason) == ("SQS", 400, "bad-request")
    assert (refusal.detail, refusal.body, refusal.headers) == ("Bad request", b"", {})


async def test_a_tenant_that_is_suspended_leaves_its_messages_where_they_are(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(name)
    sqs.send(url, "{}")
    here = door(tool(SqsSource(Queue(url))))
    tools = here.current.tools
    here.current = Catalog(
        tools=tools, tenants={DEFAULT_TENANT: Tenant(DEFAULT_TENANT, state=SUSPENDED)}
    )

    async def waits() -> bool:
        return [s.trouble for s in here.intakes[0].states()] == ["suspended"]

    async with here.open():
        await eventually(waits, "it is said why nothing comes")
        assert sqs.counts(url) == (1, 0)
        here.current = Catalog(tools=tools)

        async def came() -> bool:
            return sqs.counts(url) == (0, 0)

        await eventually(came, "it comes")


async def test_a_queue_that_cannot_be_asked_is_in_no_other_one_s_way(
    sqs: SqsServer, name: str, door: Callable[[Tool], Door]
) -> None:
    url = sqs.queue(name)
    sqs.send(url, '{"n": 1}')
    good = tool(SqsSource(Queue(url)))
    here = door(good)
    nobody = SqsSource(Queue(f"{sqs.url}/123456789012/nobody"))
    missing = replace(good, tool_id="missing", source=nobody)
    here.current = Catalog(tools={"missing": missing, "orders": good})

    async def came() -> bool:
        return len(await here.events()) == 1

    async def told() -> bool:
        troubles = {s.queue: s.trouble for s in here.intakes[0].states()}
        return troubles == {name: "", "nobody": "missing"}

    async with here.open():
        await eventually(came, "what can be asked gives its event")
        await eventually(told, "what cannot is named")
        # a tool that has no queue any more asks for nothing
        here.current = Catalog(tools={"orders": good})

        async def gone() -> bool:
            return [s.queue for s in here.intakes[0].states()] == [name]

        await eventually(gone, "nobody asks the other one any more")
