"""Clients that hear when a context moves: on a stream of its own, or in an older client's session.

None stays connected and deaf: where the following ends, whatever ends it, so does the stream or the
session, and the client comes back.
"""

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import mcp_types as types
from mcp.server.session import ServerSession
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.followers import Follower, Followers
from hookstream.app.mcp.reading import AgentReader
from hookstream.app.mcp.request import Context, as_mcp_errors, caller_of
from hookstream.app.mcp.uris import split_context_uri
from hookstream.app.web.access import Access, Caller
from hookstream.app.web.limits import OpenOfKey

__all__ = ["MAX_SESSIONS", "ListenStreams", "SessionFollowers"]

MAX_SESSIONS = 1000
#: Contexts that one listener may follow.
MAX_FOLLOWED = 100


class ListenStreams:
    """``subscriptions/listen``: the SDK serves the stream, we say when a context has moved."""

    def __init__(
        self,
        *,
        access: Access,
        reader: AgentReader,
        feeds: Feeds,
        followers: Followers,
        most_of_key: int,
    ) -> None:
        """``most_of_key``: streams that an agent's key may have open; 0 for any number."""
        #: Streams by the digest of their agent's key.
        self._of_key = OpenOfKey(most_of_key, "streams")
        self._access = access
        self._reader = reader
        self._feeds = feeds
        self._followers = followers
        self._open: set[ListenHandler] = set()

    async def serve(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream until the client goes, the key is revoked or this process stops."""
        caller = caller_of(ctx)
        uris = [str(uri) for uri in params.notifications.resource_subscriptions or ()]
        if len(uris) > MAX_FOLLOWED:
            raise MCPError(types.INVALID_PARAMS, f"at most {MAX_FOLLOWED} resources a stream")
        with self._counted(caller):
            return await self._serve(ctx, params, caller, uris)

    @contextmanager
    def _counted(self, caller: Caller) -> Iterator[None]:
        """Count a stream as its key's. Raises MCPError where there are as many as there may be."""
        if len(self._open) >= MAX_SESSIONS:
            raise MCPError(types.INTERNAL_ERROR, "too many open streams: try again later")
        if not caller.digest:
            yield
            return
        with ExitStack() as counted:
            with as_mcp_errors():
                counted.enter_context(self._of_key.one_more(caller.digest))
            yield

    async def _serve(
        self,
        ctx: Context,
        params: types.SubscriptionsListenRequestParams,
        caller: Caller,
        uris: list[str],
    ) -> types.SubscriptionsListenResult:
        wanted: dict[str, list[str]] = {}
        with as_mcp_errors():
            for uri in uris:
                wanted.setdefault(split_context_uri(uri)[0], []).append(uri)
            last = {name: await self._reader.last_seq(caller, name) for name in wanted}
        bus = InMemorySubscriptionBus()
        handler = ListenHandler(bus)
        self._open.add(handler)
        following = [
            tasks.spawn(
                "ListenStreams.follow",
                # one for all resources of a context: each asks Redis whenever it moves
                self._follow(bus, handler, caller, about, name, last[name]),
                failed=lambda error: self._end(handler, reason_of(error)),
            )
            for name, about in wanted.items()
        ]
        try:
            return await handler(ctx, params)
        finally:
            self._open.discard(handler)
            # not waited for: a client that goes cancels this too
            tasks.spawn("ListenStreams.stop", tasks.stop(*following))

    async def _follow(
        self,
        bus: InMemorySubscriptionBus,
        handler: ListenHandler,
        caller: Caller,
        uris: list[str],
        context_id: str,
        last: int,
    ) -> None:
        follow = self._followers.follow
        stalled = functools.partial(self._end, handler, "stalled")
        with follow("mcp", caller.tenant, context_id, last, stalled) as follower:
            async for _ in moves(self._access, self._feeds, caller, follower):
                for uri in uris:
                    await bus.publish(ResourceUpdated(uri=uri))
        self._end(handler, "revoked")

    def _end(self, handler: ListenHandler, reason: str) -> None:
        if handler in self._open:
            self._open.discard(handler)
            self._followers.closed("mcp", reason, trouble=reason != "revoked")
        handler.close()

    def close(self) -> None:
        """End all streams."""
        for handler in list(self._open):
            handler.close()


class SessionFollowers:
    """``resources/subscribe`` of older clients: told on their session's own stream."""

    def __init__(
        self,
        *,
        access: Access,
        reader: AgentReader,
        feeds: Feeds,
        followers: Followers,
        manager: Callable[[], StreamableHTTPSessionManager | None],
    ) -> None:
        self._access = access
        self._reader = reader
        self._feeds = feeds
        self._followers = followers
        self._manager = manager
        #: By session.
        self._following: dict[str, set[Follower]] = {}

    async def subscribe(
        self, ctx: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        """Begin to tell the session of a context."""
        caller, uri = caller_of(ctx), str(params.uri)
        with as_mcp_errors():
            context_id, _ = split_context_uri(uri)
            last = await self._reader.last_seq(caller, context_id)
        connection = ctx.session._connection  # the SDK gives no other way to what a session holds
        followed: dict[str, asyncio.Task[None]] = connection.state.setdefault("followed", {})
        if uri not in followed:
            if len(followed) >= MAX_FOLLOWED:
                raise MCPError(types.INVALID_PARAMS, f"at most {MAX_FOLLOWED} subscriptions")
            session_id = connection.session_id or ""
            followed[uri] = tasks.spawn(
                "SessionFollowers.follow",
                self._follow(ctx.session, session_id, caller, uri, context_id, last),
                failed=lambda error: self._end(session_id, reason_of(error)),
            )
            connection.exit_stack.callback(self._stop, followed[uri])
        return types.EmptyResult()

    async def unsubscribe(
        self, ctx: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        """Tell the session no more."""
        followed = ctx.session._connection.state.get("followed", {})
        task = followed.pop(str(params.uri), None)
        if task is not None:
            self._stop(task)
        return types.EmptyResult()

    def _stop(self, task: asyncio.Task[None]) -> None:
        tasks.spawn("SessionFollowers.stop", tasks.stop(task))

    async def _follow(
        self,
        session: ServerSession,
        session_id: str,
        caller: Caller,
        uri: str,
        context_id: str,
        last: int,
    ) -> None:
        follow = self._followers.follow
        stalled = functools.partial(self._end, session_id, "stalled")
        with follow("mcp", caller.tenant, context_id, last, stalled) as follower:
            mine = self._following.setdefault(session_id, set())
            mine.add(follower)
            try:
                # no other process has this session: it waits for Redis as long as that takes
                async for _ in moves(self._access, self._feeds, caller, follower, math.inf):
                    await session.send_resource_updated(uri)
            finally:
                mine.discard(follower)
                if not mine and self._following.get(session_id) is mine:
                    del self._following[session_id]
        self._end(session_id, "revoked")

    def tell_again(self, session_id: str) -> None:
        """Its stream is new: what was told while there was none has reached nobody."""
        for follower in self._following.get(session_id, ()):
            follower.seq = 0

    def replace(self, session_id: str) -> None:
        """End a session, for its key has opened a newer one than it may have beside it."""
        self._end(session_id, "replaced")

    def _end(self, session_id: str, reason: str) -> None:
        """End a session; its client gets 404 for it, and begins another one."""
        manager = self._manager()
        transport = manager._server_instances.get(session_id) if manager else None
        if transport is not None and not transport.is_terminated:
            self._followers.closed("mcp", reason, trouble=reason not in ("revoked", "replaced"))
            tasks.spawn("SessionFollowers.end", transport.terminate())


def reason_of(error: BaseException) -> str:
    """The word for an end with ``error``."""
    return "unreadable" if isinstance(error, UnavailableError) else "failed"


async def moves(
    access: Access,
    feeds: Feeds,
    caller: Caller,
    follower: Follower,
    patience_seconds: float | None = None,
) -> AsyncIterator[int]:
    """The context's highest number whenever it is above the follower's; ends with the caller's key.

    The follower's is taken before the client is told that it is heard: nothing falls in between.

    Raises:
        UnavailableError: the feed could not be read for ``patience_seconds``, if given; else for
            as long as a follower waits.
    """
    while access.still_known(caller):
        now = None
        if follower.moved.take():
            with follower.trying(patience_seconds):
                now = await feeds.last_seq(follower.tenant, follower.context_id)
        if now is not None:
            last = follower.seq
            if now != last:
                # lower: Redis has lost data, and the client is told so when it reads
                yield now
            if follower.seq == last:  # nobody wants to be told again meanwhile
                follower.seq = now
        await follower.moved.wait()
