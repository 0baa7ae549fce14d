"""Wake-ups of feeds on a real server: clients that come all at once are told at once."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.feeds.feed import READS_AT_ONCE, Feeds
from hookstream.app.feeds.wakeups import POLL_SECONDS, Wakeups
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, connect
from hookstream.app.redis.durability import Durability
from hookstream.app.settings import Settings
from tests.support.servers import ClusterSet, Node
from tests.support.stack import eventually

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


@asynccontextmanager
async def wakeups_of(url: str, **options: Any) -> AsyncIterator[tuple[Any, Wakeups]]:
    """Wake-ups on their own, and a client."""
    client = connect(url, timeout_seconds=1)
    async with Wakeups(client, **options) as wakeups:
        yield client, wakeups
    await client.aclose()


async def told_at_once(client: Any, moved: asyncio.Event) -> bool:
    """Whether a wake-up comes before the poll of once a second would tell as well."""
    with contextlib.suppress(*REDIS_ERRORS):
        async with asyncio.timeout(POLL_SECONDS * 2):
            # once it has been told to poll there is most of a second until it is time again
            moved.clear()
            await moved.wait()
        moved.clear()
        await client.publish("c", 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS / 2):
                await moved.wait()
                return True
    return False


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_wakeups_come_again_after_their_server_was_away(tmp_path: Path, how: str) -> None:
    node = Node(tmp_path / "redis").start()
    try:
        async with wakeups_of(node.url, quiet_seconds=0.3) as (client, wakeups):
            with wakeups.watch("c") as moved:
                await eventually(lambda: told_at_once(client, moved), "wake-ups come")
                if how == "killed":
                    node.kill()
                else:
                    node.signal(signal.SIGSTOP)

                async def lost() -> bool:
                    return wakeups.failures > 0

                await eventually(lost, "the connection is given up")
                if how == "killed":
                    node.start()
                else:
                    node.signal(signal.SIGCONT)
                await eventually(lambda: told_at_once(client, moved), "wake-ups come again")
    finally:
        node.kill()


async def test_wakeups_go_to_another_node_of_a_cluster(tmp_path: Path) -> None:
    cluster = await asyncio.to_thread(ClusterSet, tmp_path)
    try:
        async with wakeups_of(cluster.url, quiet_seconds=1.0) as (client, wakeups):
            with wakeups.watch("c") as moved:
                await eventually(lambda: told_at_once(client, moved), "wake-ups come")
                [listened] = [
                    node for node in cluster.nodes if node.ask().pubsub_numsub("c")[0][1] == 1
                ]
                listened.kill()
                # it stays away: what follows is another node's
                await eventually(lambda: told_at_once(client, moved), "wake-ups come again", 60)
    finally:
        await asyncio.to_thread(cluster.stop)


async def test_any_error_of_the_library_is_survived(tmp_path: Path) -> None:
    """redis-py's cluster raises RuntimeError and AttributeError while it looks for its nodes."""
    node = Node(tmp_path / "redis").start()
    errors = iter([RuntimeError("generator raised StopIteration"), AttributeError("name")])

    class Failing:
        """A client (a stand-in: no server makes the library fail on demand) that fails twice."""

        def __init__(self, client: Any) -> None:
            self._client = client

        def pubsub(self, **options: Any) -> Any:
            for error in errors:
                raise error
            return self._client.pubsub(**options)

    client = connect(node.url, timeout_seconds=1)
    try:
        async with Wakeups(Failing(client)) as wakeups:
            with wakeups.watch("c") as moved:
                await eventually(lambda: told_at_once(client, moved), "wake-ups come")
            assert not wakeups.crashed
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


async def test_the_end_of_a_feed_is_what_can_be_read_of_it(tmp_path: Path) -> None:
    """Not the highest number given out: who waits for what was trimmed away is not behind."""
    node = Node(tmp_path / "redis").start()
    client = connect(node.url, timeout_seconds=3)
    feeds = Feeds(client, Scripts(client), Settings(), Durability(client, "local"))
    names = [("t", name) for name in ("here", "trimmed", "empty", "broken")]
    try:
        for name in names[:2]:
            await client.xadd(keys.feed(feeds.partition(*name), *name), {"d": b"{}"}, id="7-0")
        for name in names[:2] + names[3:]:
            await client.hset(keys.seqs(feeds.partition(*name)), keys.feed_field(*name), 7)
        await client.xtrim(keys.feed(feeds.partition(*names[1]), *names[1]), maxlen=0)
        await client.set(keys.feed(feeds.partition(*names[3]), *names[3]), "no stream")
        here, trimmed, empty, _ = names
        assert await feeds.ends(dict.fromkeys(names, 0)) == {here: 7, trimmed: 0, empty: 0}
        # who has come to 7 is where its feed ends; where there is nothing, Redis has lost something
        assert await feeds.ends(dict.fromkeys(names[:3], 7)) == {here: 7, trimmed: 7, empty: 0}
        assert await feeds.ends({}) == {}
    finally:
        await client.aclose()
        node.kill()
