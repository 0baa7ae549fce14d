"""A client's WebSocket: what it is sent, what it sends, and how it ends.

It never stays open and deaf: whatever ends the sending closes the socket, with a code that tells
the client to resume, and :mod:`hookstream.app.feeds.followers` closes what no end is heard of.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hookstream.app import metrics, tasks
from hookstream.app.errors import BadRequestError, ConflictError, UnavailableError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.followers import Follower, Followers
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import Access, Caller
from hookstream.app.web.frames import FeedFrames, FramePage, frame_text

__all__ = ["STOPPING", "SUSPENDED", "Client", "UpdateSocket", "parse_client_message"]

MAX_SEQ = 2**53
#: A client that does not answer our closing within this time is cut off.
CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class End:
    """Why a socket is closed: its code (4000 to 4999 are an application's own), and our word."""

    code: int
    reason: str
    text: str
    #: Through no wish of client, operator or owner.
    trouble: bool = False


STOPPING = End(WSCloseCode.GOING_AWAY, "stopping", "the server stops")
REVOKED = End(WSCloseCode.POLICY_VIOLATION, "revoked", "the key was revoked")
DELETED = End(WSCloseCode.POLICY_VIOLATION, "deleted", "the context was deleted")
SUSPENDED = End(4003, "suspended", "the tenant is suspended: ask the operator")
FAILED = End(WSCloseCode.INTERNAL_ERROR, "failed", "the server failed: resume", trouble=True)
UNREADABLE = End(
    WSCloseCode.TRY_AGAIN_LATER, "unreadable", "the feed cannot be read here: resume", trouble=True
)
STALLED = End(4009, "stalled", "there is more than was sent: resume", trouble=True)


@dataclass(frozen=True, slots=True)
class Client:
    """A connection, whose key it came with, and the context that it follows."""

    socket: web.WebSocketResponse
    request: web.Request
    caller: Caller
    context_id: str

    @property
    def who(self) -> tuple[str, str]:
        """Tenant and context."""
        return self.caller.tenant, self.context_id

    def cut_off(self) -> None:
        """End the connection without waiting for anything."""
        if self.request.transport is not None:
            self.request.transport.abort()


class UpdateSocket:
    """Sends a context's updates as they come, from where the client left off."""

    def __init__(
        self,
        client: Client,
        frames: FeedFrames,
        *,
        access: Access,
        catalog: CatalogCache,
        feeds: Feeds,
        followers: Followers,
        send_seconds: float,
    ) -> None:
        """``send_seconds``: within which the client has to take each frame."""
        self._client = client
        self._socket = client.socket
        self._frames = frames
        self._access = access
        self._catalog = catalog
        self._feeds = feeds
        self._followers = followers
        self._send_seconds = send_seconds
        #: Set when all is over.
        self.done = asyncio.Event()
        #: Why it is closed, once somebody has asked for that.
        self._end: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()

    async def serve(self, after: int) -> None:
        """Send what is past ``after``, and take what comes, until either side closes."""
        follow, who = self._followers.follow, self._client.who
        key = self._client.caller.digest
        with follow("websocket", *who, after, lambda: self.close(STALLED), key=key) as follower:
            work = [
                self._spawn("UpdateSocket.send", self._send(follower)),
                self._spawn("UpdateSocket.receive", self._receive()),
            ]
            try:
                end = await self._end
            finally:
                await tasks.stop(*work)
        # alone with the connection: a closing handshake has no room for another reader or writer
        if end is not None and not self._socket.closed:
            await self._say(end)

    def _spawn(self, name: str, work: Coroutine[Any, Any, End | None]) -> asyncio.Task[None]:
        return tasks.spawn(name, self._until_end(name, work))

    @property
    def tenant(self) -> str:
        """Whose context it follows."""
        return self._client.caller.tenant

    def close(self, end: End | None) -> None:
        """Have it closed, for the first reason that is given; None: its client has gone."""
        if not self._end.done():
            self._end.set_result(end)

    async def _say(self, end: End) -> None:
        """Tell the client why, and hear its answer; one that does not take even that is cut off."""
        self._followers.closed("websocket", end.reason, trouble=end.trouble)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code=end.code, message=end.text.encode())
        except (TimeoutError, ConnectionError):
            self._client.cut_off()

    async def _until_end(self, name: str, work: Coroutine[Any, Any, End | None]) -> None:
        """Do one half of the work; however that ends, the socket does."""
        end: End | None = FAILED
        try:
            end = await work
        except UnavailableError as error:
            tasks.BOARD.failed(name, error, restarts=False)
            end = UNREADABLE
        except ConnectionError:
            end = None
        except asyncio.CancelledError:
            if tasks.was_cancelled() or not self._socket.closed:
                raise
            # aiohttp closes a lost connection, and its writers wait for one future: whoever is
            # cancelled there cancels the others
            end = None
        finally:
            self.close(end)

    async def _send(self, follower: Follower) -> End | None:
        """Send until there is a reason to end. A slow client is read for no faster than it takes.

        Raises:
            UnavailableError: the feed could not be read for long.
            ConnectionError: the client has gone.
        """
        more = False
        while not self._socket.closed:
            read = follower.moved.take() or more
            page = FramePage([], more=False)
            if read:
                # the client keeps its connection, and gets what it missed when Redis is well again
                with follower.trying():
                    if follower.lost:
                        follower.lost = False
                        self._frames.look_again()
                    turn = self._followers.turn(follower)
                    async with self._frames.room_to_fold(follower.seq), turn:
                        page = await self._frames.next(follower.seq)
            if page.frames and not self._access.still_known(self._client.caller):
                return REVOKED
            if self._client.who not in self._catalog.current.contexts:
                # what was throttled or deferred may still come into its feed
                return DELETED
            for seq, frame in page.frames:
                if frame and (end := await self._put(frame, follower)):
                    return end
                follower.seq = seq
            more = page.more
            if not more:
                await follower.moved.wait()
        return None

    async def _put(self, frame: str, follower: Follower | None = None) -> End | None:
        """Send one frame; the end of a client that does not take it in time."""
        if follower:
            follower.sending = True
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._socket.send_str(frame)
        except TimeoutError:
            metrics.WEBSOCKETS_TOO_SLOW.inc()
            text = f"no frame taken for {self._send_seconds:g} s: resume, or ask to fold"
            return End(4008, "too-slow", text)
        finally:
            if follower:
                follower.sending = False
        return None

    async def _receive(self) -> End | None:
        """Take acknowledgements until the client closes, or there is a reason to end."""
        async for message in self._socket:
            if not self._access.still_known(self._client.caller):
                return REVOKED
            problem = await self._take(message)
            if problem and (end := await self._put(_error(problem))):
                return end
        return None

    async def _take(self, message: WSMessage) -> str:
        """Keep an acknowledgement; returns what was wrong, "" when nothing was."""
        if message.type is not WSMsgType.TEXT:
            return "send JSON as text"
        try:
            seq, generation = parse_client_message(message.data)
            await self._feeds.acknowledge(*self._client.who, seq, generation)
        except (BadRequestError, ConflictError) as error:
            return str(error)
        except REDIS_ERRORS:
            return "the acknowledgement could not be kept: try again"
        return ""


def parse_client_message(text: str) -> tuple[int, int]:
    """The sequence number in ``{"type": "ack", "seq": N}``, and its generation (0: none named).

    Raises:
        BadRequestError: it is anything else.
    """
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequestError("not JSON") from error
    if not isinstance(message, dict) or message.get("type") != "ack":
        raise BadRequestError('the only message is {"type": "ack", "seq": N}')
    seq, generation = message.get("seq"), message.get("generation", 0)
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_SEQ:
        raise BadRequestError("seq: the sequence number of an update")
    known = isinstance(generation, int) and not isinstance(generation, bool)
    if not known or not 0 <= generation <= MAX_SEQ:
        raise BadRequestError("generation: that of the update, as its frame names it")
    return seq, generation


def _error(detail: str) -> str:
    return frame_text({"type": "error", "detail": detail})
