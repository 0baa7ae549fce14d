"""``/api/v1/…/refusals``: the last webhooks that were refused, of a tool or of unknown ones."""

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.ids import own_tool_id
from hookstream.app.ingest.refusals import Refusal, Refusals
from hookstream.app.providers import PROVIDERS
from hookstream.app.redis.errors import REDIS_ERRORS
from hookstream.app.routing.catalog import Tool
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, path_tool
from hookstream.app.web.events import check_query, note_read, parse_limit
from hookstream.app.web.models.receive import Accepted
from hookstream.app.web.models.refusals import REFUSAL_QUERY, RefusalList, RefusalOut
from hookstream.app.web.problem import json_response
from hookstream.app.web.receive import Receiver
from hookstream.app.web.recorded import tell
from hookstream.app.web.routes import Route

__all__ = ["RefusalViews", "refusal_out"]

OF_A_TOOL = "/api/v1/tools/{tool_id}/refusals"
OF_UNKNOWN = "/api/v1/unknown-tools/refusals"

#: Headers that carry no secret: these, and what providers' events keep.
SHOWN_HEADERS = {
    "accept", "accept-encoding", "connection", "content-encoding", "content-length",
    "content-type", "date", "expect", "forwarded", "host", "traceparent", "transfer-encoding",
    "user-agent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port",
    "x-forwarded-proto", "x-real-ip",
}.union(*(provider.keep_headers for provider in PROVIDERS.values()))  # fmt: skip

_ID = re.compile(r"[0-9]{1,15}-[0-9]{1,10}")


class RefusalViews:
    """List and show refused webhooks, and try them again."""

    def __init__(
        self,
        *,
        refusals: Refusals,
        receiver: Receiver,
        catalog: CatalogCache,
        trail: AuditTrail,
    ) -> None:
        self._trail = trail
        self._refusals = refusals
        self._receiver = receiver
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            *self._routes(OF_A_TOOL, "refusal", "of a tool"),
            # whoever's they were meant for
            *self._routes(OF_UNKNOWN, "unknown_tool_refusal", "for tools that there are not"),
        ]

    def _routes(self, path: str, name: str, whose: str) -> Sequence[Route]:
        return [
            Route(
                "GET",
                path,
                self.list,
                f"List the last refused webhooks {whose}, the newest first",
                gives=RefusalList,
                errors=(400, 404),
                query=REFUSAL_QUERY,
                operation=f"{name}_list",
            ),
            Route(
                "GET",
                path + "/{refusal_id}",
                self.get,
                f"Show a refused webhook {whose}, and its body",
                gives=RefusalOut,
                errors=(400, 404),
                operation=f"{name}_get",
            ),
            Route(
                "POST",
                path + "/{refusal_id}/replay",
                self.replay,
                f"Verify a refused webhook {whose} anew, and accept it",
                gives=Accepted,
                status=202,
                errors=(400, 404, 409),
                operation=f"{name}_replay",
                action="refusal.replayed",
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of refused webhooks, the newest first."""
        query = request.query
        check_query(query, REFUSAL_QUERY)
        limit = parse_limit(query.get("limit", "50"))
        before = query.get("cursor", "")
        if before and not _ID.fullmatch(before):
            raise BadRequestError("cursor: from the page before")
        tool = await self._tool(request)
        found = await self._refusals.page(tool, limit, before)
        return json_response(
            {
                "refusals": [refusal_out(refusal, tool) for refusal in found],
                "cursor": found[-1].refusal_id if len(found) == limit else None,
            }
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One refused webhook, with what is kept of its body."""
        tool = await self._tool(request)
        refusal = await self._refusal(request, tool)
        await note_read(self._trail, request[CALLER_KEY], "refusal", refusal.refusal_id, None)
        return json_response({**refusal_out(refusal, tool), **body_out(refusal.body)})

    async def replay(self, request: web.Request) -> web.StreamResponse:
        """Verify one with today's secrets and accept it, or answer why not."""
        tool = await self._tool(request)
        refusal = await self._refusal(request, tool)
        tell(request, "refusal", refusal.refusal_id)
        accepted = await self._receiver.replay(refusal, request[TENANT_KEY])
        if event_id := accepted.get("event_id"):
            tell(request, "refusal", refusal.refusal_id, events=[event_id])
        # the event is kept, and that is what was asked for; a refusal ends by itself
        with suppress(*REDIS_ERRORS):
            await self._refusals.remove(tool, refusal.refusal_id)
        return json_response(accepted, status=202)

    async def _tool(self, request: web.Request) -> Tool | None:
        """The tool in the path; None for those that there are not."""
        if "tool_id" not in request.match_info:
            return None
        tool_id, tenant = path_tool(request), request[TENANT_KEY]
        tool = self._catalog.current.tools.get(tool_id)
        if tool is None:
            # perhaps it was made a moment ago through another process
            tool = (await self._catalog.refresh()).tools.get(tool_id)
        if tool is None or tool.tenant != tenant:
            raise NotFoundError(
                f"there is no tool {own_tool_id(tool_id)}: what is sent to it is in {OF_UNKNOWN}"
            )
        return tool

    async def _refusal(self, request: web.Request, tool: Tool | None) -> Refusal:
        refusal_id = request.match_info["refusal_id"]
        if not _ID.fullmatch(refusal_id):
            raise BadRequestError("refusal_id: one of the list, such as 1764378000000-0")
        refusal = await self._refusals.get(tool, refusal_id)
        if refusal is None:
            raise NotFoundError(
                f"refusal {refusal_id} is not kept: it is for a day at most, newer ones push out "
                "older ones, and one that was accepted is none any more"
            )
        return refusal


def refusal_out(refusal: Refusal, tool: Tool | None) -> dict[str, Any]:
    """A refusal as the API shows it, without its body and without secrets."""
    path, mark, query = refusal.path.partition("?")
    masked = "&".join(f"{item.partition('=')[0]}=…" for item in query.split("&") if item)
    return {
        "refusal_id": refusal.refusal_id,
        # of tools that there are not: as it was called
        "tool_id": _clean(own_tool_id(refusal.tool_id) if tool else refusal.tool_id),
        "refused_at": datetime.fromtimestamp(refusal.at_ms / 1000, UTC).isoformat(),
        "status": refusal.status,
        "reason": refusal.reason,
        "detail": _clean(refusal.detail),
        "address": refusal.address,
        "method": refusal.method,
        "path": _clean(path + mark + masked),
        "headers": {
            _clean(name): ", ".join(_shown(name, value, tool) for value in values)
            for name, values in refusal.headers.items()
        },
        "body_bytes": refusal.body_bytes,
        "kept_bytes": len(refusal.body),
        "replayable": refusal.replayable,
    }


def body_out(body: bytes) -> dict[str, str]:
    """A body as text where it is text, else in base64."""
    try:
        return {"body": body.decode(), "body_encoding": "text"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "body_encoding": "base64"}


def _shown(name: str, value: str, tool: Tool | None) -> str:
    # a tool may have its credential in a header of any name
    if name in SHOWN_HEADERS and not (tool and name == tool.options.header.lower()):
        return _clean(value)
    return f"… ({len(value)} characters)"


def _clean(text: str) -> str:
    """Without what no JSON can hold, or what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
