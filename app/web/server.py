"""The HTTP server: Faust's own web driver with bounded connections, and the same for receivers."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler
from faust.types import AppT
from faust.web.drivers.aiohttp import Web
from mode import Service

from hookstream.app import metrics, tasks
from hookstream.app.errors import NotFoundError
from hookstream.app.settings import Settings, cannot_listen, listen_hosts
from hookstream.app.siblings import Siblings, kind_of
from hookstream.app.web.browsers import harden
from hookstream.app.web.connection import LaneServer, Runner
from hookstream.app.web.expectations import close_unread
from hookstream.app.web.fast_lane import LANE
from hookstream.app.web.hot_route import HotRoute
from hookstream.app.web.malformed import MAX_FIELD_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from hookstream.app.web.problem import Handler, problems
from hookstream.app.web.processes import hand_on
from hookstream.app.web.request_log import DOOR, ServerLog, log_requests
from hookstream.app.web.sender import see_senders

__all__ = ["ConnectionReaper", "HookstreamWeb", "make_runner"]

KEEPALIVE_SECONDS = 75.0
#: For a WebSocket to be closed in, once it is too slow.
CLOSING_SECONDS = 5.0
#: A client that takes less than this within the write timeout takes nothing.
MIN_TAKEN_BYTES = 1024
HOOKS = "/hooks/{tool_id}"
TENANTS_HOOKS = "/hooks/{tenant}/{tool_id}"
#: What strangers and agents need, where operators have a port of their own: nothing else is there.
PUBLIC = {
    HOOKS,
    HOOKS + "/",
    TENANTS_HOOKS,
    TENANTS_HOOKS + "/",
    "/contexts/{context_id}/updates",
    "/mcp",
    "/health/live",
}


def make_runner(web_app: web.Application) -> web.AppRunner:
    """A runner that leaves bodies as they were sent: signatures are over those bytes."""
    return Runner(
        web_app,
        access_log=None,
        logger=ServerLog(web_app),
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=1.0,
        shutdown_timeout=5.0,
        handler_cancellation=True,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        max_headers=MAX_HEADERS,
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
        if not _is_for_operators(request, admin_port):
            if place not in PUBLIC:
                raise NotFoundError(
                    "this port has /hooks/TOOL, /contexts/CONTEXT/updates (WebSocket), /mcp and "
                    "/health/live only: the rest is on the operators' port (HOOKSTREAM_ADMIN_PORT)"
                )
        elif place.rstrip("/") in (HOOKS, TENANTS_HOOKS):
            raise NotFoundError(
                "this is the operators' port: webhooks are taken on that of HOOKSTREAM_WEB_PORT"
            )
        return await handler(request)

    return split


def _is_for_operators(request: web.Request, admin_port: int) -> bool:
    here = request.get_extra_info("sockname")
    if isinstance(here, tuple):
        return bool(here[1] == admin_port)
    connection = request.get_extra_info("socket")
    # other processes of ours ask on a socket in a folder that nobody else may enter
    return connection is not None and connection.family == socket.AF_UNIX


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
        siblings: Siblings | None = None,
        **kwargs: Any,
    ) -> None:
        """``app`` is for Faust. ``add_endpoints`` is called when this starts.

        ``stopping_since``: when the process began to stop, by the event loop's clock.
        ``siblings``: other processes of the command that started this one.
        """
        super().__init__(app, **kwargs)
        self._siblings = siblings
        self._settings = settings
        self._add_endpoints = add_endpoints
        self._stopping_since = stopping_since
        if trusted := settings.trusted_networks:
            self.web_app.middlewares.append(see_senders(trusted))
        log_requests(self.web_app)
        self.web_app.on_response_prepare.append(harden)
        self.web_app.on_response_prepare.append(close_unread)
        self.web_app.middlewares.append(problems)
        if settings.admin_port:
            self.web_app.middlewares.append(split_by_port(settings.admin_port))
        if siblings is not None and siblings.shares_ports and kind_of(siblings.name) == "worker":
            self.web_app.middlewares.append(hand_on(siblings))
        self._runner = make_runner(self.web_app)

    async def on_start(self) -> None:
        """Add our routes; by now the command line has said which of them this process serves."""
        self._add_endpoints(self.web_app)
        await super().on_start()

    def _new_transport_tcp(self) -> web.TCPSite:
        """The first of our addresses; the others are begun behind it."""
        return self._site(listen_hosts(self.app.conf.web_bind)[0])

    def _site(self, host: str) -> web.TCPSite:
        """Processes of one kind and command listen on one port."""
        return web.TCPSite(
            self._runner,
            host,
            self.app.conf.web_port,
            backlog=1024,
            reuse_port=self._shares_ports or None,
        )

    @property
    def _shares_ports(self) -> bool:
        # with nobody else: another installation on the port would take half of what comes
        return self._siblings is not None and self._siblings.shares_ports

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
        host, *others = listen_hosts(conf.web_bind)
        try:
            await super().start_server()
            for host in others:
                await self._site(host).start()
        except OSError as error:
            raise cannot_listen(
                host, conf.web_port, error, "HOOKSTREAM_WEB_PORT (or --web-port)"
            ) from error
        self._pass_by_router()
        for host in listen_hosts(settings.admin_host) if settings.admin_port else ():
            await self._start_admin(host, settings.admin_port)
        if self._siblings is not None:
            await self._start_for(self._siblings)
        await self.add_runtime_dependency(
            ConnectionReaper(
                self._runner,
                settings.header_timeout_seconds,
                settings.max_connections,
                # a WebSocket that takes nothing is closed by its own limit, with the code for that
                max(
                    settings.write_timeout_seconds,
                    settings.websocket_send_timeout_seconds + CLOSING_SECONDS,
                ),
            )
        )

    def _pass_by_router(self) -> None:
        """From now on webhooks go their own way, if this process takes any."""
        server, door = self._runner.server, self.web_app.get(DOOR)
        if isinstance(server, LaneServer) and door is not None:
            server.lane = self.web_app.get(LANE)
            server.no_lane = self._settings.admin_port
            server.request_handler = HotRoute(
                door.take,
                server.request_handler,
                self.web_app,
                admin_port=self._settings.admin_port,
                trusted=self._settings.trusted_networks,
            )

    async def _start_for(self, siblings: Siblings) -> None:
        """Listen for who asks this process and no other one."""
        path = siblings.socket()
        with suppress(FileNotFoundError):
            path.unlink()  # of one that was killed
        await web.UnixSite(self._runner, path).start()

    async def _start_admin(self, host: str, port: int) -> None:
        """Listen for operators, too."""
        try:
            await web.TCPSite(
                self._runner, host, port, reuse_port=self._shares_ports or None
            ).start()
        except OSError as error:
            raise cannot_listen(host, port, error, "HOOKSTREAM_ADMIN_PORT") from error


class ConnectionReaper(Service):
    """Closes connections that take too long over headers, or over an answer, or are too many.

    aiohttp bounds none of it: a client that connects and sends nothing, or half a header, stays,
    and so does one that takes nothing of what it is sent. A body has its own limit.
    """

    mundane_level = "debug"

    def __init__(
        self,
        runner: web.AppRunner,
        idle_seconds: float,
        max_connections: int,
        write_seconds: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._write_seconds = write_seconds
        #: What each client that has something to take has taken, and since when no more.
        self._taken: dict[RequestHandler, tuple[object, int, float]] = {}
        self._runner = runner
        self._idle_seconds = idle_seconds
        self._max = max_connections
        self._since: dict[RequestHandler, tuple[int, float]] = {}

    @tasks.loop
    async def _reap(self) -> None:
        while not self.should_stop:
            await self.sleep(min(1.0, self._idle_seconds / 4, self._write_seconds / 4))
            now = time.monotonic()
            self.reap(now)
            self.cut_off(now)

    def cut_off(self, now: float) -> int:
        """End connections whose clients have taken nothing for too long; returns how many."""
        server = self._runner.server
        cut = 0
        taken: dict[RequestHandler, tuple[object, int, float]] = {}
        for connection in server.connections if isinstance(server, web.Server) else []:
            waiting = connection.transport.get_write_buffer_size() if connection.transport else 0
            if not waiting:
                continue
            request = connection._current_request
            writer = request.writer if request is not None else None
            # of an answer that is still written what the kernel has; of one that is, what it lacks
            sent = (writer.output_size if writer is not None else 0) - waiting
            key, before, since = self._taken.get(connection, (writer, sent, now))
            if key is not writer or sent - before >= MIN_TAKEN_BYTES:
                before, since = sent, now
            if now - since > self._write_seconds:
                connection.transport.abort()  # type: ignore[union-attr]
                metrics.CLIENTS_CUT_OFF.inc()
                cut += 1
            else:
                taken[connection] = (writer, before, since)
        self._taken = taken
        return cut

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
