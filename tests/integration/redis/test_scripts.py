"""The Lua scripts against a real server: all or none, fenced, repeatable."""

import asyncio
import itertools

import pytest
import redis.asyncio
from redis.exceptions import OutOfMemoryError, ResponseError

from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts, connect
from hookstream.app.redis.sources import script_sources
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Commit, Writes, commit, commit_all
from hookstream.app.streams.partition import Partition
from tests.support.stack import eventually

FEED = keys.feed(0, "t", "c")


@pytest.fixture
async def scripts(redis_client: "redis.asyncio.Redis") -> Scripts:
    loaded = Scripts(redis_client)
    await loaded.load()
    return loaded


async def claimed(scripts: Scripts, owner: str = "w1", nonce: str = "n1", ttl: int = 60_000) -> int:
    taken, epoch, *_ = await scripts.call("claim", [keys.lease(0)], [owner, nonce, ttl])
    return int(epoch) if taken else 0


def partition(epoch: int = 1, nonce: str = "n1") -> Partition:
    """What a worker holds of partition 0, without a table."""
    return Partition(0, epoch, nonce)


async def pending(client: "redis.asyncio.Redis", stream: str, count: int) -> list[Entry]:
    """Entries that the group has read and not acknowledged."""
    await client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
    ids = [(await client.xadd(stream, {"d": b"x"})).decode() for _ in range(count)]
    await client.xreadgroup(keys.GROUP, "w1", {stream: ">"})
    return [Entry(entry_id, b"x", None) for entry_id in ids]


def update(seq: int, body: str) -> Writes:
    """An update as the deliver stage writes it."""
    writes = Writes()
    writes.add("XADD", FEED, f"{seq}-0", "d", body)
    writes.add("HSET", keys.seqs(0), "t/c", seq)
    writes.publish("wake-up", seq)
    return writes


async def unacknowledged(client: "redis.asyncio.Redis", stream: str) -> int:
    return int((await client.xpending(stream, keys.GROUP))["pending"])


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


async def test_heartbeat_names_who_lives(scripts: Scripts) -> None:
    async def beat(worker: str, ttl_ms: int, note: str = "") -> dict[bytes, bytes]:
        sign = [worker, ttl_ms, note, 3, "7 1"]
        now, _, *others = await scripts.call("heartbeat", keys.OF_WORKERS, sign)
        assert now > 1_600_000_000_000
        return dict(zip(others[::2], others[1::2], strict=True))

    assert await beat("w1", 60_000) == {b"w1": b""}
    assert await beat("w2", 1, "a note") == {b"w1": b"", b"w2": b"a note"}
    await redis_sleep(scripts)
    assert await beat("w1", 60_000) == {b"w1": b""}
    assert await beat("w1", 0) == {}


