"""Turns: one long piece of work at a time, the most urgent first, and nobody waits for ever."""

import asyncio

import pytest

from hookstream.app.streams.scheduler import Scheduler, begins, due
from hookstream.app.streams.shares import EVENT_SECONDS


async def test_what_is_due_first_goes_first_and_takes_over() -> None:
    scheduler, seen = Scheduler(slice_seconds=0.0, at_once=1), list[str]()

    async def work(name: str, due_at: float, steps: int) -> None:
        async with scheduler.slot(due_at) as slot:
            for _ in range(steps):
                seen.append(name)
                await slot.pause()

    slow = asyncio.create_task(work("low", 9.0, 8))
    await asyncio.sleep(0)
    await asyncio.gather(work("high", 2.0, 2), work("critical", 1.0, 2), slow)
    begun = seen.index("critical")
    assert begun <= 4
    assert seen[begun:] == ["critical"] * 2 + ["high"] * 2 + ["low"] * (8 - begun)


async def test_others_run_while_one_has_the_turn() -> None:
    scheduler, ticks = Scheduler(slice_seconds=0.0, at_once=1), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    async with scheduler.slot(0.0) as slot:
        for _ in range(10):
            await slot.pause()
    ticker.cancel()
    assert ticks >= 10


async def test_turn_is_given_back_when_work_fails_or_its_task_is_cancelled() -> None:
    scheduler = Scheduler(at_once=1)
    with pytest.raises(ValueError, match="broken"):
        async with scheduler.slot(0.0):
            raise ValueError("broken")
    async with scheduler.slot(0.0):
        waiting = asyncio.create_task(scheduler.take(1.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    # granted and cancelled in the same round: the turn goes on to the next
    await scheduler.take(0.0)
    first, second = (asyncio.create_task(scheduler.take(float(n))) for n in (1, 2))
    await asyncio.sleep(0)
    scheduler.release()
    first.cancel()
    await asyncio.wait_for(second, 1)
    scheduler.release()
    async with asyncio.timeout(1), scheduler.slot(0.0):
        pass


async def test_turn_that_was_given_up_in_a_pause_is_not_given_back_once_more() -> None:
    scheduler = Scheduler(slice_seconds=0.0, at_once=1)

    async def work() -> None:
        async with scheduler.slot(9.0) as slot:
            while True:
                await slot.pause()

    slow = asyncio.create_task(work())
    await asyncio.sleep(0)
    await scheduler.take(1.0)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    second = asyncio.create_task(scheduler.take(2.0))
    await asyncio.sleep(0)
    assert not second.done()
    scheduler.release()
    await second


async def test_only_few_work_at_once() -> None:
    scheduler, now, most = Scheduler(at_once=3), 0, 0

    async def work() -> None:
        nonlocal now, most
        async with scheduler.slot(0.0):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3


async def test_many_small_pieces_are_as_much_as_few_large_ones() -> None:
    async def most_at_once(events: int) -> int:
        scheduler, now, most = Scheduler(at_once=192), 0, 0

        async def work() -> None:
            nonlocal now, most
            async with scheduler.slot(0.0, events):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1

        await asyncio.gather(*(work() for _ in range(200)))
        return most

    assert [await most_at_once(events) for events in (64, 3, 1)] == [3, 64, 192]


async def test_who_gives_way_is_not_overtaken_by_what_is_due_later() -> None:
    scheduler, seen = Scheduler(slice_seconds=0.0, at_once=64), list[str]()

    async def work(name: str, due_at: float, events: int, steps: int) -> None:
        async with scheduler.slot(due_at, events) as slot:
            for _ in range(steps):
                seen.append(name)
                await slot.pause()

    mine = asyncio.create_task(work("mine", 2.0, 64, 8))
    await asyncio.sleep(0)
    await asyncio.gather(mine, work("later", 3.0, 1, 1), work("urgent", 1.0, 1, 1))
    assert seen.index("urgent") < 8
    assert seen[-1] == "later"


def test_low_work_that_has_waited_goes_before_new_urgent_work() -> None:
    assert due(0.0, 256, "low") < due(2.1, 1, "critical")
    assert due(0.0, 1, "critical") < due(0.0, 1, "high") < due(0.0, 1, "normal")
    assert due(0.0, 1, "critical") < due(0.0, 256, "critical")


async def test_few_critical_events_begin_beside_what_is_in_flight() -> None:
    assert begins(1, "critical")
    assert begins(8, "critical")
    assert not begins(9, "critical")
    assert not begins(1, "high")
    scheduler, seen = Scheduler(at_once=64), list[str]()

    async def work(name: str) -> None:
        async with scheduler.slot(5.0, 64):
            seen.append(name)

    async with scheduler.slot(0.0, 64):
        waiting = asyncio.create_task(work("full"))
        await asyncio.sleep(0)
        async with scheduler.slot(9.0, 1, at_once=True):
            seen.append("critical")
        # it has given back what it took beyond, and no more
        await asyncio.sleep(0)
        assert seen == ["critical"]
    await waiting
    assert seen == ["critical", "full"]


@pytest.mark.parametrize(("several", "place"), [(True, 2), (False, 20)])
async def test_a_quiet_tenant_does_not_wait_behind_all_that_a_loud_one_has(
    several: bool, place: int
) -> None:
    now, seen = 100.0, list[str]()
    scheduler = Scheduler(at_once=64, several=lambda: several, now=lambda: now)

    async def work(tenant: str, events: int) -> None:
        async with scheduler.slot_of({tenant: events}, "normal"):
            seen.append(tenant)
            await asyncio.sleep(0)

    loud = [asyncio.create_task(work("loud", 64)) for _ in range(20)]
    await asyncio.sleep(0)
    # so much later that all of them would be due, were only the time looked at
    now += 2.5 * 64 * EVENT_SECONDS
    await asyncio.gather(work("quiet", 1), *loud)
    assert seen.index("quiet") == place
    assert len(seen) == 21
    assert not scheduler._shares._shares


async def test_work_that_is_given_up_is_not_its_tenants_any_more() -> None:
    scheduler = Scheduler(at_once=1, several=lambda: True)

    async def wait() -> None:
        async with scheduler.slot_of({"loud": 500}, "normal"):
            pass

    async with scheduler.slot(0.0):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert scheduler._shares._shares
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not scheduler._shares._shares


async def test_fewer_events_go_at_a_time_where_something_may_be_critical() -> None:
    critical = False
    scheduler = Scheduler(urgent=lambda: critical)
    await scheduler.take(0.0, 64)
    await asyncio.wait_for(scheduler.take(0.0, 64), 1)
    scheduler.release(64)
    critical = True
    waiting = asyncio.create_task(scheduler.take(0.0, 64))
    await asyncio.sleep(0)
    assert not waiting.done()
    # what is critical itself begins beside it
    await asyncio.wait_for(scheduler.take(0.0, 1, at_once=True), 1)
    scheduler.release(1)
    scheduler.release(64)
    await asyncio.wait_for(waiting, 1)
