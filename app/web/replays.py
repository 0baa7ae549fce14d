"""``/api/v1/replays``: sending an event through the pipeline again."""

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from hookstream.app import keys
from hookstream.app.errors import NotFoundError
from hookstream.app.ids import new_event_id, partition_of_event
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, read_model, uuid7
from hookstream.app.web.problem import json_response
from hookstream.codecs.envelope import encode_event

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["ReplayViews"]

_INSERT = """
INSERT INTO replays (replay_id, tenant, event_id, context_id, status)
VALUES ($1, $2, $3, $4, 'running')
"""

_GET = """
SELECT r.*, (SELECT count(*) FROM deliveries AS d WHERE d.replay_id = r.replay_id) AS deliveries
FROM replays AS r
WHERE r.tenant = $1 AND r.replay_id = $2
"""


class ReplayViews:
    """Replay one event by its id, and show how far a replay has come."""

    def __init__(self, app: "Hookstream") -> None:
        self._app = app

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Append the event to its partition again, marked as a replay."""
        wanted = await read_model(self._app, request, models.ReplayIn)
        event_id = uuid7(wanted.event_id, "event_id")
        tenant = request[TENANT_KEY]
        parts = self._app.parts
        event = await parts.events.event(tenant, event_id)
        if event is None:
            raise NotFoundError(f"there is no event {event_id}")
        context_id = wanted.context_id or ""
        registry = await parts.registry.reload()
        if context_id and (tenant, context_id) not in registry.contexts:
            raise NotFoundError(f"there is no context {context_id}")
        partition = partition_of_event(event_id)
        replay_id = new_event_id(time.time_ns() // 1_000_000, partition, secrets.randbits(62))
        await parts.postgres.execute(_INSERT, UUID(replay_id), tenant, UUID(event_id), context_id)
        again = replace(
            event,
            replay_id=replay_id,
            replay_context_id=context_id,
            registry_version=registry.version,
        )
        await parts.appender.append(keys.events(partition), encode_event(again))
        response = json_response(await self._show(tenant, replay_id), status=202)
        response.headers["Location"] = f"/api/v1/replays/{replay_id}"
        return response

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One replay."""
        replay_id = uuid7(request.match_info["replay_id"], "replay_id")
        return json_response(await self._show(request[TENANT_KEY], replay_id))

    async def _show(self, tenant: str, replay_id: str) -> dict[str, object]:
        row = await self._app.parts.postgres.fetchrow(_GET, tenant, UUID(replay_id))
        if row is None:
            raise NotFoundError(f"there is no replay {replay_id}")
        return {
            "replay_id": replay_id,
            "event_id": str(row["event_id"]),
            "context_id": row["context_id"] or None,
            "status": row["status"],
            "error": row["error"],
            "deliveries": row["deliveries"],
            "created_at": row["created_at"].isoformat(),
            "finished_at": row["finished_at"].isoformat() if row["finished_at"] else None,
        }
