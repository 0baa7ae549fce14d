"""``/api/v1/lifecycle``: what is in each tier, a run of what is due, and whether all of it fits."""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.verification import verify_names, verify_page
from hookstream.app.clock import RedisClock
from hookstream.app.errors import BadRequestError, UnavailableError
from hookstream.app.lifecycle.status import ask_for_run, lifecycle_status
from hookstream.app.lifecycle.verify import Verified, verify_events, verify_warm
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis.memory import MemoryWatch
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.tiers import Tiers
from hookstream.app.web.models.lifecycle import LifecycleOut, VerifiedOut
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["LifecycleViews"]

#: Events, and objects of the archive, that one request looks at.
PAGE = 2000
OBJECTS = 8
QUERY: dict[str, dict[str, object]] = {
    "cursor": {"type": "string", "description": "Where a part begins: `next` of the last."},
    "read": {"type": "string", "enum": ["0", "1"], "description": "1: read objects whole."},
}


class LifecycleViews:
    """Shows tiers, and looks whether they fit."""

    def __init__(
        self,
        redis: Any,
        postgres: Postgres,
        tiers: Tiers,
        archive: Archive,
        memory: MemoryWatch,
        clock: RedisClock,
        *,
        partitions: int,
        catalog: Callable[[], Catalog],
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._tiers = tiers
        self._archive = archive
        self._memory = memory
        self._clock = clock
        self._partitions = partitions
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/lifecycle",
                self.show,
                "What is hot, warm and cold, and the last run of each worker",
                gives=LifecycleOut,
                errors=(503,),
            ),
            Route(
                "POST",
                "/api/v1/lifecycle/run",
                self.run,
                "Have workers move at once what is due",
                status=202,
                action="lifecycle.run",
            ),
            Route(
                "GET",
                "/api/v1/lifecycle/verify",
                self.verify,
                "Whether a part of what is kept fits: event log, manifest, archive and Redis",
                gives=VerifiedOut,
                query=QUERY,
                errors=(400, 503),
            ),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Tiers as they are now."""
        now_ms = self._clock.now_ms()
        status = await lifecycle_status(self._redis, self._memory, self._partitions, now_ms)
        cold: dict[str, float] = {}
        try:
            totals = await self._archive.totals()
            cold = {
                "events": totals.events,
                "objects": totals.objects,
                "bytes": totals.bytes,
            }
        except UnavailableError:
            # what is in Redis is worth showing alone
            pass
        return json_response({**status, "cold": cold})

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Ask for a run; workers say in `GET /lifecycle` what it came to."""
        return json_response({"asked": await ask_for_run(self._redis)}, status=202)

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """One part: first events by their ids, then warm blocks by partition, then the archive."""
        part, _, rest = request.query.get("cursor", "events:").partition(":")
        try:
            found, following = await self._verify(part, rest, read=request.query.get("read") == "1")
        except ValueError as error:
            raise BadRequestError("cursor: take it as `next` gave it") from error
        return json_response(
            {
                "part": part,
                "looked_at": found.looked_at,
                "differences": found.differences,
                "tiers": found.tiers,
                "next": following,
            }
        )

    async def _verify(self, part: str, rest: str, *, read: bool) -> tuple[Verified, str | None]:
        if part == "events":
            found = await verify_events(
                self._postgres,
                self._tiers,
                self._catalog(),
                self._clock.now_ms(),
                rest,
                PAGE,
                read=read,
            )
            return found, f"events:{found.cursor}" if found.cursor else "warm:0"
        if part == "warm":
            number = int(rest)
            if not 0 <= number < self._partitions:
                raise ValueError(rest)
            found = await verify_warm(self._redis, number, self._archive.data_keys)
            last = number + 1 == self._partitions
            return found, "archive:" if last else f"warm:{number + 1}"
        archive = self._archive
        if part == "archive":
            count, different, behind = await verify_page(
                archive.manifest, archive.objects, rest, OBJECTS, read=read
            )
            found = Verified(count, [str(one) for one in different])
            return found, f"archive:{behind}" if behind else "unnamed:"
        if part == "unnamed":
            names = verify_names(archive.manifest, archive.objects)
            return Verified(0, [str(one) async for one in names]), None
        raise ValueError(part)
