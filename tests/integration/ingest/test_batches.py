"""Batches through the whole system: an event for each thing, kept together, each of them once."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import redis
from yarl import URL

from hookstream.app import embedded
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from tests.support.stack import Stack, eventually

SECRET = "a-token-of-the-sender"
BATCH = {
    "Authorization": f"Bearer {SECRET}",
    "Content-Type": "application/cloudevents-batch+json",
}
SOURCE = {"provider": "cloudevents", "secrets": [SECRET]}


def event(number: int, **data: Any) -> dict[str, Any]:
    """A CloudEvent."""
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "/test",
        "type": f"thing.{'odd' if number % 2 else 'even'}",
        "subject": str(number),
        "data": {"n": number, **data},
    }


async def post(
    stack: Stack, tool: str, items: Sequence[Any], headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], str]:
    """Status, answer and the header with the event's id."""
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(
            f"/hooks/{tool}", data=json.dumps(items), headers=headers or BATCH
        ) as response,
    ):
        answer = json.loads(await response.text())
        return response.status, answer, response.headers.get("Hookstream-Event-Id", "")


def numbers(updates: Sequence[dict[str, Any]]) -> list[int]:
    return [int(update["summary"].rpartition(" about ")[2]) for update in updates]


def told(updates: Sequence[dict[str, Any]]) -> list[str]:
    return [update["event_id"] for update in updates]


async def test_batch_is_an_event_for_each_thing_that_are_found_again_together(
    stack: Stack, name: str
) -> None:
    where = "payload.data.n != 2"
    await stack.context(name, SOURCE, where=where)
    status, answer, header = await post(stack, name, [event(number) for number in range(4)])
    assert status == 202
    ids = answer["event_ids"]
    assert (len(set(ids)), answer["event_id"], header) == (4, ids[0], ids[0])
    updates = await stack.updates(name, 3)
    assert told(updates) == [ids[0], ids[1], ids[3]]
    assert [update["event_type"] for update in updates] == ["thing.even", "thing.odd", "thing.odd"]

    async def recorded() -> Any:
        found = (await stack.get("/events", batch=ids[0]))["events"]
        return found if len(found) == 4 else None

    found = await eventually(recorded, "all events of the batch are recorded")
    assert [one["event_id"] for one in found] == ids[::-1]
    assert [(one["batch_id"], one["batch_index"]) for one in found] == [
        (ids[0], index) for index in (3, 2, 1, 0)
    ]
    assert [one["delivery_id"] for one in found] == [f"/test {n}" for n in (3, 2, 1, 0)]
    one = await stack.get(f"/events/{ids[2]}")
    assert (one["payload"], one["content_type"]) == (event(2), "application/cloudevents+json")
    # the id of another of them is that of no batch; nor is one of any time
    for none in (ids[1], "ffffffff-ffff-7000-bfff-ffffffffffff"):
        assert (await stack.get("/events", batch=none))["events"] == []
    assert "batch" in (await stack.get("/events", 400, batch="x"))["detail"]


async def test_batch_that_is_sent_again_with_one_thing_more_is_one_event_more(
    stack: Stack, name: str
) -> None:
    await stack.context(name, SOURCE)
    _, first, _ = await post(stack, name, [event(number) for number in (1, 2, 3)])
    # in another order, with one that is there twice
    _, again, _ = await post(stack, name, [event(number) for number in (3, 9, 1, 9)])
    updates = await stack.updates(name, 4)
    assert told(updates) == [*first["event_ids"], again["event_ids"][1]]

    async def recorded() -> Any:
        found = (await stack.get("/events", tool=name, status="duplicate"))["events"]
        return found if len(found) == 3 else None

    copies = await eventually(recorded, "copies are recorded")
    assert {one["event_id"]: one["duplicate_of"] for one in copies} == {
        again["event_ids"][0]: first["event_ids"][2],
        again["event_ids"][2]: first["event_ids"][0],
        again["event_ids"][3]: again["event_ids"][1],
    }


