"""A line to a real server: replies in order, and what its ends and silences become."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import (
    ConnectionError,
    DataError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from hookstream.app.redis.client import connect
from hookstream.app.redis.line import Line
from tests.support.proxy import Proxy, Rule
from tests.support.servers import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node").start()
    yield node
    node.kill()


@pytest.fixture
async def line(node: Node) -> AsyncIterator[Line]:
    client = connect(node.url, timeout_seconds=1)
    line = Line.of(client)
    assert line is not None
    yield line
    line.close()
    await client.aclose()


async def test_replies_come_in_order_with_what_the_server_refuses_among_them(line: Line) -> None:
    commands: list[Any] = [("SET", "a", "1"), ("XADD", "a", "*", "d", b"x"), ("GET", "a")]
    said, refused, got = await line.run(commands)
    assert (said, got) == (b"OK", b"1")
    assert isinstance(refused, ResponseError)
    assert str(refused).startswith("WRONGTYPE")


async def test_several_at_once_each_hear_their_own(line: Line) -> None:
    replies = await asyncio.gather(*(line.run([("ECHO", str(n))] * (n + 1)) for n in range(50)))
    assert replies == [[str(n).encode()] * (n + 1) for n in range(50)]


async def test_who_gives_up_disturbs_nobody_s_replies(line: Line) -> None:
    await line.run([("PING",)])
    gone = asyncio.create_task(line.run([("ECHO", "gone")]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await line.run([("ECHO", "here")]) == [b"here"]


async def test_large_values_go_through(line: Line) -> None:
    value = b"x" * (20 << 20)
    assert await line.run([("SET", "large", value), ("STRLEN", "large")]) == [b"OK", len(value)]


async def test_what_cannot_be_sent_is_said_before_anything_is(line: Line) -> None:
    with pytest.raises(DataError):
        await line.run([("SET", "a", "1"), ("SET", "a", object())])
    assert await line.run([("EXISTS", "a")]) == [0]


async def test_a_server_that_comes_back_is_found_again(node: Node, line: Line) -> None:
    await line.run([("PING",)])
    node.kill()
    with pytest.raises(RedisError):
        await line.run([("PING",)])
    with pytest.raises(ConnectionError):
        await line.run([("PING",)])
    node.start()
    assert await line.run([("PING",)]) == [b"PONG"]


async def test_a_server_that_is_silent_is_waited_for_so_long_only(node: Node, line: Line) -> None:
    await line.run([("PING",)])
    node.signal(signal.SIGSTOP)
    try:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await line.run([("PING",)])
        assert 0.9 < asyncio.get_running_loop().time() - begun < 3
    finally:
        node.signal(signal.SIGCONT)
    assert await line.run([("PING",)]) == [b"PONG"]


@pytest.mark.parametrize("what", ["close", "tear"])
async def test_a_reply_that_is_lost_is_an_error_and_no_other_s_reply(node: Node, what: Any) -> None:
    proxy = Proxy(node.port)
    await proxy.start()
    client = connect(proxy.url, timeout_seconds=1)
    line = Line.of(client)
    assert line is not None
    try:
        await line.run([("PING",)])
        proxy.rules.append(Rule(what, lambda command: command.name == "INCR"))
        with pytest.raises(ConnectionError):
            await line.run([("INCR", "n"), ("ECHO", "late")])
        assert await line.run([("GET", "n")]) == [b"1"]
    finally:
        line.close()
        await client.aclose()
        await proxy.stop()


async def test_one_that_is_no_master_any_more_is_left(node: Node, line: Line) -> None:
    [before] = await line.run([("CLIENT", "ID")])
    node.ask().replicaof("127.0.0.1", "1")
    [refused] = await line.run([("SET", "a", "1")])
    assert isinstance(refused, ReadOnlyError)
    node.ask().replicaof("NO", "ONE")
    [after] = await line.run([("CLIENT", "ID")])
    assert after != before


async def test_a_password_and_a_database_are_as_the_client_has_them(tmp_path: Path) -> None:
    node = Node(tmp_path / "secured", "--requirepass", "s3cret")
    node.credentials = {"password": "s3cret"}
    node.start()
    client = connect(f"redis://:s3cret@127.0.0.1:{node.port}/3", timeout_seconds=1)
    line = Line.of(client)
    assert line is not None
    try:
        await line.run([("SET", "a", "1")])
        assert await client.get("a") == b"1"
        info = await client.info("keyspace")
        assert "db3" in info
    finally:
        line.close()
        await client.aclose()
        node.kill()
