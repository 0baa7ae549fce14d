"""The proxy does what its rules say, and nothing to anything else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.app.redis.client import Scripts
from tests.support.proxy import Proxy, command_end, reply_end
from tests.support.servers import Node

LOST = (RedisConnectionError, RedisTimeoutError)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = Node(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[Proxy]:
    node.ask().flushall()
    async with Proxy(node.port) as made:
        yield made


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Any]:
    made = Redis.from_url(proxy.url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=0.5)
    yield made
    await made.aclose()


@pytest.mark.parametrize("what", ["close", "silent", "tear"])
async def test_the_reply_is_lost_and_the_command_carried_out(
    proxy: Proxy, client: Any, node: Node, what: Any
) -> None:
    rule = proxy.on_reply(what, "INCRBY", skip=1)
    assert await client.incr("n") == 1
    with pytest.raises(LOST):
        await client.incr("n")
    assert rule.hits == 1
    assert await client.incr("n") == 3  # it was for once
    assert node.ask().get("n") == "3"


async def test_replies_before_the_lost_one_of_a_pipeline_arrive(
    proxy: Proxy, client: Any, node: Node
) -> None:
    proxy.on_reply("close", "GET", containing=b"second")
    pipe = client.pipeline(transaction=False)
    for name in ("first", "second", "third"):
        pipe.get(name)
    with pytest.raises(LOST):
        await pipe.execute()
    # large replies in pieces, and nothing is wrong with the next ones
    await client.set("large", b"x" * 3_000_000)
    assert await client.mget("large", "none") == [b"x" * 3_000_000, None]


async def test_a_script_is_known_by_its_file(proxy: Proxy, client: Any) -> None:
    scripts = Scripts(client)
    await scripts.load()
    rule = proxy.on_reply("close", "acknowledge")
    with pytest.raises(RedisError):
        await scripts.call("claim", [], [])  # its own error, which is not touched
    with pytest.raises(LOST):
        await scripts.call("acknowledge", ["a", "b", "c", "d"], ["f", 1, 1])
    assert rule.hits == 1


async def test_delay_hang_and_refuse(proxy: Proxy, client: Any, node: Node) -> None:
    proxy.on_reply("delay", "PING", seconds=0.2)
    begun = asyncio.get_running_loop().time()
    await client.ping()
    assert asyncio.get_running_loop().time() - begun >= 0.2
    proxy.hang()
    with pytest.raises(LOST):
        await client.ping()
    proxy.heal()
    assert await client.ping()
    await proxy.refuse()
    with pytest.raises(LOST):
        await client.ping()
    await proxy.start()
    assert await client.ping()


async def test_pubsub_passes(proxy: Proxy, client: Any, node: Node) -> None:
    pubsub = client.pubsub()
    await pubsub.subscribe("news")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    node.ask().publish("news", "one")
    assert (await pubsub.get_message(timeout=5))["data"] == b"one"
    await pubsub.aclose()


def test_ends_are_found_whatever_has_arrived() -> None:
    reply = b"*2\r\n*1\r\n$3\r\nabc\r\n*-1\r\n"
    assert [reply_end(reply[:cut], 0) for cut in range(len(reply))] == [-1] * len(reply)
    assert reply_end(reply + b"+OK\r\n", 0) == len(reply)
    command = b"*2\r\n$3\r\nget\r\n$1\r\na\r\n"
    assert [command_end(command[:cut], 0)[0] for cut in range(len(command))] == [-1] * len(command)
    assert command_end(command + b"*1\r\n", 0) == (len(command), b"GET", b"a")
