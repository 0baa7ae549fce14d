"""Dead letters are read in small pages up to a bound, in the order of all partitions."""

from collections.abc import Sequence
from random import Random
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookstream.app.failures import dead_letters as module
from hookstream.app.failures.dead_letters import DeadLetterFilter, DeadLetters, Place
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts

PARTITIONS = 4
AT = 1_764_000_000_000


@pytest.fixture
def letters(redis_client: Redis) -> DeadLetters:
    # nothing is changed here, and no payload is asked for
    return DeadLetters(redis_client, cast(Scripts, None), PARTITIONS, cast(Payloads, None))


async def fill(
    redis: Redis,
    seed: int,
    *,
    tool: str = "t",
    count: int = 700,
    tenant: str = "default",
    times: Sequence[int] = (0, 0, 0, 0, 1, 2),
) -> list[str]:
    """Letters in few milliseconds, most of them in one; their names, the newest first."""
    draw = Random(seed)
    placed = []
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        partition, at = draw.randrange(PARTITIONS), AT + draw.choice(times)
        name = f"{tool}-{draw.getrandbits(40):010x}-{number}"
        placed.append((at, name))
        pipe.zadd(keys.dead(partition), {name: at})
        letter = {"tenant": tenant, "tool_id": tool, "last_failed_ms": at, "raw": b"x" * 1000}
        pipe.hset(keys.failed_event(partition, name), mapping=letter)
    await pipe.execute()
    return [name for _, name in sorted(placed, reverse=True)]


async def walk(
    letters: DeadLetters, wanted: DeadLetterFilter, limit: int, looked_at: int = module.LOOKED_AT
) -> tuple[list[str], list[int]]:
    found: list[str] = []
    sizes: list[int] = []
    place: Place | None = None
    while True:
        page = await letters.find("default", wanted, limit, place, looked_at)
        found += [one["letter_id"] for one in page.letters]
        sizes.append(len(page.letters))
        if page.next is None:
            return found, sizes
        place = page.next


@pytest.mark.parametrize(("seed", "limit"), [(1, 7), (2, 100), (3, 1000)])
async def test_each_letter_comes_once_and_in_order(
    redis_client: Redis, letters: DeadLetters, seed: int, limit: int
) -> None:
    names = await fill(redis_client, seed)
    found, _ = await walk(letters, DeadLetterFilter(), limit)
    assert found == names


async def test_a_look_for_few_among_many_ends_at_its_bound(
    redis_client: Redis, letters: DeadLetters
) -> None:
    await fill(redis_client, 1, times=range(1000))
    rare = await fill(redis_client, 2, tool="rare", count=3)
    await redis_client.config_resetstat()
    page = await letters.find("default", DeadLetterFilter(tool="nobody"), 50, None, 200)
    assert page.letters == []
    assert page.next is not None
    stats: Any = await redis_client.info("commandstats")
    # the entries themselves are not read
    assert "cmdstat_hgetall" not in stats
    # and what failed in the millisecond that ends it
    assert 200 <= stats["cmdstat_hmget"]["calls"] <= 200 + 2 * module.PAGE
    found, sizes = await walk(letters, DeadLetterFilter(tool="rare"), 50)
    assert found == rare
    assert sum(sizes) == 3


@pytest.mark.parametrize("looked_at", [1, 60, 150])
async def test_a_place_to_go_on_names_no_letter_of_another_tenant(
    redis_client: Redis, letters: DeadLetters, looked_at: int
) -> None:
    names = await fill(redis_client, 1, count=40)
    await fill(redis_client, 2, tool="theirs", tenant="another")
    seen: list[Place] = []
    place: Place | None = None
    while (page := await letters.find("default", DeadLetterFilter(), 9, place, looked_at)).next:
        place = page.next
        seen.append(place)
    assert seen
    assert {name for _, name in seen} <= {*names, ""}
    # and none is passed over, or comes twice
    found, _ = await walk(letters, DeadLetterFilter(), 9, looked_at)
    assert found == names


async def test_many_letters_are_changed_together(redis_client: Redis) -> None:
    names = [f"~{number}-0~events~{number % PARTITIONS}" for number in range(100)]
    for number, name in enumerate(names):
        tenant = "another" if number % 10 == 0 else "default"
        await redis_client.hset(keys.failed_event(number % PARTITIONS, name), "tenant", tenant)
        await redis_client.zadd(keys.dead(number % PARTITIONS), {name: AT})
    scripts = Scripts(redis_client)
    under_way: list[int] = [0]
    most = 0

    class Watched:
        async def call(self, *given: Any) -> Any:
            nonlocal most
            under_way[0] += 1
            most = max(most, under_way[0])
            try:
                return await scripts.call(*given)
            finally:
                under_way[0] -= 1

    letters = DeadLetters(redis_client, cast(Scripts, Watched()), PARTITIONS, cast(Payloads, None))
    assert await letters.retry("default", names) == 90
    assert await letters.discard("default", names) == 0, "they are dead no more"
    # one question for many, and each change does not wait for the one before
    assert most > 8
    left = sum([await redis_client.zcard(keys.dead(number)) for number in range(PARTITIONS)])
    assert left == 10, "those of another tenant"
