"""Packing and archiving in a process of their own, and without it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from hookstream.app.bounded import Aside, BoundedPool
from hookstream.app.metrics import BOUNDED_BREACHES
from hookstream.app.stores.tiers import COLD, WARM
from hookstream.codecs.dictionaries import BOOK
from hookstream.codecs.training import train
from tests.integration.lifecycle.test_cold import HOUR, ColdHouse, cold_house

PLENTY = 4 << 30


@asynccontextmanager
async def child(memory_bytes: int = PLENTY) -> AsyncIterator[Aside]:
    async with BoundedPool(children=1, memory_bytes=memory_bytes, nice=5) as pool:
        yield Aside(pool)


@pytest.fixture
async def house(redis_client: Any, postgres_url: str, tmp_path: Path) -> AsyncIterator[ColdHouse]:
    async with cold_house(redis_client, postgres_url, tmp_path / "archive") as house:
        yield house


async def both_ways(house: ColdHouse, aside: Any) -> None:
    """All of a house's events become warm, then cold, and are what they were."""
    house.aside = aside
    house.restart()
    await house.fill()
    assert set(await house.check()) == {WARM}
    house.now_ms += 5 * HOUR
    assert await house.archived() == 200
    assert set(await house.check()) == {COLD}
    assert (await house.archive.totals()).objects == 2


async def test_a_child_packs_and_makes_objects(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Aside, "_here", None)
    async with child() as aside:
        await both_ways(house, aside)


async def test_blobs_go_along(house: ColdHouse) -> None:
    async with child() as aside:
        house.aside = aside
        house.restart()
        for n in range(1, 70):
            await house.add("a", n, blob=n % 3 == 0)
        await house.work_off()
        house.now_ms += 2 * HOUR
        assert await house.move() == 69
        assert set(await house.check()) == {WARM}


async def test_a_child_is_given_the_dictionaries_that_it_lacks(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [b'{"n": %d, "text": "%s"}' % (n, b"lorem ipsum " * (n % 50)) for n in range(300)]
    dictionary = train(samples)
    assert dictionary
    BOOK.add(dictionary)
    monkeypatch.setattr(house.payloads._dictionaries, "current", lambda tool_id: dictionary)
    async with child() as aside:
        await both_ways(house, aside)


async def test_without_a_child_that_gets_through_a_thread_does_it(house: ColdHouse) -> None:
    before = BOUNDED_BREACHES.labels(what="warm block", reason="memory")._value.get()
    async with child(memory_bytes=1 << 20) as aside:
        await both_ways(house, aside)
    assert BOUNDED_BREACHES.labels(what="warm block", reason="memory")._value.get() > before


async def test_what_is_stored_already_is_looked_at_event_by_event(house: ColdHouse) -> None:
    """A worker that crashed after the manifest was written, before blocks went."""
    async with child() as aside:
        house.aside = aside
        house.restart()
        await house.fill()
        house.now_ms += 5 * HOUR
        dropped = house.scripts

        class Cut:
            async def call(self, name: str, *arguments: Any) -> Any:
                raise RedisConnectionError(f"cut before {name}")

        house.scripts = Cut()  # type: ignore[assignment]
        with pytest.raises(RedisConnectionError):
            await house.archived()
        house.scripts = dropped
        assert (await house.archive.totals()).events in (100, 200)
        assert await house.archived() == 200
        assert (await house.archive.totals()).events == 200
        assert set(await house.check()) == {COLD}
