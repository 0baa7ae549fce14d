"""The route of MCP. The server behind it, whose SDK is slow to import, is made when asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from hookstream.app.web.access import Access

__all__ = ["McpHandler", "McpViews"]


class McpHandler(Protocol):
    """What answers requests to ``/mcp`` until it is stopped."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""

    async def stop(self) -> None:
        """End all streams and sessions."""


class McpViews:
    """``/mcp``, and the server behind it once anybody with a key has asked for it."""

    def __init__(self, access: Access, start: Callable[[], Awaitable[McpHandler]]) -> None:
        """``start`` makes the server and starts it."""
        self._access = access
        self._start = start
        self._starting = asyncio.Lock()
        self._server: McpHandler | None = None

    def routes(self) -> list[web.RouteDef]:
        """The server looks at each key; who has none does not start it."""
        return [web.route("*", "/mcp", self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request to ``/mcp``."""
        if self._server is None:
            self._access.caller(request, request.headers.get("Authorization", ""))
            async with self._starting:
                if self._server is None:
                    self._server = await self._start()
        return await self._server.handle(request)

    async def stop(self, web_app: web.Application) -> None:
        """End with the process."""
        if self._server is not None:
            await self._server.stop()
