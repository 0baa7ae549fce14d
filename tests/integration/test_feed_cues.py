"""Cues of feeds on a real server: clients that come all at once are told at once, each of them."""

import asyncio
import contextlib
from pathlib import Path

from hookstream.app import keys
from hookstream.app.cues import POLL_SECONDS
from hookstream.app.durable import Durability
from hookstream.app.feeds import READS_AT_ONCE, Feeds
from hookstream.app.redis_client import Scripts, connect
from hookstream.app.settings import Settings
from tests.servers import Node

CLIENTS = 20


async def test_clients_that_come_at_once_share_one_connection_and_are_all_told(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path / "redis").start()
    client = connect(node.url, timeout_seconds=3)
    feeds = Feeds(client, Scripts(client), Settings(), Durability(client, "local"))
    channels = [keys.feed_channel("t", f"c{number}") for number in range(CLIENTS)]
    try:
        async with feeds:
            with contextlib.ExitStack() as watched:
                moved = [
                    watched.enter_context(feeds.watch("t", f"c{number}"))
                    for number in range(CLIENTS)
                ]
                async with asyncio.timeout(10):
                    while {count for _, count in await client.pubsub_numsub(*channels)} != {1}:
                        await asyncio.sleep(0.01)
                assert len(await client.client_list(_type="pubsub")) == 1
                # once all have been told to poll there is most of a second until it is time again
                await asyncio.gather(*(event.wait() for event in moved))
                for event in moved:
                    event.clear()
                for channel in channels:
                    await client.publish(channel, 1)
                async with asyncio.timeout(POLL_SECONDS / 2):
                    await asyncio.gather(*(event.wait() for event in moved))
    finally:
        await client.aclose()
        node.kill()


async def test_any_number_of_clients_reads_at_once_over_a_few_connections(tmp_path: Path) -> None:
    node = Node(tmp_path / "redis").start()
    client = connect(node.url, timeout_seconds=3)
    feeds = Feeds(client, Scripts(client), Settings(), Durability(client, "local"))
    try:
        await client.xadd(keys.feed(feeds.partition("t", "c"), "t", "c"), {"d": b"{}"}, id="1-0")
        found = await asyncio.gather(*(feeds.read("t", "c", 0) for _ in range(500)))
        assert all([update.seq for update in updates] == [1] for updates in found)
        assert len(await client.client_list()) <= READS_AT_ONCE + 1
        # nothing else that goes on meanwhile is refused
        assert await asyncio.gather(*(client.ping() for _ in range(200))) == [True] * 200
    finally:
        await client.aclose()
        node.kill()
