"""Appending in groups on a real server: in which order, in how many commands, what is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hookstream.app import keys
from hookstream.app.append import Appender
from hookstream.app.durable import Durability
from hookstream.app.ids import new_event_id
from hookstream.app.redis_client import Scripts, connect
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import decode_event, encode_event
from tests.servers import Node

CLAIM_CHECK_BYTES = 2000


@asynccontextmanager
async def appending(folder: Path) -> AsyncIterator[tuple[Any, Appender]]:
    node = Node(folder)
    node.start()
    client = connect(node.url, timeout_seconds=3)
    appender = Appender(
        client,
        Durability(client, "local"),
        Scripts(client),
        folder / "spool",
        1 << 20,
        claim_check_bytes=CLAIM_CHECK_BYTES,
    )
    try:
        async with appender:
            yield client, appender
    finally:
        await client.aclose()
        node.kill()


def envelope(number: int, *, large: bool = False) -> bytes:
    event = make_event({"n": number, "text": "x" * (3000 if large else 10)})
    return encode_event(replace(event, event_id=new_event_id(number, 0, number)))


async def numbers(client: Any, key: str) -> list[int]:
    """What is in a stream, in its order; payloads beside it are fetched."""
    found = []
    for _, fields in await client.xrange(key):
        event = decode_event(fields[b"d"])
        if event.stored and event.stored.blob:
            event.stored.data = await client.get(event.stored.blob)
        found.append(event.data()["n"])
    return found


async def test_a_flush_keeps_each_stream_s_order_large_ones_among_them(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        wanted: dict[str, list[int]] = {keys.events(0): [], keys.events(1): []}
        waiting = []
        for number in range(60):
            key = keys.events(number % 3 % 2)
            wanted[key].append(number)
            waiting.append(appender.append(key, envelope(number, large=number % 7 == 3)))
        await asyncio.gather(*waiting)
        for key, expected in wanted.items():
            assert await numbers(client, key) == expected
        calls = (await client.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
        # the groups between the large ones, and those; not a command an entry
        assert 9 <= calls < 40


async def test_a_stream_that_refuses_holds_up_itself_only(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        await client.set(keys.events(1), "not a stream")
        await asyncio.gather(*(appender.append(keys.events(n % 2), envelope(n)) for n in range(20)))
        assert await numbers(client, keys.events(0)) == list(range(0, 20, 2))
        assert appender.spool is not None
        assert appender.spool.entries == 10
        # once it takes entries again, what was spooled comes in its order
        await client.delete(keys.events(1))
        async with asyncio.timeout(10):
            while appender.spool.entries:
                await asyncio.sleep(0.01)
        assert await numbers(client, keys.events(1)) == list(range(1, 20, 2))


@pytest.mark.parametrize("large", [False, True])
async def test_a_lone_entry_is_one_command(tmp_path: Path, large: bool) -> None:
    async with appending(tmp_path) as (client, appender):
        await appender.append(keys.events(0), envelope(7, large=large))
        assert await numbers(client, keys.events(0)) == [7]
