"""How much each tenant sends, and whether its quotas have room for more.

Asked for every webhook, and so answered from this process's memory: of a second by a token bucket,
of a day by what has been counted. Once a second each process adds what it has counted to Redis, and
hears there what all of them have: so N processes together let a quota pass once, and not N times,
but for what comes within that second. While Redis is away each goes by what it knows.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import LimitError
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.tenants import TenantQuotas
from hookstream.app.token_bucket import Pace, TokenBuckets

__all__ = ["TenantUse", "TenantUsed"]

logger = get_logger(__name__)

SHARE_SECONDS: Final = 1.0
#: What a tenant may send at once, of what it may in a second.
BURST_SECONDS: Final = 2.0
DAY_SECONDS: Final = 86_400
#: How long the counts of a day are kept.
KEPT_SECONDS: Final = 8 * DAY_SECONDS
#: What a process has said of its sockets counts for so long.
SOCKETS_MS: Final = 10_000
EVENTS, BYTES, REFUSED = "events", "bytes", "refused"


@dataclass(slots=True)
class _Counted:
    """What one tenant has done: of this process alone, or of all of them."""

    events: int = 0
    size: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class TenantUsed:
    """What a tenant has sent in a day, and webhooks that were refused for a quota, by its name."""

    events: int
    bytes: int
    refused: Mapping[str, int]


class TenantUse(Service):
    """Counts what tenants send, refuses what is above their quotas, shares counts by Redis."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        name: str,
        **kwargs: Any,
    ) -> None:
        """``now_ms``: Redis's clock, in which a day begins; ``name``: this process's, of all."""
        super().__init__(**kwargs)
        self._redis = redis
        self._catalog = catalog
        self._now_ms = now_ms
        self._name = name
        self._buckets = TokenBuckets(0, 1)
        self._day = now_ms() // (DAY_SECONDS * 1000)
        #: What Redis has not heard of yet.
        self._fresh: dict[str, _Counted] = {}
        #: What all processes had counted of the day when this one asked last.
        self._known: dict[str, _Counted] = {}
        self._open: Counter[str] = Counter()
        self._open_elsewhere: Counter[str] = Counter()
        self._told_open = False

    # --- at the door

    def has_room(self, tenant: str) -> bool:
        """Whether :meth:`look_at` raises nothing. Costs a look-up where it has no quotas."""
        known = self._catalog().tenants.get(tenant)
        return known is None or not self._wait(tenant, known.quotas)[1]

    def look_at(self, tenant: str) -> None:
        """Refuse a webhook before its body is read, and count that.

        Raises:
            LimitError: one of the tenant's quotas is used up; the detail says which.
        """
        known = self._catalog().tenants.get(tenant)
        if known is None:
            return
        quota, wait = self._wait(tenant, known.quotas)
        if not wait:
            return
        most = getattr(known.quotas, quota)
        per = "second" if quota == "events_per_second" else "day (UTC)"
        what = "bytes" if quota == "bytes_per_day" else "events"
        raise self._refused(tenant, quota, f"its quota of {most:g} {what} a {per} is used up", wait)

    def take(self, tenant: str, events: int, size: int) -> None:
        """Count accepted events, and the bytes of their bodies: whoever has room may go over it."""
        fresh = self._fresh_of(tenant)
        fresh.events += events
        fresh.size += size
        if pace := self._pace(tenant):
            self._buckets.charge(tenant, time.monotonic(), pace, events)

    def _wait(self, tenant: str, quotas: TenantQuotas) -> tuple[str, float]:
        """Which quota is used up, and for how long; "" and 0 where none is."""
        if quotas.events_per_day is not None or quotas.bytes_per_day is not None:
            events, size = self._of_today(tenant)
            for name, used in (("events_per_day", events), ("bytes_per_day", size)):
                most = getattr(quotas, name)
                if most is not None and used >= most:
                    return name, self._until_tomorrow()
        if pace := _pace(quotas):
            wait = self._buckets.wait_seconds(tenant, time.monotonic(), pace)
            return "events_per_second", wait
        return "", 0.0

    def _pace(self, tenant: str) -> Pace | None:
        known = self._catalog().tenants.get(tenant)
        return _pace(known.quotas) if known else None

    def _of_today(self, tenant: str) -> tuple[int, int]:
        known, fresh = self._known.get(tenant), self._fresh.get(tenant)
        counted = [one for one in (known, fresh) if one is not None]
        return sum(one.events for one in counted), sum(one.size for one in counted)

    def _until_tomorrow(self) -> float:
        return DAY_SECONDS - self._now_ms() / 1000 % DAY_SECONDS

    def _fresh_of(self, tenant: str) -> _Counted:
        found = self._fresh.get(tenant)
        if found is None:
            found = self._fresh[tenant] = _Counted()
        return found

    def _refused(self, tenant: str, quota: str, said: str, wait: float | None) -> LimitError:
        self.refused(tenant, quota)
        return LimitError(f"the tenant {tenant} may not do this now: {said} ({quota})", wait)

    def refused(self, tenant: str, quota: str) -> None:
        """Count that something was refused for a quota."""
        self._fresh_of(tenant).refused[quota] += 1
        metrics.LIMITED.labels(limit=f"tenant_{quota}").inc()
        metrics.TENANT_REFUSED.labels(tenant=tenant, quota=quota).inc()

    # --- sockets

    @contextmanager
    def one_more_socket(self, tenant: str) -> Iterator[None]:
        """Count a WebSocket as a tenant's. Raises LimitError where that has all it may."""
        most = self._catalog().tenant(tenant).quotas.sockets
        if most is not None and self.sockets(tenant) >= most:
            said = f"{self.sockets(tenant)} WebSockets are open: close one, then try again"
            raise self._refused(tenant, "sockets", said, None)
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    def sockets(self, tenant: str) -> int:
        """How many WebSockets a tenant has open, in all processes."""
        return self._open[tenant] + self._open_elsewhere[tenant]

    # --- all processes

    @tasks.loop
    async def _share_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(SHARE_SECONDS)
            try:
                await self.share()
            except REDIS_ERRORS as error:
                logger.debug("what tenants have sent is counted here alone meanwhile: %s", error)

    async def on_stop(self) -> None:
        """Tell what was counted last."""
        try:
            await self.share()
            await self._redis.hdel(keys.TENANT_SOCKETS, self._name)
        except REDIS_ERRORS as error:
            logger.debug("what tenants have sent last is not counted: %s", error)

    async def share(self) -> None:
        """Tell Redis what was counted here, and hear what was elsewhere. Raises RedisError."""
        await self._share_sockets()
        today = self._now_ms() // (DAY_SECONDS * 1000)
        day = self._day
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            try:
                found = await self._add(day, fresh)
            except BaseException:
                # counted once more rather than not at all where the reply was lost
                for tenant, one in fresh.items():
                    again = self._fresh_of(tenant)
                    again.events, again.size = again.events + one.events, again.size + one.size
                    again.refused += one.refused
                raise
            now = time.monotonic()
            for tenant, counted in found.items():
                self._heard(tenant, fresh[tenant], counted, now)
        if today != day:
            self._day, self._known = today, {}

    async def _add(self, day: int, fresh: Mapping[str, _Counted]) -> dict[str, _Counted]:
        """Add to the counts of a day; what they are then."""
        key = keys.tenant_use(day)
        pipe = self._redis.pipeline(transaction=False)
        for tenant, one in fresh.items():
            # of one that was only refused, too: others may have taken what it had
            pipe.hincrby(key, f"{tenant}/{EVENTS}", one.events)
            pipe.hincrby(key, f"{tenant}/{BYTES}", one.size)
        for tenant, one in fresh.items():
            for quota, count in one.refused.items():
                pipe.hincrby(key, f"{tenant}/{REFUSED}:{quota}", count)
        pipe.expire(key, KEPT_SECONDS)
        replies = await pipe.execute()
        return {
            tenant: _Counted(replies[2 * at], replies[2 * at + 1])
            for at, tenant in enumerate(fresh)
        }

    def _heard(self, tenant: str, mine: _Counted, now_all: _Counted, now: float) -> None:
        """What the others have taken since was not theirs alone."""
        before = self._known.get(tenant)
        self._known[tenant] = now_all
        metrics.TENANT_EVENTS.labels(tenant=tenant).inc(mine.events)
        metrics.TENANT_BYTES.labels(tenant=tenant).inc(mine.size)
        if before is None:
            return
        others = now_all.events - before.events - mine.events
        if others > 0 and (pace := self._pace(tenant)):
            # no more than can have come since: who was idle here is not kept out for long
            most = round(2 * BURST_SECONDS / pace.seconds)
            self._buckets.charge(tenant, now, pace, min(others, most))

    async def _share_sockets(self) -> None:
        # who has none open has to know of others before the first one
        asked = any(one.quotas.sockets for one in self._catalog().tenants.values())
        if not (asked or self._open or self._told_open):
            return
        now_ms = self._now_ms()
        told = orjson.dumps({"at": now_ms, "open": dict(self._open)})
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(keys.TENANT_SOCKETS, self._name, told)
        pipe.hgetall(keys.TENANT_SOCKETS)
        pipe.expire(keys.TENANT_SOCKETS, DAY_SECONDS)
        _, said, _ = await pipe.execute()
        self._told_open = bool(self._open)
        self._open_elsewhere = Counter()
        old = []
        for name, text in said.items():
            one = orjson.loads(text)
            if one["at"] < now_ms - SOCKETS_MS:
                old.append(name)
            elif name != self._name.encode():
                self._open_elsewhere.update(one["open"])
        if old:
            await self._redis.hdel(keys.TENANT_SOCKETS, *old)

    async def used(self, tenant: str, days_ago: int = 0) -> TenantUsed:
        """What a tenant has sent in a day, in all processes. Raises RedisError."""
        day = self._now_ms() // (DAY_SECONDS * 1000) - days_ago
        names = [EVENTS, BYTES, *(f"{REFUSED}:{one}" for one in TenantQuotas.__slots__)]
        found = await self._redis.hmget(keys.tenant_use(day), [f"{tenant}/{n}" for n in names])
        events, size, *refused = [int(value or 0) for value in found]
        counts = dict(zip(TenantQuotas.__slots__, refused, strict=True))
        if fresh := self._fresh.get(tenant) if not days_ago else None:
            events, size = events + fresh.events, size + fresh.size
            counts = {name: count + fresh.refused[name] for name, count in counts.items()}
        return TenantUsed(events, size, {name: count for name, count in counts.items() if count})

    async def forget(self, tenant: str) -> None:
        """Forget all that was counted of a tenant. Raises RedisError."""
        self._fresh.pop(tenant, None)
        self._known.pop(tenant, None)
        today = self._now_ms() // (DAY_SECONDS * 1000)
        names = [EVENTS, BYTES, *(f"{REFUSED}:{one}" for one in TenantQuotas.__slots__)]
        for day in range(today - KEPT_SECONDS // DAY_SECONDS, today + 1):
            await self._redis.hdel(keys.tenant_use(day), *(f"{tenant}/{name}" for name in names))


def _pace(quotas: TenantQuotas) -> Pace | None:
    rate = quotas.events_per_second
    return None if rate is None else Pace.of(rate, rate * BURST_SECONDS)
