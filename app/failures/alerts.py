"""Alerts: a tool whose events fail again and again, told to an address of the operator's choice.

Failures are counted in Redis over all workers, a fixed window a tool; the first alert of a window
is queued there and sent by any worker, signed after Standard Webhooks. A worker that dies loses at
most its last second of counts, never a queued alert. Errors' texts stay here: they may quote a
payload.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.backoff import retry_delay_ms
from hookstream.app.circuit_breaker import Breaker
from hookstream.app.providers.signatures.standard import sign_standard
from hookstream.app.public_addresses import check_url
from hookstream.app.public_resolver import PublicResolver
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, event_of

__all__ = ["Alerts"]

logger = get_logger(__name__)

TURN_SECONDS = 1.0
SEND_SECONDS = 10.0
LEASE_MS = 30_000
RETRY_BASE_MS, RETRY_MAX_MS = 1_000, 300_000
#: An alert that could not be sent for so long is given up.
KEEP_MS = 24 * 3_600_000
#: How often it is looked for those, where no address is set any more, and how many go at once.
DROP_SECONDS, DROPPED_AT_ONCE = 60.0, 100
BREAKER_FAILURES = 5


class Alerts(Service):
    """Counts failures by tool, raises alerts, sends them."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        *,
        catalog: Callable[[], Catalog],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._catalog = catalog
        #: (tool, tenant, stage) → failures that Redis does not know of yet.
        self._failures: Counter[tuple[str, str, str]] = Counter()
        self.breaker = Breaker(BREAKER_FAILURES, 10_000)
        self._session: aiohttp.ClientSession | None = None
        self._drop_at = 0.0

    def failed(self, batch: Batch) -> None:
        """Note what failed in a batch that was committed."""
        for entry in batch.entries:
            if entry.failure is None:
                continue
            if event := event_of(entry.value):
                metrics.TOOL_FAILURES.labels(tool=event.tool_id, stage=entry.failure.stage).inc()
                self._failures[event.tool_id, event.tenant, entry.failure.stage] += 1

    async def on_stop(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def failing(self) -> dict[str, int]:
        """Tools over their threshold in their window now, with their failures."""
        tools = list(self._catalog().tools)
        pipe = self._redis.pipeline(transaction=False)
        for tool_id in tools:
            pipe.hmget(keys.failures(tool_id), "failures", "raised")
        replies = await pipe.execute() if tools else []
        return {
            tool_id: int(failures)
            for tool_id, (failures, raised) in zip(tools, replies, strict=True)
            if failures and raised
        }

    @tasks.loop
    async def _work(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            try:
                await self._count()
                if self._settings.alert_url:
                    await self._send_due()
                else:
                    await self._drop_old()
            except REDIS_ERRORS as error:
                logger.debug("alerts wait for Redis: %s", error)

    async def _count(self) -> None:
        settings, tools = self._settings, self._catalog().tools
        while self._failures:
            (tool_id, tenant, stage), count = next(iter(self._failures.items()))
            own = tools[tool_id].alert if tool_id in tools else {}
            window = own.get("window_seconds", settings.alert_window_seconds)
            threshold = own.get("failures", settings.alert_failures)
            failures, raised = await self._scripts.call(
                "count_failures",
                [keys.failures(tool_id), keys.ALERTS_DUE, keys.ALERTS],
                [
                    count, int(window * 1000), threshold, tool_id, tenant, stage,
                    f"alert_{secrets.token_hex(12)}", int(bool(settings.alert_url)),
                ],
            )  # fmt: skip
            del self._failures[tool_id, tenant, stage]
            if raised:
                metrics.ALERTS_RAISED.labels(tool=tool_id).inc()
                logger.error(
                    "tool %s: %d failures within %g s, the last ones in stage %s; "
                    "`hookstream dead list --tool %s` shows what came of them",
                    tool_id, failures, window, stage, tool_id,
                )  # fmt: skip

    async def _send_due(self) -> None:
        while not self.should_stop and self.breaker.allow(_now_ms()):
            taken = await self._scripts.call(
                "take_alert", [keys.ALERTS_DUE, keys.ALERTS], [LEASE_MS]
            )
            if not taken:
                # nothing to try: a probe that was let through is still to come
                if self.breaker.state == "half-open":
                    self.breaker.reprobe(_now_ms())
                return
            name, kept, now_ms = taken[0].decode(), taken[1], int(taken[2])
            if not kept:
                await self._forget(name)
                continue
            alert = orjson.loads(kept)
            try:
                await self._send(name, alert)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                self.breaker.failed(_now_ms())
                metrics.ALERTS_SENT.labels(result="failed").inc()
                await self._later(name, alert, now_ms, error)
            else:
                self.breaker.succeeded()
                metrics.ALERTS_SENT.labels(result="ok").inc()
                await self._forget(name)

    async def _drop_old(self) -> None:
        """Nobody is told any more: what waited for that waits no longer than it would have."""
        if time.monotonic() < self._drop_at:
            return
        self._drop_at = time.monotonic() + DROP_SECONDS
        now_ms = time.time_ns() // 1_000_000
        for name in await self._redis.zrangebyscore(
            keys.ALERTS_DUE, "-inf", now_ms - KEEP_MS, start=0, num=DROPPED_AT_ONCE
        ):
            logger.warning("alert %s is given up: HOOKSTREAM_ALERT_URL is not set", name.decode())
            await self._forget(name.decode())

    async def _send(self, name: str, alert: dict[str, Any]) -> None:
        """POST an alert. Raises when it was not answered with 2xx; redirects are not followed."""
        settings = self._settings
        url = check_url(settings.alert_url, allow_private=settings.alert_allow_private)
        if self._session is None:
            resolver = None if settings.alert_allow_private else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=4),
                timeout=aiohttp.ClientTimeout(SEND_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        body = orjson.dumps(
            {
                "type": "tool.failing",
                "timestamp": _iso(alert["at_ms"]),
                "data": {
                    "tenant": alert["tenant"],
                    "tool_id": alert["tool_id"],
                    "stage": alert["stage"],
                    "failures": alert["failures"],
                    "window_seconds": alert["window_ms"] / 1000,
                },
            }
        )
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(now),
            "webhook-signature": sign_standard(body, settings.alert_secret, name, now),
        }
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if not 200 <= response.status < 300:
                raise ValueError(f"it answered {response.status}")

    async def _later(self, name: str, alert: dict[str, Any], now_ms: int, error: Exception) -> None:
        if now_ms - alert["at_ms"] > KEEP_MS:
            logger.error("an alert about tool %s is given up: %s", alert["tool_id"], error)
            metrics.ALERTS_SENT.labels(result="given-up").inc()
            await self._forget(name)
            return
        alert["attempts"] += 1
        delay_ms = retry_delay_ms(alert["attempts"], RETRY_BASE_MS, RETRY_MAX_MS)
        logger.warning(
            "an alert about tool %s waits %.1f s: HOOKSTREAM_ALERT_URL: %s",
            alert["tool_id"], delay_ms / 1000, error,
        )  # fmt: skip
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(keys.ALERTS, name, orjson.dumps(alert))
            pipe.zadd(keys.ALERTS_DUE, {name: now_ms + delay_ms})
            await pipe.execute()

    async def _forget(self, name: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(keys.ALERTS_DUE, name)
            pipe.hdel(keys.ALERTS, name)
            await pipe.execute()


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


def _iso(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))
