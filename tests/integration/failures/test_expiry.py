"""Dead letters end after their time, by their owner; what blocks others stays."""

import time
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from hookstream.app.failures import alerts as alerts_module
from hookstream.app.failures import expiry as expiry_module
from hookstream.app.failures.alerts import Alerts
from hookstream.app.failures.expiry import DeadLetterExpiry
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.streams.partition import Partition

DAY = 86_400_000
NOW = 1_800_000_000_000


class Letters:
    """The dead letters of one partition, and who owns it."""

    def __init__(self, client: Any) -> None:
        self.redis = client
        self.scripts = Scripts(client)
        self.partition = Partition(0, 1, "n")
        self.partition.add(FailureState())
        self.now_ms = NOW
        self.expiry = DeadLetterExpiry(
            client,
            self.scripts,
            Settings(),
            now_ms=lambda: self.now_ms,
            owned=lambda: {0: self.partition},
        )

    async def die(self, name: str, at_ms: int) -> None:
        fields = {"tool_id": f"tool-{name[0]}", "stage": "route", "state": "dead", "raw": "x"}
        await self.redis.hset(keys.failed_event(0, name), mapping=fields)
        await self.redis.zadd(keys.dead(0), {name: at_ms})
        await self.redis.hset(keys.pins(0), name, "1-1")

    async def left(self) -> list[str]:
        names = [name.decode() for name in await self.redis.zrange(keys.dead(0), 0, -1)]
        for name in names:
            assert await self.redis.exists(keys.failed_event(0, name))
        assert await self.redis.hlen(keys.pins(0)) == len(names)
        assert len(await self.redis.keys("{hs:0}:letter:*")) == len(names)
        return names


@pytest.fixture
async def letters(redis_client: "redis.asyncio.Redis") -> Letters:
    made = Letters(redis_client)
    await made.scripts.load()
    await redis_client.hset(keys.lease(0), mapping={"epoch": 1, "nonce": "n"})
    return made


def expired(tool_id: str) -> float:
    name = "hookstream_dead_letters_expired_total"
    return REGISTRY.get_sample_value(name, {"tool": tool_id}) or 0.0


async def test_letters_go_when_their_time_is_over_and_it_is_said(
    letters: Letters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(expiry_module, "PAGE", 3)
    before = expired("tool-a")
    for n in range(8):
        await letters.die(f"a{n}", NOW - 31 * DAY + n)
    await letters.die("b0", NOW - 29 * DAY)
    assert await letters.expiry.expire() == 8
    assert await letters.left() == ["b0"]
    assert expired("tool-a") == before + 8
    [line] = [line for line in caplog.messages if "thrown away" in line]
    assert "8 dead letters older than 30 days" in line
    assert "tool-a: 8" in line
    assert "a0, a1" in line
    assert await letters.expiry.expire() == 0


async def test_what_blocks_others_stays_and_is_in_no_other_ones_way(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry_module, "PAGE", 2)
    for n in range(6):
        await letters.die(f"a{n}", NOW - 31 * DAY + n)
    state = letters.partition[FailureState]
    state.blocked.update({"tool-a/k": "a0", "tool-a/l": "a1", "tool-a/m": "a3"})
    assert await letters.expiry.expire() == 3
    assert await letters.left() == ["a0", "a1", "a3"]
    # somebody has resolved it
    state.blocked.clear()
    assert await letters.expiry.expire() == 3


async def test_one_that_was_tried_again_meanwhile_stays(letters: Letters) -> None:
    await letters.die("a0", NOW - 31 * DAY)
    call = letters.scripts.call

    async def tried_again(name: str, *arguments: Any) -> Any:
        if name == "expire_letter":
            # tried again, and dead again
            await letters.redis.zadd(keys.dead(0), {"a0": NOW})
        return await call(name, *arguments)

    letters.scripts.call = tried_again  # type: ignore[method-assign]
    assert await letters.expiry.expire() == 0
    assert await letters.left() == ["a0"]


async def test_only_the_owner_throws_away(letters: Letters) -> None:
    await letters.die("a0", NOW - 31 * DAY)
    await letters.redis.hset(keys.lease(0), "nonce", "another")
    assert await letters.expiry.expire() == 0
    assert await letters.left() == ["a0"]
    assert letters.partition.lost is not None


async def test_alerts_that_nobody_sends_any_more_end(redis_client: "redis.asyncio.Redis") -> None:
    scripts = Scripts(redis_client)
    alerts = Alerts(redis_client, scripts, Settings(), catalog=Catalog)
    now_ms = time.time_ns() // 1_000_000
    for name, at_ms in (("old", now_ms - alerts_module.KEEP_MS - 1), ("new", now_ms)):
        await redis_client.zadd(keys.ALERTS_DUE, {name: at_ms})
        await redis_client.hset(keys.ALERTS, name, "{}")
    await alerts._drop_old()
    assert await redis_client.zrange(keys.ALERTS_DUE, 0, -1) == [b"new"]
    assert await redis_client.hkeys(keys.ALERTS) == [b"new"]
