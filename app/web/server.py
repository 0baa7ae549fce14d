"""The HTTP server: Faust's own web driver with bounded connections, and the same for receivers."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler
from faust.types import AppT
from faust.web.drivers.aiohttp import Web
from mode import Service

from hookstream.app import tasks
from hookstream.app.errors import NotFoundError
from hookstream.app.settings import Settings, cannot_listen
from hookstream.app.web.problem import Handler, problems
from hookstream.app.web.request_log import log_requests, server_log

__all__ = ["ConnectionReaper", "HookstreamWeb", "make_runner"]

KEEPALIVE_SECONDS = 75.0
HOOKS = "/hooks/{tool_id}"
#: What strangers and agents need, where operators have a port of their own: nothing else is there.
PUBLIC = {HOOKS, "/contexts/{context_id}/updates", "/mcp", "/health/live"}


def make_runner(web_app: web.Application) -> web.AppRunner:
    """A runner that leaves bodies as they were sent: signatures are over those bytes."""
    return web.AppRunner(
        web_app,
        access_log=None,
        logger=server_log,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=1.0,
        shutdown_timeout=5.0,
        handler_cancellation=True,
    )


def split_by_port(admin_port: int) -> Middleware:
    """A middleware that serves on each port only what belongs there.

    It goes by the route that was found, not by how its path is written: what is added later is
    for operators unless it is named here.
    """

    @web.middleware
    async def split(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        # nothing is found for another method, either: who sends a webhook by GET is told so
        hooks = request.path.startswith("/hooks/")
        place = resource.canonical if resource else HOOKS if hooks else ""
        here = request.get_extra_info("sockname")
        if here is None or here[1] != admin_port:
            if place not in PUBLIC:
                raise NotFoundError(
                    "this port has /hooks/TOOL, /contexts/CONTEXT/updates (WebSocket), /mcp and "
                    "/health/live only: the rest is on the operators' port (HOOKSTREAM_ADMIN_PORT)"
                )
        elif place == HOOKS:
            raise NotFoundError(
                "this is the operators' port: webhooks are taken on that of HOOKSTREAM_WEB_PORT"
            )
        return await handler(request)

    return split


class HookstreamWeb(Web):
    """Faust's web server with our routes in place of its own demonstration pages."""

    mundane_level = "debug"

    default_blueprints: Any = []
    production_blueprints: Any = []
    debug_blueprints: Any = []
    optional_blueprints: Any = []

    def __init__(
        self,
        app: AppT,
        *,
        settings: Settings,
        add_endpoints: Callable[[web.Application], None],
        stopping_since: Callable[[], float],
        **kwargs: Any,
    ) -> None:
        """``app`` is for Faust. ``add_endpoints`` is called when this starts.

        ``stopping_since``: when the process began to stop, by the event loop's clock.
        """
        super().__init__(app, **kwargs)
        self._settings = settings
        self._add_endpoints = add_endpoints
        self._stopping_since = stopping_since
        log_requests(self.web_app)
        self.web_app.middlewares.append(problems)
        if settings.admin_port:
            self.web_app.middlewares.append(split_by_port(settings.admin_port))
        self._runner = make_runner(self.web_app)

    async def on_start(self) -> None:
        """Add our routes; by now the command line has said which of them this process serves."""
        self._add_endpoints(self.web_app)
        await super().on_start()

    def _new_transport_tcp(self) -> web.TCPSite:
        """Several receiver processes may listen on one port."""
        conf = self.app.conf
        return web.TCPSite(
            self._runner,
            conf.web_bind,
            conf.web_port,
            backlog=1024,
            reuse_port=self.app.producer_only or None,
        )

    async def stop_server(self) -> None:
        """Answer what is in flight, and stop listening; by now ``/health/ready`` says 503."""
        settings = self._settings
        late = asyncio.get_running_loop().time() - self._stopping_since()
        await asyncio.sleep(max(0.0, settings.shutdown_delay_seconds - late))
        for site in list(self._runner.sites):
            await site.stop()
        await self._finish_bodies(settings.shutdown_timeout_seconds)
        await super().stop_server()

    async def _finish_bodies(self, timeout_seconds: float) -> None:
        """Wait for bodies in flight: once aiohttp's own shutdown begins, it drops what comes."""
        server = self._runner.server
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while isinstance(server, web.Server) and loop.time() < deadline:
            requests = [connection._current_request for connection in server.connections]
            if all(request is None or request.content.is_eof() for request in requests):
                return
            await asyncio.sleep(0.02)

    async def start_server(self) -> None:
        """Start listening, and closing connections that send nothing."""
        conf, settings = self.app.conf, self._settings
        try:
            await super().start_server()
        except OSError as error:
            raise cannot_listen(
                conf.web_bind, conf.web_port, error, "HOOKSTREAM_WEB_PORT (or --web-port)"
            ) from error
        if settings.admin_port:
            await self._start_admin(settings.admin_host, settings.admin_port)
        await self.add_runtime_dependency(
            ConnectionReaper(
                self._runner, settings.header_timeout_seconds, settings.max_connections
            )
        )

    async def _start_admin(self, host: str, port: int) -> None:
        """Listen for operators, too; no process shares this port, each answers for itself."""
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise cannot_listen(host, port, error, "HOOKSTREAM_ADMIN_PORT") from error


class ConnectionReaper(Service):
    """Closes connections that take too long over a request's headers, or are too many.

    aiohttp bounds neither: a client that connects and sends nothing, or half a header, stays.
    Connections with a request in flight are not its business (bodies have their own limit).
    """

    mundane_level = "debug"

    def __init__(
        self, runner: web.AppRunner, idle_seconds: float, max_connections: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._runner = runner
        self._idle_seconds = idle_seconds
        self._max = max_connections
        self._since: dict[RequestHandler, tuple[int, float]] = {}

    @tasks.loop
    async def _reap(self) -> None:
        while not self.should_stop:
            await self.sleep(min(1.0, self._idle_seconds / 4))
            self.reap(time.monotonic())

    def reap(self, now: float) -> int:
        """Close what is over its time or over the limit at ``now``; returns how many."""
        server = self._runner.server
        connections = server.connections if isinstance(server, web.Server) else []
        closed = 0
        since: dict[RequestHandler, tuple[int, float]] = {}
        for at, connection in enumerate(connections):
            count, begun = self._since.get(connection, (-1, now))
            if connection._request_in_progress or connection._request_count != count:
                begun = now
            since[connection] = (connection._request_count, begun)
            allowed = self._idle_seconds if connection._request_count == 0 else KEEPALIVE_SECONDS
            late = now - begun > allowed or at >= self._max
            if late and not connection._request_in_progress:
                connection.force_close()
                closed += 1
        self._since = since
        return closed
