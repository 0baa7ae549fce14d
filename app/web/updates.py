"""``GET /contexts/{context_id}/updates``: a context's feed over WebSocket."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from socket import SO_SNDBUF, SOL_SOCKET

from aiohttp import web

from hookstream.app import metrics
from hookstream.app.errors import (
    BadRequestError,
    ForbiddenError,
    SuspendedError,
    UnavailableError,
)
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.followers import Followers
from hookstream.app.feeds.resets import Resets
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import Access, Caller, path_id
from hookstream.app.web.events import check_query
from hookstream.app.web.frames import FeedFrames
from hookstream.app.web.limits import OpenOfKey
from hookstream.app.web.routes import may_call
from hookstream.app.web.websocket import STOPPING, SUSPENDED, Client, UpdateSocket

__all__ = ["UpdateViews", "parse_after"]

PATH = "/contexts/{context_id}/updates"
FOLLOW = may_call("GET", PATH)
PROTOCOL = "hookstream"
#: A browser cannot set headers on a WebSocket: it offers its key as a subprotocol instead.
KEY_PROTOCOL = "hookstream.key."
MAX_CLIENT_MESSAGE_BYTES = 4096
#: What the kernel may hold for one client: by itself it would take megabytes for each.
SEND_BUFFER_BYTES = 256 * 1024


class UpdateViews:
    """Upgrades connections, and closes them when this process stops."""

    def __init__(
        self,
        *,
        access: Access,
        settings: Settings,
        catalog: CatalogCache,
        feeds: Feeds,
        resets: Resets,
        followers: Followers,
        use: TenantUse,
    ) -> None:
        self._use = use
        self._access = access
        self._settings = settings
        self._catalog = catalog
        self._feeds = feeds
        self._resets = resets
        self._followers = followers
        self._open: set[UpdateSocket] = set()
        catalog.on_change(self._close_suspended)
        #: Sockets by the digest of their key, from before their upgrade to their end.
        self._of_key = OpenOfKey(settings.websockets_per_key, "WebSockets")

    def routes(self) -> list[web.RouteDef]:
        """The key is looked at in :meth:`get`: browsers send it in a way of their own."""
        return [web.get(PATH, self.get)]

    async def close_all(self, web_app: web.Application) -> None:
        """Tell the clients that this process goes away (1001): they come back to another."""
        for served in self._open:
            served.close(STOPPING)
        # each has its own time limit
        await asyncio.gather(*(served.done.wait() for served in self._open))

    def _close_suspended(self) -> None:
        """Close the sockets of tenants that are suspended, or being deleted (4003)."""
        tenants = self._catalog.current.tenants
        for served in self._open:
            tenant = tenants.get(served.tenant)
            if tenant is not None and tenant.trouble:
                served.close(SUSPENDED)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and send every update past ``after``.

        Without ``after`` it begins behind what the context's clients have acknowledged. A slow
        client is read for no faster than it takes: nothing piles up for it in memory. With
        ``fold=N`` more than N waiting updates come as one digest; one that takes nothing for
        ``HOOKSTREAM_WEBSOCKET_SEND_TIMEOUT_SECONDS`` is closed with code 4008. ``generation`` is
        that of ``after`` (0: none yet); who names it gets a ``hello`` first.
        """
        caller = await self._access.caller_of(request, _credentials(request))
        context_id = path_id(request, "context_id")
        try:
            caller.check_may(FOLLOW)
            caller.check(context_id)
        except ForbiddenError:
            self._access.forbidden(caller)
            raise
        await self._catalog.context(caller.tenant, context_id)
        check_query(request.query, ("after", "fold", "generation"))
        after = parse_after(request.query.get("after"))
        fold = parse_after(request.query.get("fold"), "fold")
        generation = parse_after(request.query.get("generation"), "generation")
        if after is None:
            try:
                after = await self._feeds.acknowledged(caller.tenant, context_id)
            except REDIS_ERRORS as error:
                raise UnavailableError("feeds cannot be read at the moment: try again") from error
        socket = web.WebSocketResponse(
            heartbeat=self._settings.websocket_heartbeat_seconds,
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
            protocols=(PROTOCOL,),
            compress=False,
        )
        if not socket.can_prepare(request).ok:
            raise BadRequestError("this address speaks WebSocket: connect with a WebSocket client")
        with self._counted(caller):
            await socket.prepare(request)
            _bound_send_buffer(request)
            await self._serve(Client(socket, request, caller, context_id), after, fold, generation)
        return socket

    @contextmanager
    def _counted(self, caller: Caller) -> Iterator[None]:
        """Count a socket as its key's and its tenant's.

        Raises:
            LimitError: one of them has all it may.
            SuspendedError: the tenant is suspended, whoever asks.
        """
        if trouble := self._catalog.current.tenant(caller.tenant).trouble:
            raise SuspendedError(trouble)
        with self._use.one_more_socket(caller.tenant):
            if not caller.digest:
                yield
                return
            with self._of_key.one_more(caller.digest):
                yield

    async def _serve(
        self, client: Client, after: int, fold: int | None, generation: int | None
    ) -> None:
        frames = FeedFrames(
            client.who,
            settings=self._settings,
            catalog=self._catalog,
            feeds=self._feeds,
            resets=self._resets,
            fold=fold,
            generation=generation,
            key=client.caller.digest,
        )
        served = UpdateSocket(
            client,
            frames,
            access=self._access,
            catalog=self._catalog,
            feeds=self._feeds,
            followers=self._followers,
            send_seconds=self._settings.websocket_send_timeout_seconds,
        )
        metrics.WEBSOCKETS.inc()
        self._open.add(served)
        try:
            await served.serve(after)
        finally:
            self._open.discard(served)
            served.done.set()
            metrics.WEBSOCKETS.dec()


def parse_after(text: str | None, name: str = "after") -> int | None:
    """The ``after`` parameter. Raises BadRequestError when it is no sequence number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise BadRequestError(f"{name}: a whole number, from 0")
    return int(text)


def _bound_send_buffer(request: web.Request) -> None:
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport else None
    if connection is not None:
        connection.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)


def _credentials(request: web.Request) -> str:
    if header := request.headers.get("Authorization"):
        return header
    for offered in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if offered.strip().startswith(KEY_PROTOCOL):
            return f"Bearer {offered.strip().removeprefix(KEY_PROTOCOL)}"
    return ""
