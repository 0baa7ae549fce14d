"""``/health*``: what an operator and an orchestrator ask."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from hookstream import __version__
from hookstream.app import tasks
from hookstream.app.archive.objects import Objects
from hookstream.app.feeds.followers import Followers
from hookstream.app.ingest.appender import Appender
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.postgres.pool import Postgres
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.condition_judge import ConditionJudge
from hookstream.app.stalls import LoopWatch
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.secret_sealing import SecretSealing
from hookstream.app.web.health_advice import advise
from hookstream.app.web.health_parts import (
    RedisHealth,
    StreamHealth,
    archive_out,
    can_spool,
    catalog_out,
    conditions_out,
    kafka_out,
    postgres_out,
    queues_out,
    sealing_out,
    secrets_out,
    sockets_out,
    spool_out,
    stages_out,
    stalls_out,
    tasks_out,
    tenants_out,
    worker_out,
)
from hookstream.app.web.measured import Measured, Page, measured_page
from hookstream.app.web.problem import json_response, problem
from hookstream.app.web.worker import Worker

__all__ = ["HealthViews", "ReadyViews"]


class ReadyViews:
    """Liveness and readiness."""

    def __init__(
        self,
        *,
        redis: RedisHealth,
        catalog: CatalogCache,
        appender: Appender,
        worker: Worker | None,
        stopping: Callable[[], bool],
    ) -> None:
        self._redis_is_well = Measured(redis.is_well)
        self._catalog = catalog
        self._appender = appender
        self._worker = worker
        self._stopping = stopping

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody."""
        return [
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
        ]

    async def live(self, request: web.Request) -> web.StreamResponse:
        """200 as long as the event loop turns."""
        return json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 when this process can do its work; 503 with the reason when not."""
        if self._stopping():
            return problem(503, "unavailable", "Shutting down", "this process is stopping")
        if not await self._redis_is_well.get() and not can_spool(self._appender, self._worker):
            return problem(503, "unavailable", "Not ready", "Redis does not answer, or refuses")
        if not self._catalog.loaded:
            return problem(
                503, "unavailable", "Not ready", "tools and subscriptions are not loaded yet"
            )
        return json_response({"status": "ok"})


class HealthViews:
    """The state of each part."""

    def __init__(
        self,
        *,
        redis: RedisHealth,
        postgres: Postgres,
        catalog: CatalogCache,
        streams: StreamHealth,
        followers: Followers,
        appender: Appender,
        worker: Worker | None,
        missing_modules: Mapping[str, str],
        wakeups_trouble: Callable[[], str],
        stalls: LoopWatch,
        conditions: ConditionJudge,
        archive: Objects,
        sealing: SecretSealing,
        data_keys: DataKeys,
        queues: Callable[[], Sequence[QueueState]],
        topics: Callable[[], Sequence[QueueState]],
    ) -> None:
        """``missing_modules``: those with stages that could not be imported here, and why."""
        self._wakeups_trouble = wakeups_trouble
        self._stalls = stalls
        self._conditions = conditions
        self._archive = archive
        self._sealing = sealing
        self._data_keys = data_keys
        self._queues = queues
        self._topics = topics
        self._missing_modules = missing_modules
        self._redis = redis
        self._postgres = postgres
        self._catalog = catalog
        self._streams = streams
        self._followers = followers
        self._appender = appender
        self._worker = worker
        self._page = measured_page(self._measure)

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody."""
        return [web.get("/health", self.show)]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """All parts, and what they say together: ``ok``, ``degraded`` or ``down``.

        At most a second old.
        """
        return await self.answer()

    async def answer(self) -> web.Response:
        """What this process says of itself."""
        return await self._page()

    async def _measure(self) -> Page:
        redis, postgres = await asyncio.gather(self._redis.part(), postgres_out(self._postgres))
        answers = redis["status"] in ("ok", "degraded")
        postgres |= tenants_out(self._postgres.unheld, self._catalog.current.has_others)
        parts = {"redis": redis, "postgres": postgres, **self._here()}
        if answers:
            parts |= await self._streams.parts()
        if self._worker:
            parts |= worker_out(self._worker, self._streams.partitions)
        advise(parts)
        if not answers and not can_spool(self._appender, self._worker):
            overall = "down"
        else:
            overall = "ok" if {part["status"] for part in parts.values()} == {"ok"} else "degraded"
        body = orjson.dumps({"status": overall, "version": __version__, "parts": parts})
        return Page(body, "application/json", 503 if overall == "down" else 200)

    def _here(self) -> dict[str, Any]:
        """The parts that nobody else is asked for."""
        parts = {
            "archive": archive_out(self._archive),
            "catalog": catalog_out(self._catalog),
            "schema": self._postgres.schema.health(),
            "tasks": tasks_out(tasks.BOARD.lately()),
            "event_loop": stalls_out(self._stalls),
            "conditions": conditions_out(self._conditions.troubles(), self._catalog.current.unused),
            "sockets": sockets_out(self._followers.state(), self._wakeups_trouble()),
        }
        if self._worker is None:
            secrets = secrets_out(self._catalog, self._sealing)
            parts["sealing"] = sealing_out(self._data_keys, secrets)
        elif self._data_keys.wanted or self._data_keys.missing:
            parts["sealing"] = sealing_out(self._data_keys)
        if queues := self._queues():
            parts["queues"] = queues_out(queues)
        if topics := self._topics():
            parts["kafka"] = kafka_out(topics)
        if self._missing_modules:
            parts["stages"] = stages_out(self._missing_modules)
        appender = self._appender
        spools = appender.spool is not None or appender.spool_trouble or appender.leftovers
        if self._worker is None or spools:
            parts["spool"] = spool_out(appender)
        return parts
