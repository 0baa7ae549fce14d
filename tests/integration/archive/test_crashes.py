"""A process that ends between any two steps: the next one goes on, nothing is lost or doubled."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hookstream.app.archive.archive import Archive
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres
from tests.support.archived import HOUR, T0, alone, archived, everything, places, store, values

DAY = 24 * HOUR

#: What a store, a compaction or an expiry does, in whichever order and how often it does.
STEPS = (
    ("manifest", "covers"),
    ("manifest", "begin"),
    ("objects", "put"),
    ("objects", "get"),
    ("objects", "get_range"),
    ("manifest", "finish"),
    ("manifest", "small_objects"),
    ("manifest", "ranges_of"),
    ("manifest", "replace"),
    ("manifest", "expire"),
    ("manifest", "abandon"),
    ("manifest", "leftovers"),
    ("objects", "delete"),
    ("manifest", "forget_leftovers"),
)


class CrashError(BaseException):
    """The process is no more."""


class Crashing:
    """Ends at the n-th step, before it or after it was carried out."""

    def __init__(self, archive: Archive, at: int, *, after: bool) -> None:
        self.left, self.after, self.crashed = at, after, False
        for part, name in STEPS:
            owner = getattr(archive, part)
            setattr(owner, name, self._step(getattr(owner, name)))

    def _step(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stepped(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0 and not self.after:
                self.crashed = True
                raise CrashError
            outcome = await step(*arguments, **named)
            if self.left < 0:
                self.crashed = True
                raise CrashError
            return outcome

        return stepped


async def crash_everywhere(
    address: ArchiveAddress,
    postgres: Postgres,
    work: Callable[[Archive], Awaitable[Any]],
    look: Callable[[Archive, bool], Awaitable[None]],
    begin: Callable[[Archive], Awaitable[Any]] | None = None,
) -> int:
    """Crash ``work`` at each of its steps; ``look`` after that, and after it was repeated."""
    for at in range(100):
        crashed = False
        for after in (False, True):
            async with Archive(address, postgres, cache_bytes=1 << 20) as clean:
                await clean.delete_tool("default", "github")
                if begin:
                    await begin(clean)
            async with Archive(address, postgres, cache_bytes=1 << 20) as first:
                crashing = Crashing(first, at, after=after)
                try:
                    await work(first)
                except CrashError:
                    crashed = True
            async with Archive(address, postgres, cache_bytes=1 << 20) as second:
                await look(second, False)
                await work(second)
                await look(second, True)
                # a day later nothing is left of it
                await second.delete_leftovers(now=datetime.now(UTC) + timedelta(days=2))
                await look(second, True)
                named = {row["name"] for row in await second.manifest.objects("", 1000)}
                assert {found.name async for found in second.objects.list()} == named
                assert [found async for found in second.verify()] == []
            assert crashing.crashed == crashed
        if not crashed:
            return at
    raise AssertionError("it never came to its end")


EVENTS = [archived(number, at_ms=T0 + number * HOUR // 4) for number in range(8)]


async def test_a_store_that_crashes_anywhere_is_finished_by_the_next(
    address: ArchiveAddress, postgres: Postgres
) -> None:
    async def look(archive: Archive, done: bool) -> None:
        found = values(await archive.find(places(EVENTS)))
        wanted = values(e.envelope for e in EVENTS)
        # all or none of two hours' objects
        assert found in (wanted, [None] * 8)
        held = await archive.holds(places(EVENTS))
        assert held == [event is not None for event in found]
        ends = [(EVENTS[0].entry_id, EVENTS[-1].entry_id)]
        assert await archive.covered("default", "github", 3, ends) == [found == wanted]
        if done:
            assert found == wanted
            assert values(e.envelope for e in await everything(archive)) == wanted
            assert (await archive.totals()).objects == 2
            # the bytes of what was begun before were gone on with
            assert len([each async for each in archive.objects.list()]) == 2

    steps = await crash_everywhere(address, postgres, lambda archive: store(archive, EVENTS), look)
    assert steps >= 8


async def test_a_compaction_that_crashes_anywhere_loses_nothing(
    address: ArchiveAddress, postgres: Postgres
) -> None:
    async def begin(archive: Archive) -> None:
        for event in EVENTS[:4]:
            await archive.store("default", "github", [event], alone([event]))

    async def look(archive: Archive, done: bool) -> None:
        wanted = values(e.envelope for e in EVENTS[:4])
        assert values(await archive.find(places(EVENTS[:4]))) == wanted
        assert values(e.envelope for e in await everything(archive)) == wanted
        if done:
            assert (await archive.totals()).objects == 1

    steps = await crash_everywhere(
        address, postgres, lambda archive: archive.compact(T0 + DAY), look, begin
    )
    assert steps >= 10


async def test_an_expiry_that_crashes_anywhere_is_finished_by_the_next(
    address: ArchiveAddress, postgres: Postgres
) -> None:
    old, new = EVENTS[:4], EVENTS[4:]

    async def begin(archive: Archive) -> None:
        await store(archive, EVENTS)

    async def look(archive: Archive, done: bool) -> None:
        found = values(await archive.find(places(old)))
        assert found in ([None] * 4, values(e.envelope for e in old))
        assert values(await archive.find(places(new))) == values(e.envelope for e in new)
        if done:
            assert found == [None] * 4
            assert len([each async for each in archive.objects.list()]) == 1

    steps = await crash_everywhere(
        address,
        postgres,
        lambda archive: archive.expire("default", "github", T0 + HOUR),
        look,
        begin,
    )
    assert steps >= 5


async def test_a_store_that_takes_a_day_is_begun_again(
    address: ArchiveAddress, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Archive(address, postgres, cache_bytes=1 << 20) as archive:
        finish, given_up = archive.manifest.finish, []

        async def late(*arguments: Any) -> bool:
            if not given_up:
                given_up.append(True)
                await archive.delete_leftovers(now=datetime.now(UTC) + timedelta(days=2))
            return await finish(*arguments)

        monkeypatch.setattr(archive.manifest, "finish", late)
        await store(archive, EVENTS)
        assert values(await archive.find(places(EVENTS))) == values(e.envelope for e in EVENTS)
        assert [found async for found in archive.verify()] == []


@pytest.mark.parametrize("split", [0, 3])
async def test_two_owners_that_store_at_the_same_time_store_it_once(
    address: ArchiveAddress, postgres: Postgres, split: int
) -> None:
    async with (
        Archive(address, postgres, cache_bytes=1 << 20) as one,
        Archive(address, postgres, cache_bytes=1 << 20) as other,
    ):
        stored = await asyncio.gather(
            store(one, EVENTS), store(other, EVENTS[split:]), return_exceptions=True
        )
        assert all(isinstance(each, (list, UnavailableError)) for each in stored), stored
        await store(one, EVENTS)
        found = await everything(one)
        assert values(e.envelope for e in found) == values(e.envelope for e in EVENTS)
        assert values(await one.find(places(EVENTS))) == values(e.envelope for e in EVENTS)
        await one.delete_leftovers(now=datetime.now(UTC) + timedelta(days=2))
        assert [each async for each in one.verify()] == []
        assert (await one.totals()).events == len(EVENTS)


async def test_what_expires_while_it_is_compacted_does_not_come_back(
    address: ArchiveAddress, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Archive(address, postgres, cache_bytes=1 << 20) as archive:
        for event in EVENTS:
            await archive.store("default", "github", [event], alone([event]))
        replace = archive.manifest.replace

        async def late(*arguments: Any) -> bool:
            await archive.expire("default", "github", T0 + HOUR)
            return await replace(*arguments)

        monkeypatch.setattr(archive.manifest, "replace", late)
        assert await archive.compact(T0 + DAY) == (0, 0)
        found = await everything(archive)
        assert values(e.envelope for e in found) == values(e.envelope for e in EVENTS[4:])
        assert [each async for each in archive.verify()] == []


async def test_two_that_compact_at_the_same_time_double_nothing(
    address: ArchiveAddress, postgres: Postgres
) -> None:
    async with (
        Archive(address, postgres, cache_bytes=1 << 20) as one,
        Archive(address, postgres, cache_bytes=1 << 20) as other,
    ):
        for event in EVENTS:
            await one.store("default", "github", [event], alone([event]))
        done = await asyncio.gather(one.compact(T0 + DAY), other.compact(T0 + DAY))
        assert sorted(removed.objects for removed in done) == [0, 8]
        found = await everything(one)
        assert values(e.envelope for e in found) == values(e.envelope for e in EVENTS)
        assert [each async for each in one.verify()] == []
