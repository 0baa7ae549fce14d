"""Putting a stream together anew on a real server: all of it stays but what is to go."""

import os
from typing import Any

import pytest

from hookstream.app.errors import FencedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams import rewriting as module
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.rewriting import Fence, has_tombstones, rewrite

NUMBER = 3
KEY = keys.events(NUMBER)
SECRET = b"jane.doe@example.com"


@pytest.fixture
async def fence(redis_client: Any) -> Fence:
    scripts = Scripts(redis_client)
    await scripts.load()
    await redis_client.hset(keys.lease(NUMBER), mapping={"epoch": 1, "nonce": "n"})
    return Fence(scripts, Partition(NUMBER, 1, "n"))


async def fill(client: Any, count: int) -> list[str]:
    """Entries, every tenth of which has what is to go."""
    for n in range(1, count + 1):
        data = b"%d %s" % (n, SECRET if n % 10 == 0 else b"nothing")
        await client.xadd(KEY, {"d": data, "u": str(n)}, id=f"{n}-0")
    return [f"{n}-0" for n in range(10, count + 1, 10)]


@pytest.mark.parametrize("page", [7, 1000])
async def test_groups_pending_entries_and_the_last_id_stay(
    redis_client: Any, fence: Fence, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    gone = await fill(redis_client, 50)
    await redis_client.xgroup_create(KEY, "g", id="0")
    await redis_client.xgroup_create(KEY, "other", id="5-0")
    await redis_client.xreadgroup("g", "w", {KEY: ">"}, count=30)
    await redis_client.xack(KEY, "g", *(f"{n}-0" for n in range(1, 26)))
    await redis_client.xdel(KEY, "50-0")
    await redis_client.pexpire(KEY, 100_000)
    await rewrite(redis_client, fence, KEY, dict.fromkeys(gone, b"") | {"11-0": b"instead"})
    left = dict(await redis_client.xrange(KEY))
    assert set(left) == {f"{n}-0".encode() for n in range(1, 50) if n % 10}
    assert left[b"11-0"] == {b"d": b"instead", b"u": b"11"}
    assert left[b"12-0"] == {b"d": b"12 nothing", b"u": b"12"}
    groups = {g["name"]: g for g in await redis_client.xinfo_groups(KEY)}
    assert groups[b"g"]["last-delivered-id"] == b"30-0"
    assert groups[b"other"]["last-delivered-id"] == b"5-0"
    pending = await redis_client.xpending_range(KEY, "g", "-", "+", 100)
    assert [one["message_id"] for one in pending] == [b"26-0", b"27-0", b"28-0", b"29-0"]
    assert {one["consumer"] for one in pending} == {b"w"}
    info = await redis_client.xinfo_stream(KEY)
    assert info["last-generated-id"] == b"50-0"
    assert 0 < await redis_client.pttl(KEY) <= 100_000
    assert await redis_client.keys("*erasing*") == []
    # nothing of it is in memory any more, as it would be after XDEL
    assert SECRET not in await redis_client.dump(KEY)
    found = await redis_client.xreadgroup("g", "w", {KEY: ">"}, count=100)
    assert next(entry for entry, _ in found[0][1]) == b"31-0"


async def test_what_comes_meanwhile_is_taken_along_and_what_goes_stays_away(
    redis_client: Any, fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 10)
    gone = await fill(redis_client, 35)
    call, calls = fence.scripts.call, 0

    async def meanwhile(name: str, *rest: Any) -> Any:
        nonlocal calls
        reply = await call(name, *rest)
        calls += 1
        if calls == 2:
            await redis_client.xadd(KEY, {"d": "new"}, id="99-0")
            await redis_client.xtrim(KEY, minid="5-0", approximate=False)
        return reply

    monkeypatch.setattr(fence.scripts, "call", meanwhile)
    await rewrite(redis_client, fence, KEY, dict.fromkeys(gone, b""))
    left = [entry for entry, _ in await redis_client.xrange(KEY)]
    assert (left[0], left[-1]) == (b"5-0", b"99-0")
    assert calls > 2


async def test_what_was_deleted_before_goes_for_good(redis_client: Any, fence: Fence) -> None:
    gone = await fill(redis_client, 30)
    await redis_client.xdel(KEY, *gone)
    assert SECRET in await redis_client.dump(KEY)
    assert await has_tombstones(redis_client, KEY)
    await rewrite(redis_client, fence, KEY, {})
    assert await has_tombstones(redis_client, KEY)
    await rewrite(redis_client, fence, KEY, {}, torn=True)
    assert SECRET not in await redis_client.dump(KEY)
    assert await redis_client.xlen(KEY) == 27
    if "max-deleted-entry-id" in await redis_client.xinfo_stream(KEY):
        assert not await has_tombstones(redis_client, KEY)


async def test_all_of_a_stream_may_go_and_its_groups_stay(redis_client: Any, fence: Fence) -> None:
    await fill(redis_client, 3)
    await redis_client.xgroup_create(KEY, "g", id="0")
    await rewrite(redis_client, fence, KEY, {f"{n}-0": b"" for n in (1, 2, 3)})
    assert await redis_client.xlen(KEY) == 0
    assert [g["name"] for g in await redis_client.xinfo_groups(KEY)] == [b"g"]
    await redis_client.xadd(KEY, {"d": "x"}, id="4-0")


async def test_another_owner_is_refused_and_nothing_changes(
    redis_client: Any, fence: Fence
) -> None:
    gone = await fill(redis_client, 20)
    await redis_client.hset(keys.lease(NUMBER), "nonce", os.urandom(4).hex())
    with pytest.raises(FencedError):
        await rewrite(redis_client, fence, KEY, dict.fromkeys(gone, b""))
    assert await redis_client.xlen(KEY) == 20


async def test_a_stream_of_no_partition_has_its_copy_in_its_own_slot(
    redis_client: Any, fence: Fence
) -> None:
    key = keys.refusals("default", "shop")
    assert keys.rewritten(key) == "{hs:refusals:default/shop}:erasing"
    await redis_client.xadd(key, {"b": SECRET}, id="1-0")
    await redis_client.xadd(key, {"b": "x"}, id="2-0")
    await rewrite(redis_client, Fence(fence.scripts), key, {"1-0": b""})
    assert [entry for entry, _ in await redis_client.xrange(key)] == [b"2-0"]