async def test_heartbeat_says_what_every_living_worker_reads(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    async def least(worker: str, reads: int, ttl_ms: int = 60_000) -> int:
        sign = [worker, ttl_ms, "", reads, "7 1"]
        _, found, *_ = await scripts.call("heartbeat", keys.OF_WORKERS, sign)
        return int(found)

    assert await least("w1", 3) == 3
    assert await least("w2", 2) == 2
    assert await least("w1", 3) == 2
    # one that is of a release before says nothing of it
    seconds, _ = await redis_client.time()
    await redis_client.zadd(keys.WORKERS, {"old": (seconds + 60) * 1000})
    assert await least("w2", 4) == 0
    await redis_client.zrem(keys.WORKERS, "old")
    assert await least("w1", 3) == 3
    assert await least("w1", 3, 0) == 3
    assert await least("w2", 4) == 4
    assert await redis_client.hkeys(keys.WORKER_READS) == [b"w2"]
    assert await redis_client.hgetall(keys.WORKER_CATALOGS) == {b"w2": b"7 1"}


async def test_clock_that_steps_back_keeps_no_dead_worker_alive_and_no_lease_held(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    """As if Redis's clock had stepped back an hour: what was to end soon is an hour away."""
    assert await claimed(scripts, "dead", "n1", 50) == 1
    seconds, _ = await redis_client.time()
    hour = (seconds + 3600) * 1000
    await redis_client.hset(keys.lease(0), "expires_ms", str(hour))
    await redis_client.zadd(keys.WORKERS, {"dead": hour})

    async def over() -> bool:
        *_, lives = [await scripts.call("heartbeat", keys.OF_WORKERS, ["w1", 50, "", 3, "7 1"])]
        return b"dead" not in lives

    reply = await scripts.call("claim", [keys.lease(0)], ["w1", "n2", 50])
    assert reply[:2] == [0, b"dead"]
    assert reply[2] <= 50

    async def free() -> bool:
        reply = await scripts.call("claim", [keys.lease(0)], ["w1", "n2", 50])
        return bool(reply[0] == 1)

    await eventually(over, "the dead worker is not taken for alive")
    await eventually(free, "its lease lapses")


async def redis_sleep(scripts: Scripts) -> None:
    """Wait until Redis's clock has moved by some milliseconds."""
    keys_of_it = ["hs:other", "{hs:other}:notes", "{hs:other}:reads", "{hs:other}:catalogs"]
    arguments = ["x", 1, "", 3, "7 1"]
    start, *_ = await scripts.call("heartbeat", keys_of_it, arguments)
    while (await scripts.call("heartbeat", keys_of_it, arguments))[0] < start + 5:
        pass


async def test_commit_appends_and_acknowledges(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    entries = await pending(redis_client, keys.events(0), 3)
    writes = Writes()
    writes.append(keys.audit(0), b"a")
    writes.append(keys.audit(0), b"b")
    mine = partition()
    made = await commit(scripts, mine, "events", writes, entries)
    assert [entry.decode() for entry, _ in await redis_client.xrange(keys.audit(0))] == made
    assert await unacknowledged(redis_client, keys.events(0)) == 0
    # the same again, after a lost reply: nothing is written twice, and the caller hears of it
    mine = partition()
    with pytest.raises(OutdatedError):
        await commit(scripts, mine, "events", writes, entries)
    assert await redis_client.xlen(keys.audit(0)) == 2


DEATHS = keys.deaths(0, "updates")


@pytest.mark.parametrize(("epoch", "nonce"), [(1, "other"), (2, "n1")])
async def test_stale_owner_is_fenced_and_writes_nothing(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", epoch: int, nonce: str
) -> None:
    await claimed(scripts)
    entries = await pending(redis_client, keys.events(0), 1)
    writes = Writes()
    writes.append(keys.audit(0), b"a")
    with pytest.raises(FencedError):
        await commit(scripts, partition(epoch, nonce), "events", writes, entries)
    assert not await redis_client.exists(keys.audit(0))
    assert await unacknowledged(redis_client, keys.events(0)) == 1


@pytest.mark.parametrize(("epoch", "nonce"), [(1, "other"), (2, "n1")])
async def test_stale_owner_cannot_read_nor_take_over(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", epoch: int, nonce: str
) -> None:
    await claimed(scripts)
    await pending(redis_client, keys.events(0), 1)
    await redis_client.xadd(keys.events(0), {"d": b"new"})
    both = [keys.lease(0), keys.events(0)]
    with pytest.raises(FencedError):
        await scripts.call("read", both, [epoch, nonce, keys.GROUP, "w2", 10, ">", 0])
    with pytest.raises(FencedError):
        await scripts.call(
            "take_over", [*both, DEATHS], [epoch, nonce, keys.GROUP, "w2", "0-0", "0", 1]
        )
    assert not await redis_client.exists(DEATHS)
    assert await unacknowledged(redis_client, keys.events(0)) == 1
    consumers = await redis_client.xinfo_consumers(keys.events(0), keys.GROUP)
    assert [consumer["name"] for consumer in consumers] == [b"w1"]


async def test_what_was_in_hand_at_a_death_is_counted_before_it_is_read(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    async def die(*, died: bool = True) -> dict[str, int]:
        reply = await scripts.call("claim", [keys.lease(0)], ["w1", f"n{next(numbers)}", 60_000])
        lease = dict(zip(reply[2::2], reply[3::2], strict=True))
        fence.append([lease[b"epoch"], lease[b"nonce"]])
        *_, told = await scripts.call(
            "take_over", at, [*fence[-1], keys.GROUP, "w1", "0-0", "0", int(died)]
        )
        return {name.decode(): int(n) for name, n in zip(told[::2], told[1::2], strict=True)}

    numbers = itertools.count()
    fence: list[list[bytes]] = []
    at = [keys.lease(0), keys.updates(0), DEATHS]
    one, two = [entry.entry_id for entry in await pending(redis_client, keys.updates(0), 2)]
    assert await die(died=False) == {}
    assert await die() == {one: 1, two: 1}
    hold = ["in_hand", [keys.lease(0), DEATHS]]
    await scripts.call(*hold, [*fence[-1], f"alone {one} {two}"])
    # given back while it was tried: nobody died
    assert await die(died=False) == {one: 1, two: 1}
    await scripts.call(*hold, [*fence[-1], f"alone {one} {two}"])
    assert await die() == {one: 2, two: 2}
    await scripts.call(*hold, [*fence[-1], f"alone {one}"])
    assert await die() == {one: 3, two: 2, f"alone:{one}": 1}
    await scripts.call(*hold, [*fence[-1], "beside evt~r"])
    assert await die() == {one: 4, two: 3, f"alone:{one}": 1, "evt~r": 1}
    with pytest.raises(FencedError):
        await scripts.call(*hold, [*fence[0], "-"])
    await scripts.call(*hold, [*fence[-1], "-"])
    assert not await redis_client.exists(DEATHS)


async def test_a_lease_says_whether_it_was_given_back(scripts: Scripts) -> None:
    async def left_by(owner: str, nonce: str) -> tuple[int, bytes]:
        reply = await scripts.call("claim", [keys.lease(0)], [owner, nonce, 60_000])
        lease = dict(zip(reply[2::2], reply[3::2], strict=True))
        return int(reply[1]), lease[b"left_by"]

    epoch, left = await left_by("w1", "n1")
    assert left == b""
    await scripts.call("renew", [keys.lease(0)], [epoch, "n1", 0])
    assert (await left_by("w2", "n2"))[1] == b""
    assert (await left_by("w2", "n3"))[1] == b"w2 n2"


async def test_owner_takes_what_a_dead_one_left_and_reads_on(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts, "w2")
    left = await pending(redis_client, keys.events(0), 3)
    fresh = (await redis_client.xadd(keys.events(0), {"d": b"new"})).decode()
    both = [keys.lease(0), keys.events(0)]
    cursor, delivered, _, deaths = await scripts.call(
        "take_over", [*both, DEATHS], [1, "n1", keys.GROUP, "w2", "0-0", "0", 0]
    )
    assert deaths == []
    assert (cursor, delivered.decode()) == (b"0-0", left[-1].entry_id)
    own = await scripts.call("read", both, [1, "n1", keys.GROUP, "w2", 10, "0-0", 0])
    assert [entry_id.decode() for entry_id, _ in own] == [entry.entry_id for entry in left]
    new = await scripts.call("read", both, [1, "n1", keys.GROUP, "w2", 10, ">", 0])
    assert [(entry_id.decode(), parts) for entry_id, parts in new] == [(fresh, [b"d", b"new"])]
    assert await scripts.call("read", both, [1, "n1", keys.GROUP, "w2", 10, ">", 0]) == []


async def test_key_of_another_type_makes_the_commit_write_nothing(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    entries = await pending(redis_client, keys.events(0), 1)
    await redis_client.set(keys.dead(0), "no sorted set")
    writes = Writes()
    writes.append(keys.audit(0), b"a")
    writes.add("ZADD", keys.dead(0), 1, "letter")
    with pytest.raises(ResponseError, match="WRONGKIND"):
        await commit(scripts, partition(), "events", writes, entries)
    assert not await redis_client.exists(keys.audit(0))
    assert await unacknowledged(redis_client, keys.events(0)) == 1


async def written(client: "redis.asyncio.Redis", *, general: bool) -> dict[str, object]:
    """What is in partition 0 after commits of every kind; ``general``: by commit.lua alone."""
    await client.flushall()
    scripts = Scripts(client)
    await claimed(scripts)
    mine, events, updates = partition(), keys.events(0), keys.updates(0)
    batch = [
        (await client.xadd(events, {"d": b"x"}, id=f"{at}-1")).decode() for at in range(1, 400)
    ]
    await client.xadd(updates, {"d": b"y"}, id="5-5")
    for stream in (events, updates):
        await client.xgroup_create(stream, keys.GROUP, id="0")
        await client.xreadgroup(keys.GROUP, "w1", {stream: ">"})
    appended = []

    async def make(channel: str, writes: Writes, ids: list[str], *, trim: bool = False) -> None:
        if general:
            writes.add("ZREM", keys.dead(0), "nobody")
        entries = [Entry(entry_id, b"x", None) for entry_id in ids]
        appended.append(await commit(scripts, mine, channel, writes, entries, trim=trim))

    writes = Writes()
    writes.append(keys.changelog(0), b"change")
    writes.append(keys.audit(0), b"one")
    writes.append(keys.audit(0), b"two")
    await make("events", writes, batch[:3])
    await make("events", Writes(), batch[3:390], trim=True)
    # of what was blocked: older than what was worked off
    await make("events", Writes(), ["1-1"])
    writes = update(1, "a")
    writes.merge(update(2, "b"))
    writes.append(keys.audit(0), b"three")
    writes.add("HSET", keys.source_positions(0), 3, "1-1 1-2")
    await make("updates", writes, ["5-5"], trim=True)
    found: dict[str, object] = {"ids": [len(ids) for ids in appended]}
    for key in sorted(await client.keys("{hs:0}:*")):
        kind = await client.type(key)
        if kind == b"hash":
            found[key.decode()] = await client.hgetall(key)
        else:
            kept = await client.xrange(key)
            numbered = key.decode() in (FEED, events, updates)
            found[key.decode()] = kept if numbered else [fields for _, fields in kept]
    lease = found[keys.lease(0)]
    assert isinstance(lease, dict)
    del lease[b"expires_ms"]
    found["left"] = [await unacknowledged(client, stream) for stream in (events, updates)]
    return found


async def test_lean_commits_write_what_the_general_one_writes(
    redis_client: "redis.asyncio.Redis",
) -> None:
    await redis_client.config_resetstat()
    lean = await written(redis_client, general=False)
    called = await redis_client.info("commandstats")
    assert lean == await written(redis_client, general=True)
    assert lean["ids"] == [3, 0, 0, 3]
    assert lean["left"] == [9, 0]
    assert "cmdstat_zrem" not in called


@pytest.mark.parametrize("key", [keys.audit(0), keys.seqs(0), FEED, keys.updates(0)])
async def test_lean_commit_looks_at_each_key_before_it_writes(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", key: str
) -> None:
    await claimed(scripts)
    await redis_client.set(key, "of another type")
    mine, writes = partition(), update(1, "a")
    writes.append(keys.changelog(0), b"change")
    writes.append(keys.audit(0), b"a")
    with pytest.raises(ResponseError, match=f"WRONGKIND {key}"):
        await commit(scripts, mine, "updates", writes, [Entry("1-1", b"x", None)])
    assert mine.lost is None
    await redis_client.delete(key)
    assert await redis_client.keys("{hs:0}:*") == [keys.lease(0).encode()]


@pytest.mark.parametrize("denied", ["xadd", "hset", "xack", "zadd"])
async def test_commit_that_this_user_may_not_make_writes_nothing(
    redis_url: str, redis_client: "redis.asyncio.Redis", denied: str
) -> None:
    """Half of it would be done again under other numbers. A wake-up may be lost."""
    rights = ["~{hs:*", "~hs:*", "&*", "+@all", f"-{denied}", "-publish"]
    await redis_client.execute_command("ACL", "SETUSER", "half", "on", ">pw", *rights)
    split = redis_url.partition("://")
    theirs = connect(f"{split[0]}://half:pw@{split[2]}", timeout_seconds=5)
    scripts = Scripts(theirs)
    try:
        await scripts.load()
        await claimed(Scripts(redis_client))
        entries = await pending(redis_client, keys.events(0), 1)
        mine = partition()
        writes = Writes()
        writes.append(keys.audit(0), b"a")
        writes.add("HSET", keys.seqs(0), "t/c", 1)
        writes.publish("hs:feed:t/c", 1)
        if denied == "zadd":
            writes.add("ZADD", keys.dead(0), 1, "letter")
        with pytest.raises(ResponseError, match="NOTALLOWED"):
            await commit(scripts, mine, "events", writes, entries)
        assert mine.lost is None
        assert not await redis_client.exists(keys.audit(0))
        assert await unacknowledged(redis_client, keys.events(0)) == 1
        await redis_client.execute_command("ACL", "SETUSER", "half", f"+{denied}")
        await commit(scripts, mine, "events", writes, entries)
        assert await redis_client.xlen(keys.audit(0)) == 1
        assert await unacknowledged(redis_client, keys.events(0)) == 0
    finally:
        await theirs.aclose()
        await redis_client.execute_command("ACL", "DELUSER", "half")


async def test_commit_checks_the_type_of_its_source(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    await redis_client.set(keys.events(0), "no stream")
    writes = Writes()
    writes.append(keys.audit(0), b"a")
    with pytest.raises(ResponseError, match="WRONGKIND"):
        await commit(scripts, partition(), "events", writes, [Entry("1-0", b"", None)])
    assert not await redis_client.exists(keys.audit(0))


async def test_feed_is_numbered_without_a_double(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    entries = await pending(redis_client, keys.updates(0), 3)
    mine = partition()
    await commit(scripts, mine, "updates", update(1, "a"), entries[:1])
    stale = partition()
    stale.sequence = mine.sequence
    with pytest.raises(OutdatedError):
        # numbered from an old snapshot of the feed
        await commit(scripts, stale, "updates", update(1, "b"), entries[1:])
    assert await unacknowledged(redis_client, keys.updates(0)) == 2
    await commit(scripts, mine, "updates", update(2, "b"), entries[1:], trim=True)
    feed = await redis_client.xrange(FEED)
    assert [(entry, fields[b"d"]) for entry, fields in feed] == [(b"1-0", b"a"), (b"2-0", b"b")]
    assert await redis_client.hget(keys.seqs(0), "t/c") == b"2"
    assert await unacknowledged(redis_client, keys.updates(0)) == 0


async def test_rolled_back_redis_refuses_what_was_computed_before(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    """A failover that lost the newest commit: the owner's snapshot is ahead, not believed."""
    await claimed(scripts)
    entries = await pending(redis_client, keys.events(0), 2)
    mine = partition()
    await commit(scripts, mine, "events", Writes(), entries[:1])
    await redis_client.hset(keys.lease(0), "sequence", 0)
    with pytest.raises(OutdatedError):
        await commit(scripts, mine, "events", Writes(), entries[1:])
    assert await unacknowledged(redis_client, keys.events(0)) == 1


async def test_acknowledgement_never_goes_back_nor_ahead(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await redis_client.hset(keys.seqs(0), "t/c", "5")

    async def acknowledge(seq: int) -> int:
        times = keys.ack_times(0, "t", "c")
        kept = await scripts.call(
            "acknowledge", [keys.acks(0), keys.seqs(0), times, FEED], ["t/c", seq, 2]
        )
        return int(kept)

    assert [await acknowledge(seq) for seq in (1, 3, 2, 99, 5, 4)] == [1, 3, 3, -1, 5, 5]
    # where what was written down is lost, the feed says how far it is
    await redis_client.xadd(FEED, {"d": b"x"}, id="7-0")
    assert [await acknowledge(seq) for seq in (8, 7)] == [-1, 7]
    await redis_client.hdel(keys.acks(0), "t/c")
    assert await acknowledge(5) == 5
    # the times of the last two that moved on are kept
    kept = await redis_client.zrange(keys.ack_times(0, "t", "c"), 0, -1, withscores=True)
    assert [score for _, score in kept] == [5, 7]


async def test_script_that_the_server_forgot_is_sent_again(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await redis_client.script_flush()
    assert await claimed(scripts) == 1


async def test_large_payload_and_its_entry_are_there_both_or_not_at_all(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    stream, blob = keys.events(0), keys.blob(keys.events(0), "e")
    entry_id = await scripts.call("append_blob", [stream, blob], [b"entry", b"payload"])
    assert await redis_client.xrange(stream) == [(entry_id, {b"d": b"entry"})]
    assert await redis_client.get(blob) == b"payload"
    # what is no stream takes no entry, and no blob is left behind
    await redis_client.delete(blob, stream)
    await redis_client.set(stream, "no stream")
    with pytest.raises(ResponseError, match="WRONGKIND"):
        await scripts.call("append_blob", [stream, blob], [b"entry", b"payload"])
    assert await redis_client.exists(blob) == 0
    await redis_client.delete(stream)
    # over its memory the server refuses the script whole
    used = (await redis_client.info("memory"))["used_memory"]
    await redis_client.config_set("maxmemory", used - 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await scripts.call("append_blob", [stream, blob], [b"entry", b"p" * 1_000_000])
    finally:
        await redis_client.config_set("maxmemory", 0)
    assert await redis_client.exists(blob, stream) == 0


async def test_calls_of_one_moment_go_together_and_fail_alone(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    await claimed(scripts)
    sent = 0
    pipeline = redis_client.pipeline

    def counted(**given: bool) -> object:
        nonlocal sent
        sent += 1
        return pipeline(**given)

    monkeypatch.setattr(redis_client, "pipeline", counted)
    fence = [keys.lease(0)]
    replies = await asyncio.gather(
        scripts.call("renew", fence, [1, "n1", 60_000]),
        scripts.call("take_over", [*fence, "{hs:0}:x", DEATHS], [9, "n1", "g", "w", "0-0", "0", 0]),
        scripts.call("renew", fence, [1, "another", 60_000]),
        return_exceptions=True,
    )
    assert isinstance(replies[1], FencedError)
    assert (replies[0], replies[2]) == (1, 0)
    assert sent == 1


async def test_forgotten_scripts_are_sent_again_by_each_of_several_calls(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    await redis_client.script_flush()
    renewed = await asyncio.gather(
        *(scripts.call("renew", [keys.lease(0)], [1, "n1", 60_000]) for _ in range(3))
    )
    assert renewed == [1, 1, 1]


async def test_caller_that_gives_up_takes_no_other_with_it(scripts: Scripts) -> None:
    await claimed(scripts)
    calls = [
        asyncio.ensure_future(scripts.call("renew", [keys.lease(0)], [1, "n1", 60_000]))
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert await asyncio.gather(*calls[1:]) == [1, 1]
    with pytest.raises(asyncio.CancelledError):
        await calls[0]


async def test_commands_are_packed_as_redis_py_packs_them(redis_url: str) -> None:
    client = connect(redis_url, timeout_seconds=5.0)
    packed = client.connection_pool.make_connection()
    plain = redis.asyncio.Connection()
    for command in (
        ("XADD", "key", "*", "d", b"\x00\xff\r\n"),
        ("CONFIG GET", "maxmemory"),
        ("HSET", "key", "ü", 12, "b", 1.5),
        ("SET", "large", b"x" * 100_000),
    ):
        assert b"".join(packed.pack_command(*command)) == b"".join(plain.pack_command(*command))
    await client.aclose()


async def test_a_lease_of_a_redis_that_has_lost_commits_is_not_renewed(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    """Its owner has not looked at what is there now: nobody is to think so."""
    lease = keys.lease(0)
    assert (await scripts.call("claim", [lease], ["w1", "n1", 60_000]))[0] == 1
    await redis_client.hset(lease, "sequence", 5)
    before = await redis_client.hget(lease, "expires_ms")
    assert await scripts.call("renew", [lease], [1, "n1", 90_000, 6]) == -1
    assert await redis_client.hget(lease, "expires_ms") == before
    # a commit that is done and not answered yet is no loss
    assert await scripts.call("renew", [lease], [1, "n1", 90_000, 4]) == 1
    assert await redis_client.hget(lease, "expires_ms") > before


@pytest.mark.parametrize("trim", [True, False])
async def test_a_group_that_was_lost_begins_behind_what_was_worked_off(
    scripts: Scripts, redis_client: "redis.asyncio.Redis", trim: bool
) -> None:
    """Deferred updates have no origins: what came again would be delivered again."""
    await claimed(scripts)
    mine, stream = partition(), keys.deferred(0, "low")
    entries = await pending(redis_client, stream, 5)
    await commit(scripts, mine, "deferred:low", Writes(), entries[:2], trim=trim)
    await commit(scripts, mine, "deferred:low", Writes(), entries[2:4], trim=trim)
    # what was released from a list is older: it says nothing about what is behind it
    await commit(scripts, mine, "deferred:low", Writes(), [Entry("1-0", b"x", None)])
    await redis_client.xgroup_destroy(stream, keys.GROUP)
    both = [keys.lease(0), stream]
    took = await scripts.call(
        "take_over", [*both, DEATHS], [1, "n1", keys.GROUP, "w1", "0-0", "0-0", 0]
    )
    assert [part.decode() for part in took[:2]] == ["0-0", entries[3].entry_id]
    reads = [1, "n1", keys.GROUP, "w1", 10]
    assert await scripts.call("read", both, [*reads, "0-0", 0]) in ([], [[stream.encode(), []]])
    left = await scripts.call("read", both, [*reads, ">", 0])
    assert [entry_id.decode() for entry_id, _ in left] == [entries[4].entry_id]


async def test_what_is_taken_out_of_another_stream_goes_with_the_commit_or_not_at_all(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    stream = keys.deferred(0, "low")
    waiting = await pending(redis_client, stream, 3)
    entries = await pending(redis_client, keys.updates(0), 1)

    def taking(seq: int) -> Writes:
        writes = update(seq, "taken along")
        ids = [entry.entry_id for entry in waiting[:2]]
        writes.add("XACK", stream, keys.GROUP, *ids)
        writes.add("XDEL", stream, *ids)
        return writes

    with pytest.raises(FencedError):
        await commit(scripts, partition(nonce="another"), "updates", taking(1), entries)
    await redis_client.set("a-string", "x")
    wrong = taking(1)
    wrong.add("XDEL", "a-string", "1-0")
    with pytest.raises(ResponseError, match="WRONGKIND"):
        await commit(scripts, partition(), "updates", wrong, entries)
    assert await redis_client.xlen(FEED) == 0
    assert await unacknowledged(redis_client, stream) == 3
    await commit(scripts, partition(), "updates", taking(1), entries, trim=True)
    assert await redis_client.xlen(FEED) == 1
    assert await unacknowledged(redis_client, stream) == 1
    left = [entry_id.decode() for entry_id, _ in await redis_client.xrange(stream)]
    assert left == [waiting[2].entry_id]
    assert await unacknowledged(redis_client, keys.updates(0)) == 0


async def test_another_stream_under_a_name_is_read_from_its_beginning(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    stream = keys.updates(0)
    entries = await pending(redis_client, stream, 3)
    await commit(scripts, partition(), "updates", Writes(), entries, trim=True)
    await redis_client.delete(stream)
    await redis_client.xadd(stream, {"d": b"new"}, id="7-1")
    both = [keys.lease(0), stream]
    took = await scripts.call(
        "take_over", [*both, DEATHS], [1, "n1", keys.GROUP, "w1", "0-0", "0-0", 0]
    )
    assert [part.decode() for part in took[:2]] == ["0-0", "0-0"]


async def test_a_stream_that_takes_nothing_more_makes_the_commit_write_nothing(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    """What was appended before it is taken back: written again it would be there twice."""
    await claimed(scripts)
    mine = partition()
    entries = await pending(redis_client, keys.updates(0), 2)
    await redis_client.xadd(keys.audit(0), {"zz": 1}, id=f"{2**64 - 1}-{2**64 - 1}")
    told: list[str] = []
    writes = update(1, "a")
    writes.append(keys.changelog(0), b"changes", then=told.append)
    writes.append(keys.audit(0), b"audit")
    for _ in range(3):
        with pytest.raises(ResponseError, match="audit takes no such entry"):
            await commit(scripts, mine, "updates", writes, entries)
    assert mine.lost is None
    assert await redis_client.xlen(FEED) == await redis_client.xlen(keys.changelog(0)) == 0
    assert await redis_client.hget(keys.seqs(0), "t/c") is None
    assert await unacknowledged(redis_client, keys.updates(0)) == 2
    await redis_client.rename(keys.audit(0), keys.audit(0) + ":away")
    ids = await commit(scripts, mine, "updates", writes, entries)
    assert (ids[0], told) == ("1-0", [ids[1]])
    assert await redis_client.xlen(keys.audit(0)) == 1


async def test_a_feed_whose_newest_entry_was_deleted_is_looked_at_anew(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    entries = await pending(redis_client, keys.updates(0), 1)
    await redis_client.xadd(FEED, {"zz": 1}, id="900-0")
    await redis_client.xdel(FEED, "900-0")
    writes = update(1, "a")
    writes.append(keys.audit(0), b"audit")
    with pytest.raises(OutdatedError, match="takes no such entry"):
        await commit(scripts, partition(), "updates", writes, entries)
    assert await redis_client.xlen(keys.audit(0)) == 0
    state = await scripts.call(
        "feed_state", [FEED, keys.throttled_updates(0, "t", "c"), keys.seqs(0)], ["t/c"]
    )
    assert state[0] == 900


async def test_trimming_leaves_what_another_group_needs(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    await claimed(scripts)
    stream, mine = keys.stream("mine", 0), partition()
    entries = await pending(redis_client, stream, 600)
    await redis_client.xgroup_create(stream, "theirs", id="0")
    [[_, read]] = await redis_client.xreadgroup("theirs", "they", {stream: ">"}, count=400)
    for entry_id, _ in read[:200]:
        await redis_client.xack(stream, "theirs", entry_id)

    async def first() -> str:
        return str((await redis_client.xrange(stream, count=1))[0][0].decode())

    # up to what they have read and not acknowledged, by whole nodes of the stream
    await commit(scripts, mine, "mine", Writes(), entries[:500], trim=True)
    assert entries[0].entry_id != await first()
    assert len(await redis_client.xrange(stream, min=entries[200].entry_id)) == 400
    # up to what they have not read
    for entry_id, _ in read[200:]:
        await redis_client.xack(stream, "theirs", entry_id)
    await commit(scripts, mine, "mine", Writes(), entries[500:599], trim=True)
    assert entries[200].entry_id != await first()
    assert len(await redis_client.xrange(stream, min=entries[400].entry_id)) == 200
    await redis_client.xgroup_destroy(stream, "theirs")
    await commit(scripts, mine, "mine", Writes(), entries[599:], trim=True)
    assert await redis_client.xlen(stream) < 200


async def owned(client: "redis.asyncio.Redis", scripts: Scripts, number: int) -> Partition:
    """A claimed partition whose stream has one entry in hand."""
    _, epoch, *_ = await scripts.call("claim", [keys.lease(number)], ["w1", "n1", 60_000])
    return Partition(number, int(epoch), "n1")


async def test_commits_that_travel_together_fail_alone(
    redis_client: "redis.asyncio.Redis", scripts: Scripts
) -> None:
    numbers = range(6)
    partitions = [await owned(redis_client, scripts, number) for number in numbers]
    streams = [keys.events(number) for number in numbers]
    entries = [await pending(redis_client, stream, 1) for stream in streams]
    commits = []
    for one, taken in zip(partitions, entries, strict=True):
        writes = Writes()
        writes.append(keys.audit(one.number), b"what was decided")
        commits.append(Commit(one, "events", writes, taken))
    # another owner; a key of another kind; a snapshot of before; let go here
    await redis_client.hset(keys.lease(1), "nonce", "n2")
    await redis_client.set(keys.audit(2), "no stream")
    partitions[3].sequence = 7
    partitions[4].close()
    # and one that is in the middle of another commit
    lock = partitions[5].committing
    await lock.acquire()
    going = asyncio.create_task(commit_all(scripts, commits))

    async def committed() -> bool:
        return await unacknowledged(redis_client, streams[0]) == 0

    await eventually(committed, "nobody waits for another one's partition")
    assert await unacknowledged(redis_client, streams[5]) == 1
    lock.release()
    errors = await going
    kinds = [type(error) for error in errors]
    assert kinds == [
        type(None),
        FencedError,
        ResponseError,
        OutdatedError,
        FencedError,
        type(None),
    ]
    assert [await unacknowledged(redis_client, stream) for stream in streams] == [0, 1, 1, 1, 1, 0]
    assert [one.sequence for one in partitions] == [1, 0, 0, 7, 0, 1]
    # what was refused whole may be tried again; what is not known as it is has to be claimed anew
    assert [one.lost is not None for one in partitions] == [False, True, False, True, False, False]
    assert all(one.committing.free for one in partitions)


async def test_commits_whose_replies_never_come_lose_their_partitions(
    redis_client: "redis.asyncio.Redis", scripts: Scripts
) -> None:
    partitions = [await owned(redis_client, scripts, number) for number in range(3)]
    commits = [Commit(one, "events", Writes()) for one in partitions]
    await redis_client.client_pause(500)
    going = asyncio.create_task(commit_all(scripts, commits))
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    assert going.cancelled()
    assert all(one.lost is not None for one in partitions)
    assert all(one.committing.free for one in partitions)


async def test_a_server_without_scripts_is_given_those_of_commits_that_travel_together(
    redis_client: "redis.asyncio.Redis", scripts: Scripts
) -> None:
    partitions = [await owned(redis_client, scripts, number) for number in range(3)]
    await redis_client.script_flush()
    commits = [Commit(one, "events", Writes()) for one in partitions]
    assert await commit_all(scripts, commits) == [None, None, None]
    assert [one.sequence for one in partitions] == [1, 1, 1]


async def test_a_full_redis_is_read_freed_and_kept_by_its_owners(
    scripts: Scripts, redis_client: "redis.asyncio.Redis"
) -> None:
    """What grows is refused; who owns a partition goes on to, and may read, trim and forget."""
    lease, stream = keys.lease(0), keys.events(0)
    entry_id = await redis_client.xadd(stream, {"d": b"x"})
    await redis_client.config_set("maxmemory", 1)
    try:
        assert (await scripts.call("claim", [lease], ["w1", "n1", 60_000]))[0] == 1
        assert await scripts.call("renew", [lease], [1, "n1", 60_000]) == 1
        index = keys.warm_index(0, "t", "a")
        assert await scripts.call("find_tiers", [stream, index], [entry_id, 2]) == [1]
        with pytest.raises(OutOfMemoryError):
            await scripts.call("append", [stream], [b"y"])
        for name, source in script_sources().items():
            if source.startswith("-- flags: "):
                # whatever it says of keys and arguments that it is not given
                [reply] = await scripts.call_all([(name, [lease], [9, "another"])])
                assert not isinstance(reply, OutOfMemoryError), name
    finally:
        await redis_client.config_set("maxmemory", 0)
