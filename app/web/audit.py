"""``/api/v1/audit``: who has changed or read what."""

from collections.abc import Sequence

import orjson
from aiohttp import web

from hookstream.app.errors import BadRequestError
from hookstream.app.stores.audit_chain import Link, export_line
from hookstream.app.stores.audit_trail import AuditFilter, AuditTrail
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, uuid7
from hookstream.app.web.events import check_query, parse_limit, parse_time
from hookstream.app.web.models.audit import (
    AUDIT_QUERY,
    VERIFY_QUERY,
    AuditList,
    VerifiedAuditOut,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["AuditViews"]

AUDIT = "/api/v1/audit"


class AuditViews:
    """Search, export and verify the audit trail; for the admin key alone."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                AUDIT,
                self.list,
                "Search the audit trail, the newest row first",
                gives=AuditList,
                errors=(400,),
                query=AUDIT_QUERY,
            ),
            Route(
                "GET",
                AUDIT + "/export",
                self.export,
                "All of the audit trail as lines of JSON, the oldest row first",
                errors=(400,),
            ),
            Route(
                "GET",
                AUDIT + "/verify",
                self.verify,
                "Whether rows of the audit trail are missing or changed, a part of it at a time",
                gives=VerifiedAuditOut,
                errors=(400,),
                query=VERIFY_QUERY,
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of rows."""
        query = request.query
        check_query(query, AUDIT_QUERY)
        limit, cursor = parse_limit(query.get("limit", "50")), query.get("cursor")
        if cursor is not None and not (
            cursor.isascii() and cursor.isdecimal() and len(cursor) < 19
        ):
            raise BadRequestError("cursor: from the page before")
        event = query.get("event")
        wanted = AuditFilter(
            actor=query.get("actor"),
            action=query.get("action"),
            kind=query.get("kind"),
            object=query.get("object"),
            since=parse_time("since", query.get("since")),
            until=parse_time("until", query.get("until")),
            event=uuid7(event, "event") if event is not None else None,
            below=int(cursor) if cursor is not None else None,
            limit=limit,
        )
        rows = await self._trail.find(request[TENANT_KEY], wanted)
        shown = [orjson.loads(export_line(row)) for row in rows]
        cursor = str(rows[-1].seq) if len(rows) == limit else None
        return json_response({"rows": shown, "cursor": cursor})

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Lines of JSON; that somebody has taken them is a row, too."""
        check_query(request.query, ())
        caller = request[CALLER_KEY]
        record = {
            **caller.acting.out(),
            "action": "audit.exported",
            "object": {"kind": "audit", "id": caller.tenant},
            "before": None,
            "after": None,
        }
        await self._trail.note(caller.tenant, record)
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/x-ndjson",
                "Content-Disposition": 'attachment; filename="audit.jsonl"',
            }
        )
        await response.prepare(request)
        async for page in self._trail.pages(caller.tenant):
            await response.write(b"".join(map(export_line, page)))
        await response.write_eof()
        return response

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """One part of the chain."""
        check_query(request.query, VERIFY_QUERY)
        after, expected = (_link(request, name) for name in ("cursor", "expect"))
        found = await self._trail.verify(request[TENANT_KEY], after, expected)
        return json_response(
            {
                "looked_at": found.looked_at,
                "problems": [problem.out() for problem in found.problems],
                "head": str(found.head),
                "start": str(found.start),
                "next": str(found.next) if found.next else None,
            }
        )


def _link(request: web.Request, name: str) -> Link | None:
    text = request.query.get(name)
    try:
        return Link.parse(text) if text is not None else None
    except ValueError as error:
        raise BadRequestError(f"{name}: {error}") from error
