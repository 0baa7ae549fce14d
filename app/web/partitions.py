"""``/api/v1/partitions``: who owns which partition, and how far behind it is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.streams.lag import (
    STREAMS,
    Assignment,
    DeadLetters,
    StreamLag,
    measure_assignment,
    measure_dead_letters,
    measure_lag,
    measure_partitions,
    measure_quarantined,
)
from hookstream.app.web.models.partitions import PartitionList
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["PartitionViews", "StreamMeter"]


class StreamMeter:
    """Measures the streams of all partitions, and who works on them."""

    def __init__(
        self,
        redis: Any,
        clock: RedisClock,
        partitions: int,
        own_channels: Callable[[], Iterable[str]],
    ) -> None:
        """``own_channels``: names of the stream channels that stages of one's own have made."""
        self._own_channels = own_channels
        self._redis = redis
        self._clock = clock
        #: How many partitions there are.
        self.partitions = partitions

    async def lag(self) -> dict[str, StreamLag]:
        """Every channel's lag."""
        return await measure_lag(self._redis, self._clock, self.partitions, self._streams())

    async def quarantined(self) -> dict[int, int]:
        """By version of the envelope: how many entries wait for a worker that reads it."""
        return await measure_quarantined(self._redis, self.partitions)

    async def dead_letters(self) -> DeadLetters:
        """How many there are, and how many are new."""
        return await measure_dead_letters(self._redis, self._clock, self.partitions)

    async def assignment(self) -> Assignment:
        """Living workers, and what they cannot do."""
        return await measure_assignment(self._redis, self._clock, self.partitions)

    async def by_partition(self) -> dict[str, Any]:
        """Owner, lease and lag of every partition."""
        return await measure_partitions(self._redis, self._clock, self.partitions, self._streams())

    def _streams(self) -> Sequence[str]:
        return (*STREAMS, *self._own_channels())

    def now_ms(self) -> int:
        """Redis's time, by which all this is measured."""
        return self._clock.now_ms()


class PartitionViews:
    """Shows what is measured."""

    def __init__(self, meter: StreamMeter) -> None:
        self._meter = meter

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/partitions",
                self.list,
                "Who owns which partition, and how far behind it is",
                gives=PartitionList,
                operation="health_partitions",
                operator=True,
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Every partition's owner, and lag, pending and oldest pending age of its streams."""
        return json_response(await self._meter.by_partition())
