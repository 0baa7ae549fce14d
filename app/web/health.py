"""``/health*`` and ``/metrics``: what an operator and an orchestrator ask."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hookstream import __version__
from hookstream.app import metrics, tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.failures.blocking import tripped
from hookstream.app.feeds.generations import Generations
from hookstream.app.ids import partition_of
from hookstream.app.postgres.sql import statement
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.redis.errors import redis_kind
from hookstream.app.streams.lag import (
    Assignment,
    StreamLag,
    measure_assignment,
    measure_held,
    measure_lag,
    measure_partitions,
)
from hookstream.app.web.problem import json_response, problem
from hookstream.codecs.envelope import KNOWN_VERSIONS

if TYPE_CHECKING:
    from hookstream.app.application import Hookstream

__all__ = ["HealthViews"]

#: PostgreSQL is down when it does not answer a question in this time.
POSTGRES_SECONDS = 2.0
#: The registry is looked at each second; one that was not confirmed for this long may be outdated.
OLD_SECONDS = 15.0
#: Contexts that have metrics of their own.
MAX_CONTEXTS = 1000
#: How long a loss of data in Redis is told.
LOSS_TOLD_MS = 24 * 3_600_000


class HealthViews:
    """Liveness, readiness, each part's state, and metrics."""

    def __init__(self, app: "Hookstream") -> None:
        self._app = app

    async def live(self, request: web.Request) -> web.StreamResponse:
        """200 as long as the event loop turns."""
        return json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 when this process can do its work; 503 with the reason when not."""
        if self._app.should_stop:
            return problem(503, "unavailable", "Shutting down", "this process is stopping")
        if not await self._redis_is_well() and not self._can_spool():
            return problem(503, "unavailable", "Not ready", "Redis does not answer, or refuses")
        if not self._app.parts.registry.loaded:
            return problem(
                503, "unavailable", "Not ready", "tools and subscriptions are not loaded yet"
            )
        return json_response({"status": "ok"})

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The state of each part."""
        redis, postgres = await asyncio.gather(self._redis(), self._postgres())
        parts: dict[str, Any] = {"redis": redis, "postgres": postgres, "registry": self._registry()}
        parts["schema"] = self._app.parts.postgres.schema.health()
        parts["tasks"] = tasks_out(tasks.BOARD.lately())
        parts["sockets"] = sockets_out(self._app.parts.followers.state())
        appender = self._app.parts.appender
        if self._app.producer_only or appender.spool is not None or appender.spool_trouble:
            spool = appender.spool
            parts["spool"] = {
                "status": self._spool_state(),
                "full_streams": len(appender.backlog.full),
                "entries": spool.entries if spool else 0,
                "bytes": spool.bytes if spool else 0,
                "oldest_seconds": appender.oldest_seconds(),
                "drained_per_second": round(appender.drained_per_second, 1),
            }
            if appender.spool_trouble:
                parts["spool"]["detail"] = "it cannot be opened: the log says why"
            if refused := appender.refusals():
                parts["spool"]["refused"] = refused
        if redis["status"] in ("ok", "degraded"):
            try:
                parts["streams"] = {"status": "ok", **self._lag_out(await self._lag())}
                parts["versions"] = versions_out(await self._held())
                parts["workers"] = workers_out(await self._assignment())
                parts["generations"] = await self._generations()
            except REDIS_ERRORS as error:
                parts["streams"] = {"status": "down", "detail": redis_kind(error)}
        if not self._app.producer_only:
            parts["partitions"] = {
                "status": "ok",
                "owned": len(self._app.ownership.owned),
                "of": self._app.settings.partitions,
                "workers": self._app.ownership.workers,
            }
            if refused := self._app.ownership.refused():
                parts["partitions"] |= {"status": "degraded", "refused": refused}
            open_here = tripped(self._app.owned().values())
            alerts = self._app.alerts.breaker.state
            parts["alerts"] = {
                "status": "ok" if alerts == "closed" else "degraded",
                "endpoint": alerts.value,
            }
            if self._app.model:
                state = self._app.model.breaker.state
                parts["summariser"] = {
                    "status": "ok" if state == "closed" else "degraded",
                    "endpoint": state.value,
                }
            parts["breakers"] = {"status": "degraded" if open_here else "ok", "tools": open_here}
        states = [part["status"] for part in parts.values()]
        if redis["status"] not in ("ok", "degraded") and not self._can_spool():
            overall = "down"
        else:
            overall = "ok" if set(states) == {"ok"} else "degraded"
        return json_response(
            {"status": overall, "version": __version__, "parts": parts},
            status=503 if overall == "down" else 200,
        )

    async def partitions(self, request: web.Request) -> web.StreamResponse:
        """Every partition's owner, and lag, pending and oldest pending age of its streams."""
        parts = self._app.parts
        return json_response(
            await measure_partitions(parts.redis, parts.clock, self._app.settings.partitions)
        )

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus' text format."""
        metrics.BREAKERS_OPEN.clear()
        for tool_id, state in tripped(self._app.owned().values()).items():
            metrics.BREAKERS_OPEN.labels(tool=tool_id, state=state).set(1)
        metrics.TOOL_FAILING.clear()
        try:
            if not self._app.producer_only:
                for tool_id, failures in (await self._app.alerts.failing()).items():
                    metrics.TOOL_FAILING.labels(tool=tool_id).set(failures)
            await self._measure_contexts()
            assignment = await self._assignment()
            metrics.WORKERS.set(len(assignment.workers))
            metrics.PARTITIONS_UNOWNED.set(len(assignment.unowned))
            metrics.HELD_ENTRIES.clear()
            for version, entries in (await self._held()).items():
                metrics.HELD_ENTRIES.labels(version=version).set(entries)
            for name, lag in (await self._lag()).items():
                metrics.STREAM_LAG.labels(channel=name).set(
                    float("nan") if lag.lag is None else lag.lag
                )
                metrics.STREAM_PENDING.labels(channel=name).set(lag.pending)
                metrics.STREAM_OLDEST_PENDING_SECONDS.labels(channel=name).set(
                    lag.oldest_pending_seconds
                )
        except REDIS_ERRORS:
            metrics.CONTEXT_SENT.clear()
            metrics.STREAM_LAG.clear()
            metrics.STREAM_PENDING.clear()
            metrics.STREAM_OLDEST_PENDING_SECONDS.clear()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _measure_contexts(self) -> None:
        """Each context's progress, for the first :data:`MAX_CONTEXTS`: labels stay bounded."""
        gauges = (
            metrics.CONTEXT_SENT,
            metrics.CONTEXT_ACKNOWLEDGED,
            metrics.CONTEXT_WITHHELD,
            metrics.CONTEXT_SUCCESS,
        )
        for gauge in gauges:
            gauge.clear()
        names = sorted(self._app.parts.registry.current.contexts)[:MAX_CONTEXTS]
        for (tenant, context), at in zip(
            names, await self._app.parts.feeds.progress(names), strict=True
        ):
            ratio = at.acknowledged_seq / at.last_seq if at.last_seq else 1.0
            values = (at.last_seq, at.acknowledged_seq, at.withheld, ratio)
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(tenant=tenant, context=context).set(value)

    def _can_spool(self) -> bool:
        """Whether this process can do its work without Redis: a receiver with a spool can."""
        return bool(self._app.producer_only and self._app.parts.appender.writable())

    async def _redis_is_well(self) -> bool:
        if not self._app.parts.met.is_set():
            return False
        status, _ = await self._app.parts.watch.probe()
        return status == "ok"

    async def _redis(self) -> dict[str, Any]:
        parts = self._app.parts
        status, kind = await parts.watch.probe()
        if status == "ok" and not parts.met.is_set():
            status, kind = "refusing", parts.met_with
        findings = parts.watch.findings
        told = [*findings.dangers, *findings.warnings]
        return {
            "status": "degraded" if status == "ok" and told else status,
            "detail": kind,
            "settings": [*told, *findings.notes],
            "policy": findings.policy,
            "persistence": findings.persistence,
            "used_bytes": findings.used_bytes,
            "max_bytes": findings.max_bytes,
        }

    async def _postgres(self) -> dict[str, Any]:
        postgres = self._app.parts.postgres
        try:
            async with asyncio.timeout(POSTGRES_SECONDS):
                await postgres.schema.look(postgres)
                row = await postgres.fetchrow(statement("postgres_state"))
        except (UnavailableError, TimeoutError):
            return {"status": "down", "detail": ", ".join(postgres.troubles())}
        if row and row["read_only"]:
            return {"status": "read-only", "detail": ", ".join(postgres.troubles())}
        refused = postgres.troubles()
        return {"status": "degraded" if refused else "ok", "detail": ", ".join(refused)}

    def _registry(self) -> dict[str, Any]:
        registry = self._app.parts.registry
        part = {
            "status": "ok",
            "version": registry.current.version,
            "age_seconds": round(registry.age_seconds, 1),
            "from_disk": registry.from_disk,
            "detail": registry.note,
        }
        if not registry.loaded:
            part["status"] = "down"
        elif registry.from_disk or registry.note or registry.age_seconds > OLD_SECONDS:
            part["status"] = "degraded"
        return part

    def _spool_state(self) -> str:
        appender = self._app.parts.appender
        if appender.spool_trouble:
            return "down"
        if appender.refusals():
            return "degraded"
        return "draining" if appender.spool and appender.spool.entries else "ok"

    async def _lag(self) -> dict[str, StreamLag]:
        return await measure_lag(
            self._app.parts.redis, self._app.parts.clock, self._app.settings.partitions
        )

    async def _assignment(self) -> Assignment:
        return await measure_assignment(
            self._app.parts.redis, self._app.parts.clock, self._app.settings.partitions
        )

    async def _generations(self) -> dict[str, Any]:
        """Partitions whose feeds have begun anew within a day, since Redis had lost data."""
        count, now_ms = self._app.settings.partitions, self._app.parts.clock.now_ms()
        begun = await self._app.parts.feeds.generations(range(count))
        contexts = Counter(
            partition_of(count, *name) for name in self._app.parts.registry.current.contexts
        )
        return generations_out(begun, contexts, now_ms)

    async def _held(self) -> dict[int, int]:
        return await measure_held(self._app.parts.redis, self._app.settings.partitions)

    def _lag_out(self, lags: dict[str, StreamLag]) -> dict[str, Any]:
        return {
            name: {
                "lag": lag.lag,
                "pending": lag.pending,
                "oldest_pending_seconds": lag.oldest_pending_seconds,
            }
            for name, lag in lags.items()
        }