async def test_empty_batch_and_one_of_one(stack: Stack, name: str) -> None:
    await stack.context(name, SOURCE)
    assert await post(stack, name, []) == (202, {"event_ids": [], "status": "accepted"}, "")
    status, answer, _ = await post(stack, name, [event(1)])
    assert (status, answer["event_ids"]) == (202, [answer["event_id"]])
    [update] = await stack.updates(name, 1)
    one = await stack.get(f"/events/{update['event_id']}")
    assert (one["batch_id"], one["payload"]) == (None, event(1))
    single = await stack.hook(name, json.dumps(event(2)).encode(), BATCH)
    assert told(await stack.updates(name, 2)) == [answer["event_id"], single]


async def test_a_thousand_of_five_kilobytes_are_in_order_and_hold_nobody_up(
    stack: Stack, name: str
) -> None:
    await stack.context(name, SOURCE)
    items = [event(number, text=f"{number} " + "lorem ipsum, " * 370) for number in range(1000)]
    assert 4_900_000 < len(json.dumps(items)) < 5 * 1024 * 1024
    waits: list[float] = []
    done = asyncio.Event()

    async def somebody_else() -> None:
        async with aiohttp.ClientSession(stack.url) as session:
            while not done.is_set():
                begun = time.monotonic()
                async with session.get("/health/live") as response:
                    await response.read()
                waits.append(time.monotonic() - begun)

    other = asyncio.create_task(somebody_else())
    status, answer, _ = await post(stack, name, items)
    done.set()
    await other
    assert status == 202
    assert told(await stack.updates(name, 1000)) == answer["event_ids"]
    # the longest is where the body is cut into its parts; a machine in use may take its time
    assert max(waits) < 1.0


async def test_more_than_may_be_is_one_update_that_counts_them(stack: Stack, name: str) -> None:
    await stack.context(name, SOURCE, where="enrichment.batch.kinds['thing.odd'] > 0")
    items = [event(number, tags=["a", "b", "c", "d", "e"]) for number in range(10_000)]
    status, answer, _ = await post(stack, name, items)
    assert status == 202
    assert "event_ids" not in answer
    [update] = await stack.updates(name, 1)
    assert (update["event_id"], update["event_type"]) == (answer["event_id"], "batch")
    assert update["summary"] == "10000 CloudEvents: 5000 thing.even, 5000 thing.odd"
    one = await stack.get(f"/events/{answer['event_id']}")
    # its elements are too many to be parsed
    assert (json.loads(one["payload"]), one["unparsed"]) == (items, True)


async def test_a_tool_s_rate_counts_events(stack: Stack, name: str) -> None:
    await stack.context(name, {**SOURCE, "webhooks_per_second": 1})
    # whole, though no more than ten may come at once
    assert (await post(stack, name, [event(number) for number in range(40)]))[0] == 202
    status, problem, _ = await post(stack, name, [event(99)])
    assert status == 429
    assert "webhooks_per_second" in problem["detail"]
    assert len(await stack.updates(name, 40)) == 40


async def test_what_breaks_the_schema_is_kept_aside_and_holds_up_no_other(
    stack: Stack, name: str
) -> None:
    schema = {"properties": {"data": {"properties": {"n": {"maximum": 5}}}}}
    body = {"schemaType": "JSON", "schema": json.dumps(schema)}
    async with stack.session() as session:
        url = f"/registry/subjects/{name}/versions"
        async with session.post(url, json=body) as response:
            assert response.status == 200
    await stack.context(name, {**SOURCE, "schema": {"subject": name, "on_violation": "reject"}})
    status, problem, _ = await post(stack, name, [event(7), event(8)])
    assert (status, problem["type"].rsplit("/", 1)[1]) == (422, "schema-violation")
    status, answer, _ = await post(stack, name, [event(6), event(2), event(9), event(3)])
    assert status == 202
    ids = answer["event_ids"]
    assert told(await stack.updates(name, 2)) == [ids[1], ids[3]]

    async def dead() -> Any:
        found = (await stack.get("/dead-letters", tool=name))["letters"]
        return found if len(found) == 2 else None

    letters = await eventually(dead, "both are dead letters")
    assert {letter["event_id"] for letter in letters} == {ids[0], ids[2]}
    assert {letter["stage"] for letter in letters} == {"schema"}


