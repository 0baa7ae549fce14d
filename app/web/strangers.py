"""What ``/health`` and ``/metrics`` tell whoever asks, where there is more than one tenant.

Both are open. Names of tools, contexts and tenants are a tenant's own: with several of them they
are told to the installation's key, on the operators' port, and to the other processes of ours.
"""

import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from aiohttp import web
from aiohttp.abc import AbstractView

from hookstream.app.routing.catalog import Catalog
from hookstream.app.web.access import Access

__all__ = ["KnowsNames", "for_strangers", "nameless_health", "nameless_metrics"]

#: A series that names whose it is.
_NAMED = re.compile(rb'^[a-z_:]+\{(?:[^}]*,)?(?:tool|context|tenant)="')

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]] | type[AbstractView]


class KnowsNames:
    """Whether a request may be told names."""

    def __init__(self, access: Access, current: Callable[[], Catalog], admin_port: int) -> None:
        """``admin_port``: the operators' port, 0 where there is none."""
        self._access = access
        self._current = current
        self._admin_port = admin_port
        #: The last catalog that was looked at, and whether it is of one tenant.
        self._last = (Catalog(), True)

    def __call__(self, request: web.Request) -> bool:
        """Whether it is one of ours, or there is one tenant alone."""
        return self._one_tenant() or self._is_ours(request) or self._access.is_admin(request)

    def _one_tenant(self) -> bool:
        catalog = self._current()
        if self._last[0] is not catalog:
            found = {tool.tenant for tool in catalog.tools.values()}
            found |= {tenant for tenant, _ in catalog.contexts}
            found |= {key.tenant for key in catalog.keys.values()}
            self._last = catalog, len(found) < 2
        return self._last[1]

    def _is_ours(self, request: web.Request) -> bool:
        here = request.get_extra_info("sockname")
        if isinstance(here, tuple):
            return bool(self._admin_port and here[1] == self._admin_port)
        # a socket in a folder that nobody else may enter
        connection = request.get_extra_info("socket")
        return connection is not None and connection.family == socket.AF_UNIX


def for_strangers(
    routes: Iterable[web.RouteDef], knows_names: Callable[[web.Request], bool]
) -> list[web.RouteDef]:
    """The routes of ``/health`` and ``/metrics``, whose answers have no names for strangers."""
    return [
        web.route(route.method, route.path, _cut(route.handler, knows_names), **route.kwargs)
        for route in routes
    ]


def _cut(handler: Any, knows_names: Callable[[web.Request], bool]) -> Handler:
    async def cut(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        if knows_names(request) or not isinstance(answer, web.Response):
            return answer
        assert isinstance(answer.body, bytes)
        is_json = answer.content_type == "application/json"
        answer.body = (nameless_health if is_json else nameless_metrics)(answer.body)
        return answer

    return cut


def nameless_metrics(body: bytes) -> bytes:
    """Without series that name a tool, a context or a tenant."""
    return b"".join(line for line in body.splitlines(keepends=True) if not _NAMED.match(line))


def nameless_health(body: bytes) -> bytes:
    """How each part is, and what is counted of it; no texts and lists, which may have names."""
    said = orjson.loads(body)
    parts = {
        name: {
            field: value
            for field, value in part.items()
            if field == "status" or isinstance(value, (int, float)) or value is None
        }
        for name, part in said.get("parts", {}).items()
    }
    return orjson.dumps({"status": said.get("status"), "parts": parts})