def workers_out(found: Assignment) -> dict[str, Any]:
    """Who works, which partitions nobody has, what workers cannot do, and what to do about it."""
    troubles = {name: note.values() for name, note in found.troubles.items()}
    part: dict[str, Any] = {
        "status": "degraded" if not found.workers or found.unowned or troubles else "ok",
        "alive": list(found.workers),
        "unowned_partitions": list(found.unowned),
        "troubles": troubles,
    }
    if not found.workers:
        part["do"] = "no worker lives: start one (hookstream worker); events are kept until then"
    elif found.unowned:
        part["do"] = "partitions without an owner stand still: see troubles, and workers' logs"
    elif troubles:
        part["do"] = "a worker cannot open what is named: see its disk, or that partition's keys"
    return part


def tasks_out(failures: Sequence[tasks.TaskFailure]) -> dict[str, Any]:
    """Background tasks that have failed within the last minute, and what to do."""
    part: dict[str, Any] = {"status": "ok", "failing": []}
    for failure in failures:
        part["failing"].append(
            {
                "task": failure.task,
                "failures": failure.failures,
                "error": failure.error,
                "is": "started again" if failure.restarts else "closed, with what depends on it",
            }
        )
    if failures:
        part["status"] = "degraded"
        part["detail"] = (
            "see the log for the traceback, once a task; what fails for a minute and more is a "
            "fault of this version: report it, and restart this process if its work stands still"
        )
    return part


