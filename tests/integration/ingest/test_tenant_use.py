"""Processes share what tenants have sent by Redis: a quota holds for all of them together."""

from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio

from hookstream.app.errors import LimitError
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.tenants import Tenant, TenantQuotas

DAY_MS = 86_400_000
NOW = 20_000 * DAY_MS + 1000


class Clock:
    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def door(redis_client: redis.asyncio.Redis) -> Callable[..., TenantUse]:
    clock = Clock()

    def made(name: str, **quotas: Any) -> TenantUse:
        catalog = Catalog(1, tenants={"t": Tenant("t", quotas=TenantQuotas(**quotas))})
        use = TenantUse(redis_client, lambda: catalog, clock, name)
        use.clock = clock  # type: ignore[attr-defined]
        return use

    return made


async def test_a_days_quota_is_of_all_processes_and_ends_with_the_day(
    door: Callable[..., TenantUse],
) -> None:
    one, two = door("one", events_per_day=10), door("two", events_per_day=10)
    one.take("t", 6, 100)
    two.take("t", 4, 50)
    assert one.has_room("t")
    await one.share()
    await two.share()
    with pytest.raises(LimitError, match="events_per_day") as refused:
        two.look_at("t")
    assert refused.value.retry_after_seconds == (DAY_MS - 1000) / 1000
    # the other one hears of it with its next turn, asked for or not
    one.take("t", 1, 0)
    await one.share()
    with pytest.raises(LimitError):
        one.look_at("t")
    await two.share()
    used = await one.used("t")
    assert (used.events, used.bytes, dict(used.refused)) == (11, 150, {"events_per_day": 2})
    two.clock.ms += DAY_MS  # type: ignore[attr-defined]
    await one.share()
    await two.share()
    assert two.has_room("t")
    assert (await two.used("t", 1)).events == 11
    assert (await two.used("t")).events == 0


async def test_what_others_take_of_a_second_is_paid_back_here(
    door: Callable[..., TenantUse], monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr("hookstream.app.ingest.tenant_use.time.monotonic", lambda: moment[0])
    doors = [door(name, events_per_second=10.0) for name in ("one", "two")]
    accepted = 0
    for _ in range(200):
        for use in doors:
            # each alone is sent twice what may come
            for _ in range(20):
                if use.has_room("t"):
                    use.take("t", 1, 0)
                    accepted += 1
                else:
                    use.refused("t", "events_per_second")
        for use in doors:
            await use.share()
        moment[0] += 1.0
    # 200 seconds, what may come at once, and what comes until the others hear of it
    assert 1950 <= accepted <= 2000 + 100


async def test_sockets_are_counted_over_processes_until_they_say_nothing_more(
    door: Callable[..., TenantUse], redis_client: redis.asyncio.Redis
) -> None:
    one, two = door("one", sockets=2), door("two", sockets=2)
    with one.one_more_socket("t"), two.one_more_socket("t"):
        await one.share()
        await two.share()
        assert two.sockets("t") == 2
        with pytest.raises(LimitError, match="sockets"), two.one_more_socket("t"):
            pass
    for use in (one, two, one):
        await use.share()
    assert (one.sockets("t"), two.sockets("t")) == (0, 0)
    # one that was killed has not said that it has none any more
    with one.one_more_socket("t"):
        await one.share()
        one.clock.ms += 60_000  # type: ignore[attr-defined]
        with two.one_more_socket("t"):
            await two.share()
            assert two.sockets("t") == 1
    assert list(await redis_client.hkeys(keys.TENANT_SOCKETS)) == [b"two"]


async def test_counts_are_kept_while_redis_is_away_and_end_with_the_tenant(
    door: Callable[..., TenantUse], redis_client: redis.asyncio.Redis
) -> None:
    use = door("one", events_per_day=3)
    use.take("t", 3, 30)
    await redis_client.set(keys.tenant_use(NOW // DAY_MS), "no hash")
    with pytest.raises(redis.exceptions.ResponseError):
        await use.share()
    with pytest.raises(LimitError):
        use.look_at("t")
    await redis_client.delete(keys.tenant_use(NOW // DAY_MS))
    await use.share()
    assert (await use.used("t")).events == 3
    await use.forget("t")
    assert (await use.used("t")).events == 0
    assert use.has_room("t")
