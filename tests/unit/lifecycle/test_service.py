"""What one partition's trouble is to the others, and when what was asked for is done."""

import asyncio
import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from hookstream.app import metrics
from hookstream.app.bounded import Aside
from hookstream.app.errors import UnavailableError
from hookstream.app.lifecycle import service as module
from hookstream.app.lifecycle.cold import WarmTotals
from hookstream.app.lifecycle.service import Lifecycle
from hookstream.app.lifecycle.status import ask_for_run, asked_runs
from hookstream.app.redis import keys
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.tiers import WARM
from hookstream.app.streams.partition import Partition


class Mover:
    """Moves so many entries of each partition a look, or raises."""

    def __init__(self, there: dict[int, int], raises: dict[int, Exception] | None = None) -> None:
        self.there = there
        self.raises = raises or {}
        self.looked: list[int] = []
        self.due_since: dict[int, int] = {}

    def keep(self, owned: Iterable[int]) -> None:
        pass

    def take(self, number: int) -> int:
        self.looked.append(number)
        if number in self.raises:
            raise self.raises[number]
        moved = min(10, self.there.get(number, 0))
        self.there[number] = self.there.get(number, 0) - moved
        return moved


class Warm(Mover):
    async def move(self, partition: Partition, pressure: Pressure, *, eager: bool) -> int:
        return self.take(partition.number)


class Cold(Mover):
    async def move(self, partition: Partition, pressure: Pressure, *, eager: bool) -> WarmTotals:
        return WarmTotals(archived=self.take(partition.number))

    async def left(self, partition: Partition, pressure: Pressure) -> WarmTotals:
        return WarmTotals(due_since_ms=700 - 100 * partition.number)

    async def check(self) -> None:
        pass

    async def expire(self, is_mine: Any, holds: Any) -> int:
        return 0

    async def compact(self) -> int:
        return 0


class Hash:
    """One hash of Redis."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    async def hget(self, name: str, field: str) -> Any:
        assert name == keys.LIFECYCLE
        return self.fields.get(field)

    async def hset(self, name: str, field: str, value: Any) -> None:
        self.fields[field] = value

    async def hincrby(self, name: str, field: str, by: int) -> int:
        self.fields[field] = int(self.fields.get(field, 0)) + by
        return int(self.fields[field])


class Memory:
    pressure = Pressure.NONE


def lifecycle(warm: Warm, cold: Cold, redis: Any = None, aside: Aside | None = None) -> Lifecycle:
    partitions = {number: Partition(number, 1, "n") for number in range(3)}
    return Lifecycle(
        redis,
        warm,  # type: ignore[arg-type]
        cold,  # type: ignore[arg-type]
        Memory(),  # type: ignore[arg-type]
        worker=lambda: "w",
        catalog=lambda: Catalog(1),
        now_ms=lambda: 1000,
        owned=lambda: partitions,
        partitions=3,
        aside=aside,
    )


@pytest.mark.parametrize(
    "error", [RedisConnectionError("away"), ValueError("a bug"), KeyError("another")]
)
async def test_trouble_with_one_partition_is_told_once_and_stops_no_other(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    there = {0: 1, 1: 1, 2: 1}
    warm, cold = Warm(there, {0: error}), Cold({}, {1: error})
    moving = lifecycle(warm, cold)
    for _ in range(2):
        run = await moving.move()
        assert run.failed.startswith("partition 1")
    assert warm.looked == [0, 1, 2] * 2
    assert {1, 2} <= set(cold.looked)
    assert caplog.text.count("events are moved later") == 1
    assert ("Traceback" in caplog.text) is not isinstance(error, RedisConnectionError)
    # what comes back after it was over is told again
    warm.raises, cold.raises = {}, {}
    await moving.move()
    warm.raises = {0: error}
    await moving.move()
    assert caplog.text.count("events are moved later") == 2


async def test_a_run_goes_on_until_nothing_more_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    warm, cold = Warm({0: 35, 2: 5}), Cold({1: 42})
    run = await lifecycle(warm, cold).move_all()
    assert (run.warm, run.archived) == (40, 42)
    assert max(*warm.there.values(), *cold.there.values()) == 0
    monkeypatch.setattr(module, "EAGER_SECONDS", 0.0)
    run = await lifecycle(Warm({0: 35}), Cold({})).move_all()
    assert run.warm == 10


async def test_a_worker_that_starts_runs_for_no_one_who_has_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    redis, warm = Hash(), Warm({0: 35})
    assert await ask_for_run(redis) == 1
    moving = lifecycle(warm, Cold({}), redis)
    async with moving:
        while "w" not in redis.fields:
            await asyncio.sleep(0.01)
        note = json.loads(redis.fields["w"])
        assert (note["asked"], note["moved"]) == (1, 10)
        assert await ask_for_run(redis) == await asked_runs(redis) == 2
        while json.loads(redis.fields["w"])["asked"] < 2:
            await asyncio.sleep(0.01)
    assert warm.there[0] == 0


async def test_what_goes_straight_to_the_archive_goes_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HURRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "HURRY_ARCHIVE_SECONDS", 0.3)
    monkeypatch.setattr(Memory, "pressure", Pressure.SPOOL)
    warm, cold = Warm({}), Cold({})
    async with lifecycle(warm, cold, Hash()):
        await asyncio.sleep(0.5)
    assert len(cold.looked) in (3, 6)
    assert len(warm.looked) > 2 * len(cold.looked)


async def test_the_lag_goes_on_while_the_archive_is_away() -> None:
    def lag() -> float:
        return float(metrics.TIER_LAG_SECONDS.labels(tier=WARM)._value.get())

    cold = Cold({}, {0: UnavailableError("no bucket")})
    moving = lifecycle(Warm({}), cold)
    run = await moving.move()
    assert (run.trouble, moving.archive_trouble) == ("no bucket", "no bucket")
    # of all partitions, also of those that nobody tried to move
    assert (cold.looked, lag()) == ([0], 0.5)
    cold.raises = {}
    await moving.move()
    assert lag() == 0


def test_moving_takes_more_of_the_time_the_longer_it_takes() -> None:
    assert [module.share_of_time(seconds) for seconds in (0, 15, 24, 60, 3600)] == [
        0.25, 0.25, 0.4, 1.0, 1.0,
    ]  # fmt: skip


async def test_what_a_child_packs_takes_nothing_of_the_time_of_moving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    aside, rests = Aside(), list[float]()

    class Packed(Warm):
        async def move(self, partition: Partition, pressure: Pressure, *, eager: bool) -> int:
            nonlocal now
            now += 4
            aside.child_seconds += 3
            return await super().move(partition, pressure, eager=eager)

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    moving = lifecycle(Packed({}), Cold({}), aside=aside)
    monkeypatch.setattr(moving, "sleep", sleep)
    await moving.move(archiving=False)
    # a second of four was its own: a quarter, with three that it rests
    assert rests == [3.0, 3.0, 3.0]
