"""A client's WebSocket: what it is sent, what it sends, and how it ends.

It never stays open and deaf: whatever ends the sending closes the socket, with a code that tells
the client to resume, and :mod:`hookstream.app.feeds.followers` closes what no end is heard of.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hookstream.app import metrics, tasks
from hookstream.app.errors import BadRequestError, ConflictError, UnavailableError
from hookstream.app.feeds.digests import MAX_DIGESTED, digest_budget, fit_digest
from hookstream.app.feeds.followers import Follower
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.streams.generations import Generations
from hookstream.app.web.access import Access, Caller

if TYPE_CHECKING:
    from hookstream.app.application import Hookstream

__all__ = ["STOPPING", "UpdateSocket", "parse_client_message"]

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
FAILED = End(WSCloseCode.INTERNAL_ERROR, "failed", "the server failed: resume", trouble=True)
UNREADABLE = End(
    WSCloseCode.TRY_AGAIN_LATER, "unreadable", "the feed cannot be read here: resume", trouble=True
)
STALLED = End(4009, "stalled", "there is more than was sent: resume", trouble=True)


@dataclass(frozen=True, slots=True)
class Page:
    """What is sent next: frames ("": none) with the number that each reaches; is there more?"""

    frames: list[tuple[int, str]]
    more: bool


class UpdateSocket:
    """Sends a context's updates as they come, from where the client left off."""

    def __init__(
        self,
        app: "Hookstream",
        access: Access,
        socket: web.WebSocketResponse,
        request: web.Request,
        caller: Caller,
        context_id: str,
        fold: int | None,
        generation: int | None = None,
    ) -> None:
        """``fold``: how many waiting updates come one by one; more of them are one frame.

        ``generation``: that of the number where it goes on; 0: it has none yet; None: it does not
        know of generations, and gets no ``hello``.
        """
        self._app = app
        self._access = access
        self._socket = socket
        self._request = request
        self._caller = caller
        self._context_id = context_id
        self._fold = fold
        self._hello = generation is not None
        self._generation = generation or 0
        #: None until it is known where it stands.
        self._generations: Generations | None = None
        self._limit = app.settings.websocket_send_timeout_seconds
        self._ended = False

    async def serve(self, after: int) -> None:
        """Send what is past ``after``, and take what comes, until either side closes."""
        follow = self._app.parts.followers.follow
        name = (self._caller.tenant, self._context_id)
        with follow("websocket", *name, after, lambda: self._close_soon(STALLED)) as follower:
            sender = tasks.spawn(
                "UpdateSocket.send",
                self._send_until_end(follower),
                failed=lambda _: self._close_soon(FAILED),
            )
            try:
                if end := await self._receive():
                    await self.close(end)
            except Exception as error:  # noqa: BLE001 whatever it is, the client resumes
                tasks.BOARD.failed("UpdateSocket.receive", error, restarts=False)
                await self.close(FAILED)
            finally:
                await tasks.stop(sender)

    async def close(self, end: End) -> None:
        """Say why, once; a client that does not take even that is cut off."""
        if self._ended or self._socket.closed:
            return
        self._ended = True
        self._app.parts.followers.closed("websocket", end.reason, trouble=end.trouble)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code=end.code, message=end.text.encode())
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()

    def _close_soon(self, end: End) -> None:
        tasks.spawn("UpdateSocket.close", self.close(end))

    async def _send_until_end(self, follower: Follower) -> None:
        try:
            end = await self._send(follower)
        except UnavailableError as error:
            tasks.BOARD.failed("UpdateSocket.send", error, restarts=False)
            end = UNREADABLE
        except ConnectionResetError:
            return  # the client has gone
        if end is not None:
            await self.close(end)

    async def _send(self, follower: Follower) -> End | None:
        """Send until there is a reason to end. A slow client is read for no faster than it takes.

        Raises:
            UnavailableError: the feed could not be read for long.
            ConnectionResetError: the client has gone.
        """
        tenant, context_id = self._caller.tenant, self._context_id
        while not self._socket.closed:
            follower.moved.clear()
            page = Page([], more=False)
            # the client keeps its connection, and gets what it missed when Redis is well again
            with follower.trying():
                if follower.lost:
                    follower.lost, self._generations = False, None
                page = await self._next_page(follower.seq)
            if page.frames and not self._access.still_known(self._caller):
                return REVOKED
            if (tenant, context_id) not in self._app.parts.registry.current.contexts:
                # what was withheld or deferred may still come into its feed
                return DELETED
            for seq, frame in page.frames:
                if frame and (end := await self._put(frame, follower)):
                    return end
                follower.seq = seq
            if not page.more:
                await follower.moved.wait()
        return None

    async def _put(self, frame: str, follower: Follower | None = None) -> End | None:
        """Send one frame; the end of a client that does not take it in time."""
        if follower:
            follower.sending = True
        try:
            async with asyncio.timeout(self._limit):
                await self._socket.send_str(frame)
        except TimeoutError:
            metrics.WEBSOCKETS_TOO_SLOW.inc()
            text = f"no frame taken for {self._limit:g} s: resume, or ask to fold"
            return End(4008, "too-slow", text)
        finally:
            if follower:
                follower.sending = False
        return None

    async def _next_page(self, after: int) -> Page:
        feeds, who = self._app.parts.feeds, (self._caller.tenant, self._context_id)
        if self._generations is None:
            return await self._stand(after)
        if not self._generations.begun:
            # its first owner, or the first one of this release, is still to come
            self._generations = (await feeds.look(*who)).generations
        generations = self._generations
        into = generations.crossing(after)
        before = into.start if into else None
        if self._fold and (digest := await self._digest(after, self._fold, before)):
            return Page([digest], more=True)
        updates = await feeds.read(*who, after, before=before)
        if updates and updates[0].seq != after + 1:
            # numbers have no gaps: a generation may have begun
            self._generations = (await feeds.look(*who)).generations
            if self._generations != generations:
                return Page([], more=True)
        if not updates and into and not await feeds.holds(*who, after, into.start):
            generation, self._generation = self._generation, into.generation
            reset = await self._app.parts.resets.cross(who, after, into, generations, generation)
            return Page([(into.start - 1, _text(reset.out()) if reset else "")], more=True)
        # a page that is not full was all there was: what came since has set the cue
        more = bool(into and updates) or len(updates) >= self._app.settings.feed_read_max_updates
        frames = [(one.seq, one.frame(generations.at(one.seq - 1))) for one in updates]
        return Page(frames, more)

    async def _stand(self, after: int) -> Page:
        """Find out where the client stands, and say so."""
        who = (self._caller.tenant, self._context_id)
        standing = await self._app.parts.resets.stand(who, after, self._generation)
        if standing is None:
            return Page([], more=False)
        self._generations = standing.generations
        frames = []
        if self._hello:
            self._hello = False
            hello = {
                "type": "hello",
                "context_id": self._context_id,
                "generation": standing.generations.current,
                "seq": standing.last,
                "after": standing.after,
            }
            frames.append((after, _text(hello)))
        if standing.reset:
            self._generation = standing.generations.current
            frames.append((standing.after, _text(standing.reset.out())))
        return Page(frames, more=True)

    async def _digest(self, after: int, fold: int, before: int | None) -> tuple[int, str] | None:
        """One frame for all that waits, and the number it reaches; None for ``fold`` or fewer.

        ``before``: where the next generation begins; what is told of that comes in between.
        """
        feeds, tenant, context_id = self._app.parts.feeds, self._caller.tenant, self._context_id
        if await feeds.last_seq(tenant, context_id) - after <= fold:
            return None
        waiting = await feeds.newest(tenant, context_id, after, MAX_DIGESTED, before=before)
        # behind a place where numbers begin anew there may be fewer than they say
        if not waiting or waiting[-1].seq - max(after, waiting[0].seq - 1) <= fold:
            return None
        context = self._app.parts.registry.current.contexts.get((tenant, context_id))
        budget = digest_budget(context.token_budget if context else None)
        values = await feeds.expand(tenant, context_id, waiting)
        if not values:
            # daily summaries only: each is a digest already
            return None
        digest = await asyncio.to_thread(fit_digest, values, budget)
        frame = {
            "type": "digest",
            "seq": waiting[-1].seq,
            "from_seq": after + 1,
            "generation": (self._generations or Generations()).at(waiting[-1].seq - 1),
            "context_id": context_id,
            "updates": waiting[-1].seq - after,
            "summary": digest.text,
            "tokens": digest.tokens,
            "untrusted": ["summary"],
        }
        return waiting[-1].seq, _text(frame)

    async def _receive(self) -> End | None:
        """Take acknowledgements until the client closes, or there is a reason to end."""
        async for message in self._socket:
            if not self._access.still_known(self._caller):
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
            who = (self._caller.tenant, self._context_id)
            await self._app.parts.feeds.acknowledge(*who, seq, generation)
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
    return _text({"type": "error", "detail": detail})


def _text(frame: dict[str, Any]) -> str:
    return orjson.dumps(frame).decode()