async def test_refused_batch_is_replayed_whole(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "hubspot", "secrets": ["another-client-secret"]})
    items = [
        {"eventId": number, "subscriptionType": "contact.creation", "objectId": number}
        for number in (1, 2)
    ]
    body = json.dumps(items).encode()
    headers = PROVIDERS["hubspot"].sign(
        body, "the-client-secret", SignatureOptions(), now=time.time(), event_type="",
        delivery_id="", url=f"{stack.url}/hooks/{name}",
    )  # fmt: skip
    assert (await post(stack, name, items, headers))[0] == 401

    async def refused() -> Any:
        return (await stack.get(f"/tools/{name}/refusals"))["refusals"]

    [refusal] = await eventually(refused, "the refusal is kept")
    await stack.put(f"/tools/{name}", {"provider": "hubspot", "secrets": ["the-client-secret"]})
    path = f"/api/v1/tools/{name}/refusals/{refusal['refusal_id']}/replay"
    async with stack.session() as session, session.post(URL(path)) as response:
        answer = await response.json()
    assert response.status == 202
    assert told(await stack.updates(name, 2)) == answer["event_ids"]
    assert answer["event_id"] == answer["event_ids"][0]


async def test_what_some_partitions_refuse_is_a_503_and_its_retry_doubles_nothing(
    tmp_path: Path,
) -> None:
    with Stack(tmp_path, HOOKSTREAM_SPOOL_MAX_BYTES="1024") as stack:
        await stack.opened()
        # over all partitions
        await stack.context("spread", {**SOURCE, "ordering": {"by": "none"}})
        items = [event(number) for number in range(64)]
        server = redis.Redis.from_url(str(embedded.find_valkey(tmp_path / "state")))
        stream = keys.events(3)
        server.rename(stream, "aside") if server.exists(stream) else None
        server.set(stream, "no stream")
        status, _, _ = await post(stack, "spread", items)
        assert status == 503
        server.delete(stream)
        server.rename("aside", stream) if server.exists("aside") else None

        async def accepted() -> bool:
            return (await post(stack, "spread", items))[0] == 202

        await eventually(accepted, "the batch is accepted", 60)
        updates = await stack.updates("spread", 64)
        assert sorted(numbers(updates)) == list(range(64))
        await post(stack, "spread", [event(1000)])
        [last] = await stack.updates("spread", 1, after=updates[-1]["seq"])
        assert numbers([last]) == [1000]


async def test_batches_around_a_killed_redis_are_there_once_and_in_order(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        await stack.context("t", SOURCE)
        sent: list[int] = []
        sending = True

        async def send() -> None:
            number = 0
            while sending:
                batch = [event(n) for n in range(number, number + 50)]
                # as senders do: the same again until it is taken
                while True:
                    try:
                        status, _, _ = await post(stack, "t", batch)
                    except aiohttp.ClientError:
                        status = 0
                    if status == 202:
                        break
                    await asyncio.sleep(0.1)
                sent.extend(range(number, number + 50))
                number += 50

        sender = asyncio.create_task(send())

        async def taken(most: int) -> None:
            async def is_taken() -> bool:
                return len(sent) > most

            await eventually(is_taken, f"more than {most} are taken", 60)

        for most in (300, 600):
            await taken(most)
            server = next(one for one in stack.processes() if "valkey" in one.name())
            server.kill()
        await taken(1200)
        sending = False
        await sender
        updates = await stack.updates("t", len(sent))
        assert numbers(updates) == sent
