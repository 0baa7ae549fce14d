"""Turns go round by key."""

import asyncio

from hookstream.app.feeds.turns import FairTurns


async def test_who_has_many_waiting_makes_nobody_wait_for_all_of_them() -> None:
    turns, had = FairTurns(1), list[str]()

    async def one(key: str) -> None:
        async with turns.turn(key):
            had.append(key)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(one("many"))
        await asyncio.sleep(0)
        assert (turns.waiting("many"), turns.waiting("honest")) == (99, 0)
        for key in ("honest", "other", "honest"):
            group.create_task(one(key))
    assert len(had) == 103
    assert had.index("honest") <= 5
    assert had.index("other") <= 5
    assert [at for at, key in enumerate(had) if key == "honest"][1] <= 8


async def test_no_more_than_so_many_at_a_time_and_nobody_waits_for_nothing() -> None:
    turns = FairTurns(3)
    inside = most = 0

    async def one(key: int) -> None:
        nonlocal inside, most
        async with turns.turn(key):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one(number % 4) for number in range(50)))
    assert most == 3
    async with asyncio.timeout(5), turns.turn("a"), turns.turn("a"), turns.turn("b"):
        pass


async def test_who_is_cancelled_loses_nobody_a_turn() -> None:
    turns = FairTurns(1)
    done = asyncio.Event()

    async def wait() -> None:
        async with turns.turn("k"):
            done.set()

    async with turns.turn("k"):
        given_up = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        given_up[0].cancel()
        last = asyncio.create_task(wait())
        await asyncio.sleep(0)
    # its turn has been given to it, and it is not there to take it
    given_up[1].cancel()
    await asyncio.gather(*given_up, last, return_exceptions=True)
    assert done.is_set()
    async with asyncio.timeout(5), turns.turn("another"):
        pass
