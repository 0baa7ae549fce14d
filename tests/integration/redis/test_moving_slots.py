"""A cluster whose slots move from master to master while commands are on their way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import TryAgainError

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts, connect
from hookstream.app.redis.durability import Durability
from tests.support.servers import ClusterSet
from tests.support.slots import MOVES, Mover, filled, owned

#: So that each server has more than one connection that is free.
OTHERS = 50


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    cluster = ClusterSet(tmp_path_factory.mktemp("cluster"), replicas=0)
    yield cluster
    cluster.stop()


@pytest.fixture
async def client(masters: ClusterSet) -> AsyncIterator[Any]:
    for node in masters.nodes:
        node.ask().flushall()
    async with connect(masters.url, timeout_seconds=5.0) as client:
        yield client


def place(masters: ClusterSet, key: str) -> tuple[Mover, int]:
    """What moves a key's slot from who has it to another master, and the slot."""
    slot = key_slot(key.encode())
    [source] = [node for node in masters.nodes if slot in owned(node)]
    target = masters.nodes[(masters.nodes.index(source) + 1) % len(masters.nodes)]
    return Mover(masters, source, target), slot


@pytest.mark.parametrize("way", MOVES)
async def test_a_command_is_carried_out_once_while_its_slot_moves(
    masters: ClusterSet, client: Any, way: str
) -> None:
    """Nor does a slot that has moved break the connections that other commands are on."""
    names = [keys.stream(f"counted-{n}", partition) for partition in range(32) for n in range(2)]
    moving, done = True, dict.fromkeys(names, 0)

    async def count(name: str) -> None:
        while moving:
            await client.incr(name)
            done[name] += 1

    async def move() -> None:
        source, target = masters.nodes[:2]
        for _ in range(2):
            slots = filled(source)
            assert len(slots) > 5
            await asyncio.to_thread(MOVES[way], Mover(masters, source, target), slots)
            source, target = target, source

    counting = [asyncio.create_task(count(name)) for name in names]
    while not all(done.values()):
        await asyncio.sleep(0.01)
    await move()
    moving = False
    await asyncio.gather(*counting)
    assert {name: int(await client.get(name)) for name in names} == done


async def test_a_key_that_has_gone_ahead_is_found_whatever_else_is_asked(
    masters: ClusterSet, client: Any
) -> None:
    """ASKING counts for the next command of its connection alone."""
    name = keys.events(3)
    await client.set(name, 0)
    # there are several free connections to each of them
    await asyncio.gather(*(client.set(f"other-{n}", n) for n in range(OTHERS)))
    mover, slot = place(masters, name)
    mover.begin(slot)
    mover.carry(name)
    for _ in range(10):
        await client.incr(name)
    await asyncio.gather(*(client.incr(name) for _ in range(10)))
    mover.end(slot)
    assert await client.get(name) == b"20"


async def test_what_has_keys_on_both_sides_is_refused_as_nothing_written(
    masters: ClusterSet, client: Any
) -> None:
    """A commit that is refused so is tried again by who has the partition: it is not lost."""
    first, second = keys.stream("one", 4), keys.stream("two", 4)
    await client.hset(first, "f", "1")
    await client.hset(second, "f", "1")
    mover, slot = place(masters, first)
    scripts = Scripts(client)
    call = ("find_tiers", [first, second], [])
    mover.begin(slot)
    mover.carry(first)
    with pytest.raises(TryAgainError, match="on the move"):
        await scripts.call(*call)
    mover.carry(second)
    mover.end(slot)
    assert await client.hget(first, "f") == b"1"


@pytest.mark.parametrize("gone", ["ahead", "with its slot"])
async def test_an_append_is_sent_on_in_its_order(
    masters: ClusterSet, client: Any, gone: str
) -> None:
    name, other = keys.events(5), keys.events(6)
    durability = Durability(client, "local")
    first = await durability.run([(key, ("XADD", key, "*", "d", "0")) for key in (name, other)])
    assert not [reply for reply in first if isinstance(reply, Exception)]
    mover, slot = place(masters, name)
    mover.begin(slot)
    mover.carry(name)
    if gone == "with its slot":
        mover.end(slot)
    calls = [(key, ("XADD", key, "*", "d", str(n))) for n in range(1, 9) for key in (name, other)]
    replies = await durability.run(calls)
    assert not [reply for reply in replies if isinstance(reply, Exception)]
    for key in (name, other):
        assert [fields[b"d"] for _, fields in await client.xrange(key)] == [
            b"%d" % n for n in range(9)
        ]
    if gone == "ahead":
        mover.end(slot)


async def test_a_commit_that_takes_the_last_of_a_key_is_whole_on_the_move(
    masters: ClusterSet, client: Any
) -> None:
    """In such a slot a script may not look for a key that is gone, be it by its own doing."""
    lease, source, blocked = keys.lease(7), keys.events(7), keys.blocked_keys(7)
    await client.hset(lease, mapping={"epoch": "1", "nonce": "n"})
    await client.xadd(source, {"d": "1"})
    await client.hset(blocked, "one", "1")
    writes = [part for name in ("one", "another") for part in ("HDEL", 3, 1, name)]
    appends = ["XADD", 2, 3, "*", "d", "2"]
    mover, slot = place(masters, lease)
    mover.begin(slot)
    head = ["1", "n", "events", 0, keys.GROUP, 0, 3]
    await Scripts(client).call("commit", [lease, source, blocked], [*head, *writes, *appends])
    assert await client.hget(lease, "sequence") == b"1"
    assert await client.xlen(source) == 2
    assert not await client.exists(blocked)
    mover.carry_all(slot)
    mover.end(slot)


@pytest.mark.parametrize("ended", [False, True])
async def test_keys_are_found_on_a_master_that_has_joined_since(
    masters: ClusterSet, client: Any, ended: bool
) -> None:
    """How a cluster grows: its clients have never heard of the one that takes slots."""
    name = keys.events(8)
    await client.set(name, 0)
    new = await asyncio.to_thread(masters.join)
    [source] = [node for node in masters.nodes if key_slot(name.encode()) in owned(node)]
    mover, slot = Mover(masters, source, new), key_slot(name.encode())
    mover.begin(slot)
    mover.carry(name)
    if ended:
        mover.end(slot)
    await asyncio.gather(*(client.incr(name) for _ in range(10)))
    assert await client.get(name) == b"10"
    if not ended:
        mover.end(slot)
