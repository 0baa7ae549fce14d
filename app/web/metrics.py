"""``/metrics``: what Prometheus asks. What is counted is in :mod:`hookstream.app.metrics`."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hookstream.app import metrics
from hookstream.app.feeds.feed import Feeds
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.measured import Page, measured_page
from hookstream.app.web.partitions import StreamMeter
from hookstream.app.web.worker import Worker

__all__ = ["MetricsViews"]

#: Contexts that have metrics of their own.
MAX_CONTEXTS = 1000


class MetricsViews:
    """Measures what is not counted as it happens, and shows everything."""

    def __init__(
        self, *, catalog: CatalogCache, feeds: Feeds, meter: StreamMeter, worker: Worker | None
    ) -> None:
        self._catalog = catalog
        self._feeds = feeds
        self._meter = meter
        self._worker = worker
        # one after the other: gauges are cleared and set again
        self._page = measured_page(self._measure)

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody."""
        return [web.get("/metrics", self.show)]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Prometheus' text format, at most a second old."""
        return await self.answer()

    async def answer(self) -> web.Response:
        """What this process has counted."""
        return await self._page()

    async def _measure(self) -> Page:
        self._show_breakers()
        metrics.TOOL_FAILING.clear()
        try:
            await self._measure_tools()
            await self._measure_contexts()
            await self._measure_workers()
            await self._measure_streams()
        except REDIS_ERRORS:
            metrics.CONTEXT_SENT.clear()
            metrics.STREAM_LAG.clear()
            metrics.STREAM_PENDING.clear()
            metrics.STREAM_OLDEST_PENDING_SECONDS.clear()
            metrics.STREAM_OLDEST_SECONDS.clear()
        return Page(generate_latest(), CONTENT_TYPE_LATEST)

    def _show_breakers(self) -> None:
        metrics.BREAKERS_OPEN.clear()
        tripped = self._worker.tripped() if self._worker else {}
        for tool_id, state in tripped.items():
            metrics.BREAKERS_OPEN.labels(tool=tool_id, state=state).set(1)

    async def _measure_tools(self) -> None:
        if self._worker is None:
            return
        for tool_id, failures in (await self._worker.alerts.failing()).items():
            metrics.TOOL_FAILING.labels(tool=tool_id).set(failures)

    async def _measure_contexts(self) -> None:
        """Each context's progress, for the first :data:`MAX_CONTEXTS`: labels stay bounded."""
        gauges = (
            metrics.CONTEXT_SENT,
            metrics.CONTEXT_ACKNOWLEDGED,
            metrics.CONTEXT_THROTTLED,
            metrics.CONTEXT_SUCCESS,
        )
        for gauge in gauges:
            gauge.clear()
        names = sorted(self._catalog.current.contexts)[:MAX_CONTEXTS]
        for (tenant, context), at in zip(names, await self._feeds.progress(names), strict=True):
            ratio = at.acknowledged_seq / at.last_seq if at.last_seq else 1.0
            values = (at.last_seq, at.acknowledged_seq, at.throttled, ratio)
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(tenant=tenant, context=context).set(value)

    async def _measure_workers(self) -> None:
        assignment = await self._meter.assignment()
        metrics.WORKERS.set(len(assignment.workers))
        metrics.PARTITIONS_UNOWNED.set(len(assignment.unowned))

    async def _measure_streams(self) -> None:
        metrics.QUARANTINED_ENTRIES.clear()
        for version, entries in (await self._meter.quarantined()).items():
            metrics.QUARANTINED_ENTRIES.labels(version=version).set(entries)
        for name, lag in (await self._meter.lag()).items():
            metrics.STREAM_LAG.labels(channel=name).set(
                float("nan") if lag.lag is None else lag.lag
            )
            metrics.STREAM_PENDING.labels(channel=name).set(lag.pending)
            metrics.STREAM_OLDEST_PENDING_SECONDS.labels(channel=name).set(
                lag.oldest_pending_seconds
            )
            metrics.STREAM_OLDEST_SECONDS.labels(channel=name).set(lag.oldest_seconds)
        metrics.DEAD_LETTERS.set((await self._meter.dead_letters()).total)
