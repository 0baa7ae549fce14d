"""The Lua scripts against a real server: all or none, fenced, repeatable."""

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from hookstream.app import keys
from hookstream.app.errors import FencedError, MovedError
from hookstream.app.redis_client import Scripts

FEED = keys.feed(0, "t", "c")


@pytest.fixture
async def scripts(redis_client: "redis.asyncio.Redis") -> Scripts:
    loaded = Scripts(redis_client)
    await loaded.load()
    return loaded


async def claimed(scripts: Scripts, owner: str = "w1", nonce: str = "n1", ttl: int = 60_000) -> int:
    taken, epoch, *_ = await scripts.call("claim", [keys.lease(0)], [owner, nonce, ttl])
    return int(epoch) if taken else 0


async def pending(client: "redis.asyncio.Redis", stream: str, count: int) -> list[str]:
    """Entries that the group has read and not acknowledged."""
    await client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
    ids = [(await client.xadd(stream, {"d": b"x"})).decode() for _ in range(count)]
    await client.xreadgroup(keys.GROUP, "w1", {stream: ">"})
    return ids


async def deliver(
    scripts: Scripts, ids: list[str], expected: int, bodies: list[str], nonce: str = "n1"
) -> None:
    await scripts.call(
        "deliver",
        [keys.lease(0), keys.updates(0), keys.audit(0), keys.origins(0), keys.seqs(0), FEED],
        [
            1,
            nonce,
            keys.GROUP,
            "record",
            1,
            "t/c",
            expected,
            "cue",
            len(bodies),
            *(part for body in bodies for part in (1, body)),
            1,
            3,
            "9-9",
            *ids,
        ],
    )


async def test_lease_is_exclusive_until_it_lapses(scripts: Scripts) -> None:
    assert await claimed(scripts, ttl=150) == 1
    assert await claimed(scripts, "w2", "n2") == 0
    assert await scripts.call("renew", [keys.lease(0)], [1, "n1", 60_000]) == 1
    assert await scripts.call("renew", [keys.lease(0)], [1, "other", 60_000]) == 0
    assert await scripts.call("renew", [keys.lease(0)], [1, "n1", 0]) == 1
    assert await claimed(scripts, "w2", "n2") == 2
    assert await scripts.call("renew", [keys.lease(0)], [1, "n1", 60_000]) == 0


async def test_owner_takes_its_own_lease_back_at_once(scripts: Scripts) -> None:
    assert [await claimed(scripts), await claimed(scripts, nonce="n2")] == [1, 2]


async def test_commit_appends_and_acknowledges(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    ids = await pending(redis_client, keys.events(0), 3)
    call = (
        "commit",
        [keys.lease(0), keys.events(0), keys.audit(0)],
        [1, "n1", keys.GROUP, 2, 3, "a", 3, "b", 0, *ids],
    )
    made = await scripts.call(*call)
    assert [entry for entry, _ in await redis_client.xrange(keys.audit(0))] == made
    assert (await redis_client.xpending(keys.events(0), keys.GROUP))["pending"] == 0
    # the same again, after a lost reply: nothing is written twice
    assert await scripts.call(*call) == []
    assert await redis_client.xlen(keys.audit(0)) == 2


@pytest.mark.parametrize(("epoch", "nonce"), [(1, "other"), (2, "n1")])
async def test_stale_owner_is_fenced_and_writes_nothing(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", epoch: int, nonce: str
) -> None:
    await claimed(scripts)
    ids = await pending(redis_client, keys.events(0), 1)
    with pytest.raises(FencedError):
        await scripts.call(
            "commit",
            [keys.lease(0), keys.events(0), keys.audit(0)],
            [epoch, nonce, keys.GROUP, 1, 3, "a", 0, *ids],
        )
    assert not await redis_client.exists(keys.audit(0))
    assert (await redis_client.xpending(keys.events(0), keys.GROUP))["pending"] == 1


async def test_key_of_another_type_makes_the_commit_write_nothing(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    ids = await pending(redis_client, keys.events(0), 1)
    await redis_client.set(keys.dead(0), "no stream")
    with pytest.raises(ResponseError, match="WRONGKIND"):
        await scripts.call(
            "commit",
            [keys.lease(0), keys.events(0), keys.audit(0), keys.dead(0)],
            [1, "n1", keys.GROUP, 2, 3, "a", 4, "b", 0, *ids],
        )
    assert not await redis_client.exists(keys.audit(0))
    assert (await redis_client.xpending(keys.events(0), keys.GROUP))["pending"] == 1


async def test_feed_is_numbered_without_a_gap_and_outdated_writers_are_refused(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    ids = await pending(redis_client, keys.updates(0), 4)
    await deliver(scripts, ids[:2], 0, ["a", "b"])
    with pytest.raises(MovedError):
        # the batch was committed, and only its reply was lost
        await deliver(scripts, ids[:2], 0, ["a", "b"])
    with pytest.raises(MovedError):
        # computed from an old picture of the feed
        await deliver(scripts, ids[2:], 0, ["c"])
    with pytest.raises(FencedError):
        await deliver(scripts, ids[2:], 2, ["c"], nonce="other")
    await deliver(scripts, ids[2:], 2, ["c"])
    entries = await redis_client.xrange(FEED)
    assert [(entry, fields[b"d"]) for entry, fields in entries] == [
        (b"1-0", b"a"),
        (b"2-0", b"b"),
        (b"3-0", b"c"),
    ]
    assert await redis_client.hget(keys.seqs(0), "t/c") == b"3"
    assert await redis_client.hgetall(keys.origins(0)) == {b"3": b"9-9"}
    assert (await redis_client.xpending(keys.updates(0), keys.GROUP))["pending"] == 0


async def test_acknowledgement_never_goes_back_nor_ahead(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await redis_client.hset(keys.seqs(0), "t/c", "5")

    async def acknowledge(seq: int) -> int:
        kept = await scripts.call("acknowledge", [keys.acks(0), keys.seqs(0)], ["t/c", seq])
        return int(kept)

    assert [await acknowledge(seq) for seq in (3, 2, 99, 4)] == [3, 3, 5, 5]


async def test_script_that_the_server_forgot_is_sent_again(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await redis_client.script_flush()
    assert await claimed(scripts) == 1
