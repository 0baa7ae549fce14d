"""Every call that changes something leaves a row of the audit trail, whatever its view does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from hookstream.app import tasks
from hookstream.app.postgres.acting import Acting, acting
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.web.request_log import route_of

__all__ = ["note", "recorded", "tell"]

View = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: What the view has said of what it does.
_TOLD: web.RequestKey[dict[str, Any]] = web.RequestKey("told", dict)
SAFE = ("GET", "HEAD", "OPTIONS")


def tell(request: web.Request, kind: str, object_id: str, **more: Any) -> None:
    """Say what a request is about, for its row: the object, and ``events``, ``after``."""
    request[_TOLD] = {"object": {"kind": kind, "id": object_id}, **more}


async def note(
    trail: AuditTrail,
    tenant: str,
    who: Acting,
    action: str,
    obj: tuple[str, str],
    events: Sequence[str] | None = None,
) -> None:
    """Record what ``who`` is about to do with an object (kind and id), and with which events.

    Raises:
        UnavailableError: that cannot be recorded now.
    """
    kind, object_id = obj
    record = {
        **who.out(),
        "action": action,
        "object": {"kind": kind, "id": object_id},
        "before": None,
        "after": None,
        **({} if events is None else {"events": events}),
    }
    await trail.note(tenant, record)


def recorded(
    view: View,
    trail: AuditTrail,
    action: str,
    who: Callable[[web.Request], tuple[str, Acting]],
) -> View:
    """The view, with a row of the trail for whatever is no GET and did not fail by the caller.

    ``who``: tenant and caller of an authorised request.

    Statements of the view are those of the caller: what they change has rows by triggers. Where
    there are none of the call, there is one that says ``action`` ("": that it was called), also
    where it broke off: something may have been done by then.
    """

    async def view_recorded(request: web.Request) -> web.StreamResponse:
        if request.method in SAFE:
            return await view(request)
        tenant, caller = who(request)
        row = Row(request, trail, action, tenant, caller)
        try:
            with acting(caller):
                response = await view(request)
        except BaseException as error:
            # also a client that hangs up, which cancels the view
            if getattr(error, "status", 500) >= 500:
                await row.write(failed=type(error).__name__)
            raise
        if response.status < 400:
            await row.write()
        return response

    return view_recorded


@dataclass(frozen=True, slots=True)
class Row:
    """The row that a call leaves, unless its statements have left some."""

    request: web.Request
    trail: AuditTrail
    action: str
    tenant: str
    who: Acting

    async def write(self, *, failed: str = "") -> None:
        """Write it; ``failed``: what kind of error it ended with."""
        method, route = route_of(self.request)
        record = {
            "action": self.action or "api.called",
            "object": {"kind": "route", "id": f"{method} {route}"},
            "before": None,
            "after": None,
            **self.request.get(_TOLD, {}),
        }
        if failed:
            record["failed"] = failed
        work = self.trail.called(self.tenant, self.who, record)
        # what was done is recorded although nobody waits for the answer any more
        await asyncio.shield(tasks.awaited("AuditTrail.called", work))
