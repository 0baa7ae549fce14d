"""Envelopes of a newer major version: held by workers that cannot read them, never lost."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import orjson
import redis.asyncio

from hookstream.app import embedded, tasks
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.redis import keys
from hookstream.app.streams.assignment import OLDER_SECONDS
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import encode_event
from hookstream.codecs.routed import Target, encode_routed
from hookstream.proto.envelope_pb2 import Envelope
from tests.support.stack import Stack, eventually, fresh

#: What a newer build would be: one that reads version 5 as well, which is like version 2 here.
NEWER = """
import hookstream.codecs.envelope as envelope
envelope.KNOWN_VERSIONS = frozenset({1, 2, 3, 4, 5})
"""
PARTITIONS = 8


def newer_envelope(name: str, number: int, partition: int) -> tuple[str, bytes]:
    """An event's id, and its envelope as a newer receiver would have written it."""
    event_id = new_event_id(1_767_225_600_000 + number, partition, number)
    event = make_event(
        {"n": number},
        event_id=event_id,
        tool_id=name,
        message_id=f"{name}:unknown:{number}",
    )
    envelope = Envelope.FromString(encode_event(event))
    envelope.schema_version = 5
    envelope.payload_bytes = len(event.payload)
    return event_id, envelope.SerializeToString()


async def test_entries_of_a_newer_version_wait_and_come_once_a_newer_worker_runs(
    tmp_path: Path,
) -> None:
    with Stack(tmp_path) as old:
        await old.context("new", {"provider": "none"})
        client: Any = redis.asyncio.Redis.from_url(
            str(embedded.find_valkey(tmp_path / "state")), protocol=2
        )
        ids = []
        for number in range(20):
            event_id, envelope = newer_envelope("new", number, 3)
            await client.xadd(keys.events(3), {"d": envelope})
            ids.append(event_id)
        # routed by a newer worker into a partition that an older one owns; the second is a copy
        q = partition_of(PARTITIONS, "default", "new")
        routed_id, envelope = newer_envelope("new", 99, 5)
        routed = encode_routed(5, "7-0", "7-0", envelope, [Target("new", "normal", "all")])
        for _ in range(2):
            await client.xadd(keys.updates(q), {"d": routed})
        # and two that a newer worker has deferred under pressure
        deferred_ids = []
        for number in (200, 201):
            event_id, envelope = newer_envelope("new", number, 5)
            routed = encode_routed(5, f"{number}-0", "7-0", envelope, [Target("new", "low", "all")])
            names = orjson.dumps({"default/new": None})
            await client.xadd(keys.deferred(q, "low"), {"d": routed, "k": names})
            deferred_ids.append(event_id)

        async def held() -> Any:
            part = (await old.health())["parts"]["versions"]
            return part if part["held"] == [{"version": 5, "entries": 23}] else None

        part = await eventually(held, "23 entries are held")
        assert (part["status"], part["reads"]) == ("degraded", [1, 2, 3, 4])
        assert "23 of version 5" in part["detail"]
        assert "upgrade the workers" in part["detail"]
        assert (await old.health())["status"] == "degraded"
        async with old.session() as session, fresh(session, "/metrics") as response:
            assert 'hookstream_quarantined_entries{version="5"} 23.0' in await response.text()
        # what is readable goes on meanwhile, and nothing is dead
        good = await old.hook("new", b'{"n": 100}')
        assert (await old.updates("new", 1))[0]["event_id"] == good
        assert (await old.get("/dead-letters"))["letters"] == []
        await client.aclose()
    # an old worker again: they wait on
    with Stack(tmp_path) as old:
        assert (await old.health())["parts"]["versions"]["held"] == part["held"]
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NEWER)
    with Stack(tmp_path, PYTHONPATH=f"{site}:{Path.cwd()}") as newer:
        updates = await newer.updates("new", 23, after=1)
        got = [update["event_id"] for update in updates]
        assert [event_id for event_id in got if event_id in ids] == ids
        assert [event_id for event_id in got if event_id in deferred_ids] == deferred_ids
        assert got.count(routed_id) == 1

        async def done() -> bool:
            shown = (await newer.health())["parts"]["versions"]
            return (shown["status"], shown["held"]) == ("ok", [])

        await eventually(done, "nothing is held any more")
        assert (await newer.get("/contexts/new"))["last_seq"] == 24


async def test_payloads_travel_on_only_while_a_worker_lives_that_needs_them(tmp_path: Path) -> None:
    """One of an older release does not say what it reads: it is sent what it knows."""
    with Stack(tmp_path) as stack:
        await stack.opened()
        await stack.context("two", {"provider": "none"})
        client: Any = redis.asyncio.Redis.from_url(
            str(embedded.find_valkey(tmp_path / "state")), protocol=2
        )
        q = keys.updates(partition_of(PARTITIONS, "default", "two"))

        numbers = itertools.count()

        async def travels_whole() -> bool:
            """Whether the next event's payload is in what is appended for its context."""
            body = {"title": f"door {next(numbers)}", "z": [{"z": "needle"}]}
            async with asyncio.timeout(20), client.monitor() as monitor:
                await stack.hook("two", orjson.dumps(body))
                async for seen in monitor.listen():
                    if seen["command"].startswith(f"XADD {q} "):
                        return "needle" in seen["command"]
            raise AssertionError("nothing was appended")

        assert not await travels_whole()

        async def lives() -> None:
            # it takes no partitions: it says that it cannot open any
            note = orjson.dumps(
                {"cannot": {str(n): "of an older release" for n in range(PARTITIONS)}}
            )
            while True:
                seconds, _ = await client.time()
                now_ms = seconds * 1000
                await client.zadd(keys.WORKERS, {"older": now_ms + 10_000})
                await client.hset(keys.WORKER_NOTES, "older", b"%d %b" % (now_ms, note))
                await asyncio.sleep(0.3)

        async def forgotten() -> None:
            await client.zrem(keys.WORKERS, "older")
            await client.hdel(keys.WORKER_NOTES, "older")

        older = asyncio.create_task(lives())
        await eventually(travels_whole, "the older worker is known")
        await tasks.stop(older)
        await forgotten()

        async def finished() -> bool:
            return not await travels_whole()

        await eventually(finished, "it has gone")
        # one that takes partitions gets them once there is nothing in them that it cannot read
        seconds, micros = await client.time()
        came = seconds + micros / 1e6
        await client.zadd(keys.WORKERS, {"older": (seconds + 60) * 1000})

        async def handed_over() -> bool:
            leases = [await client.hget(keys.lease(n), "expires_ms") for n in range(PARTITIONS)]
            seconds, _ = await client.time()
            return any(int(lease) < seconds * 1000 for lease in leases)

        await eventually(handed_over, "it gets its share")
        seconds, micros = await client.time()
        assert seconds + micros / 1e6 - came >= OLDER_SECONDS
        await client.aclose()
