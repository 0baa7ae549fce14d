"""What one client may ask for in a time: of a tool's webhooks, of a key's calls and replays.

Each is counted in one process's memory: no round trip, and nothing to clean up after a crash. N
receiver processes together let N times as much pass.
"""

import time
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from hookstream.app import metrics
from hookstream.app.errors import LimitError
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.routing.catalog import Tool
from hookstream.app.settings import Settings
from hookstream.app.token_bucket import Pace, TokenBuckets

__all__ = ["OpenOfKey", "RateLimit", "ToolLimit", "call_limit", "replay_limit", "tool_limit"]

#: A bucket holds what comes in this time: a burst, or a client that was away.
BURST_SECONDS = 10.0


class RateLimit:
    """One limit: its setting's name, and what is said of who is above it."""

    def __init__(self, setting: str, buckets: TokenBuckets, said: str) -> None:
        self._setting = setting
        self._buckets = buckets
        self._said = said

    def look(self, key: Hashable) -> None:
        """Raises LimitError where the key has nothing left; nothing is taken."""
        self._judge(self._buckets.wait_seconds(key, time.monotonic()))

    def take(self, key: Hashable) -> None:
        """Take one. Raises LimitError where the key has nothing left."""
        self._judge(self._buckets.take(key, time.monotonic()))

    def _judge(self, wait_seconds: float) -> None:
        if wait_seconds:
            self._refuse(f"{self._said} (HOOKSTREAM_{self._setting.upper()})", wait_seconds)

    def _refuse(self, said: str, wait_seconds: float) -> NoReturn:
        metrics.LIMITED.labels(limit=self._setting).inc()
        raise LimitError(f"{said}: wait for Retry-After", wait_seconds)


class ToolLimit(RateLimit):
    """Of accepted webhooks, by tool; a tool may have a rate of its own, and its tenant quotas."""

    def __init__(
        self, setting: str, buckets: TokenBuckets, said: str, use: TenantUse | None = None
    ) -> None:
        """``use``: what tenants have sent; None where they are not told apart."""
        super().__init__(setting, buckets, said)
        self._use = use

    def look_at(self, tool: Tool) -> None:
        """Raises LimitError where the tool or its tenant has nothing left; nothing is taken."""
        own = _pace(tool)
        if self._use is not None:
            self._use.look_at(tool.tenant)
        self._judge_own(tool, self._buckets.wait_seconds(tool.tool_id, time.monotonic(), own))

    def has_room(self, tool: Tool) -> bool:
        """Whether :meth:`look_at` raises nothing."""
        if self._use is not None and not self._use.has_room(tool.tenant):
            return False
        return not self._buckets.wait_seconds(tool.tool_id, time.monotonic(), _pace(tool))

    def take_of(self, tool: Tool, events: int = 1, size: int = 0) -> None:
        """Take one for each event of a webhook. Raises LimitError where the tool has nothing left.

        ``size``: bytes of its body, which count for its tenant alone.

        A batch passes whole where there is anything: the next webhook waits for what it took.
        """
        own = _pace(tool)
        taken = self._buckets.take(tool.tool_id, time.monotonic(), own, events)
        self._judge_own(tool, taken)
        if self._use is not None:
            self._use.take(tool.tenant, events, size)

    def _judge_own(self, tool: Tool, wait_seconds: float) -> None:
        if wait_seconds and tool.webhooks_per_second is not None:
            self._refuse(
                f"this tool's webhooks come faster than {tool.webhooks_per_second:g} a second (the "
                "tool's webhooks_per_second)",
                wait_seconds,
            )
        self._judge(wait_seconds)


def _pace(tool: Tool) -> Pace | None:
    own = tool.webhooks_per_second
    return None if own is None else Pace.of(own, own * BURST_SECONDS)


class OpenOfKey:
    """What each agent's key has open in this process, as many as it may at most."""

    def __init__(self, most: int, what: str) -> None:
        """``most``: ``HOOKSTREAM_WEBSOCKETS_PER_KEY``, 0 for any number; ``what``: for people."""
        self._most = most
        self._what = what
        self._open: Counter[bytes] = Counter()

    @contextmanager
    def one_more(self, digest: bytes) -> Iterator[None]:
        """Count one as a key's. Raises LimitError where that has all it may."""
        if self._most and self._open[digest] >= self._most:
            metrics.LIMITED.labels(limit="websockets_per_key").inc()
            raise LimitError(
                f"this key has {self._most} {self._what} open in this process, which is all it may "
                "(HOOKSTREAM_WEBSOCKETS_PER_KEY): close one, then try again"
            )
        self._open[digest] += 1
        try:
            yield
        finally:
            self._open[digest] -= 1
            if not self._open[digest]:
                del self._open[digest]


def tool_limit(settings: Settings, use: TenantUse | None = None) -> ToolLimit:
    """Of accepted webhooks, by tool id; ``use``: what tenants have sent."""
    rate = settings.tool_webhooks_per_second
    return ToolLimit(
        "tool_webhooks_per_second",
        TokenBuckets(rate, rate * BURST_SECONDS),
        f"this tool's webhooks come faster than {rate:g} a second",
        use,
    )


def call_limit(settings: Settings) -> RateLimit:
    """Of calls to API, MCP and WebSocket, by the digest of an agent's key."""
    rate = settings.key_calls_per_second
    return RateLimit(
        "key_calls_per_second",
        TokenBuckets(rate, rate * BURST_SECONDS),
        f"this key makes more than {rate:g} calls a second",
    )


def replay_limit(settings: Settings) -> RateLimit:
    """Of replays begun, by the digest of an agent's key."""
    rate = settings.key_replays_per_minute
    return RateLimit(
        "key_replays_per_minute",
        TokenBuckets(rate / 60, rate),
        f"this key begins more than {rate:g} replays a minute",
    )