def sockets_out(state: Mapping[str, Any]) -> dict[str, Any]:
    """Clients that follow feeds here; those that get nothing, and what to do."""
    part: dict[str, Any] = {"status": "ok", **state}
    if state["behind"] or state["failing"] or state["closed_lately"]:
        part["status"] = "degraded"
        part["detail"] = (
            "clients that are behind or whose feeds cannot be read are closed within 30 s and "
            "resume by themselves: see `errors` and the log for why, and Redis' own rights (ACL), "
            "keys and load; if it goes on here and not in other processes, restart this one"
        )
    return part


def generations_out(
    begun: Mapping[int, Generations], contexts: Mapping[int, int], now_ms: int
) -> dict[str, Any]:
    """What Redis has lost within a day; ``contexts``: how many each partition has."""
    lost = [
        {
            "partition": number,
            "generation": generations.current,
            "at": datetime.fromtimestamp(generations.current / 1000, UTC).isoformat(),
            "contexts": contexts.get(number, 0),
        }
        for number, generations in begun.items()
        if generations.start > 1 and now_ms - generations.current < LOSS_TOLD_MS
    ]
    part: dict[str, Any] = {"status": "ok", "lost": lost}
    if lost:
        part["status"] = "degraded"
        part["detail"] = (
            f"Redis has lost data of {len(lost)} partitions within a day: their feeds go on with "
            "higher numbers, and clients are told what is missing. `hookstream doctor --loss` "
            "lists it; see to Redis' persistence. This line goes after a day"
        )
    return part


def versions_out(held: dict[int, int]) -> dict[str, Any]:
    """Which envelopes are read here, and what waits for a newer worker."""
    part: dict[str, Any] = {"status": "ok", "reads": sorted(KNOWN_VERSIONS), "held": []}
    waiting = {version: n for version, n in held.items() if version not in KNOWN_VERSIONS}
    part["held"] = [{"version": version, "entries": n} for version, n in sorted(held.items())]
    if waiting:
        counts = ", ".join(f"{n} of version {version}" for version, n in sorted(waiting.items()))
        reads = ", ".join(map(str, sorted(KNOWN_VERSIONS)))
        part["status"] = "degraded"
        part["detail"] = (
            f"entries wait that no worker here reads: {counts} (this build reads version {reads}). "
            "They are kept: upgrade the workers, and they come by themselves"
        )
    return part
