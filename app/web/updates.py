"""``GET /contexts/{context_id}/updates``: a context's feed over WebSocket."""

import asyncio
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from hookstream.app import metrics
from hookstream.app.digests import MAX_DIGESTED, digest_budget, fit_digest
from hookstream.app.errors import BadRequestError
from hookstream.app.redis_client import REDIS_DOWN
from hookstream.app.web.access import Caller, authorise, path_id, still_known

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["UpdateViews", "parse_client_message"]

PROTOCOL = "hookstream"
#: A browser cannot set headers on a WebSocket: it offers its key as a subprotocol instead.
KEY_PROTOCOL = "hookstream.key."
MAX_CLIENT_MESSAGE_BYTES = 4096
MAX_SEQ = 2**53
#: What the kernel may hold for one client: by itself it would take megabytes for each.
SEND_BUFFER_BYTES = 256 * 1024
#: Close code: the client did not take what was sent (4000 to 4999 are an application's own).
TOO_SLOW = 4008


class UpdateViews:
    """Sends updates as they come, from where the client left off."""

    def __init__(self, app: "Hookstream") -> None:
        self._app = app
        self._sockets: set[web.WebSocketResponse] = set()

    async def close_all(self, web_app: web.Application) -> None:
        """Tell the clients that this process goes away (1001): they come back to another."""
        await asyncio.gather(
            *(
                socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")
                for socket in self._sockets
            ),
            return_exceptions=True,
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and send every update past ``after``.

        Without ``after`` it begins behind what the context's clients have acknowledged. A slow
        client is read for no faster than it takes: nothing piles up for it in memory. With
        ``fold=N`` more than N waiting updates come as one digest; one that takes nothing for
        ``HOOKSTREAM_WEBSOCKET_SEND_TIMEOUT_SECONDS`` is closed with code 4008.
        """
        caller = authorise(self._app, _credentials(request))
        context_id = path_id(request, "context_id")
        caller.check(context_id)
        tenant = caller.tenant
        parts = self._app.parts
        await parts.registry.context(tenant, context_id)
        after = parse_after(request.query.get("after"))
        fold = parse_after(request.query.get("fold"), "fold")
        if after is None:
            after = await parts.feeds.acknowledged(tenant, context_id)
        socket = web.WebSocketResponse(
            heartbeat=self._app.settings.websocket_heartbeat_seconds,
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
            protocols=(PROTOCOL,),
            compress=False,
        )
        if not socket.can_prepare(request).ok:
            raise BadRequestError("this address speaks WebSocket: connect with a WebSocket client")
        await socket.prepare(request)
        _bound_send_buffer(request)
        metrics.WEBSOCKETS.inc()
        self._sockets.add(socket)
        sender = asyncio.create_task(self._send(socket, caller, context_id, after, fold))
        try:
            await self._receive(socket, caller, context_id)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self._sockets.discard(socket)
            metrics.WEBSOCKETS.dec()
        return socket

    async def _send(
        self,
        socket: web.WebSocketResponse,
        caller: Caller,
        context_id: str,
        after: int,
        fold: int | None,
    ) -> None:
        feeds = self._app.parts.feeds
        limit = self._app.settings.websocket_send_timeout_seconds
        most = self._app.settings.feed_read_max_updates
        tenant = caller.tenant
        loop = asyncio.get_running_loop()
        resumed = True
        with feeds.watch(tenant, context_id) as moved:
            while not socket.closed:
                moved.clear()
                try:
                    if resumed:
                        # more than was ever sent is not believed: nothing would ever come
                        after = min(after, await feeds.last_seq(tenant, context_id))
                        resumed = False
                    folded = await self._fold(tenant, context_id, after, fold) if fold else None
                    updates = [] if folded else await feeds.read(tenant, context_id, after)
                except REDIS_DOWN:
                    # the client keeps its connection, and gets what it missed when Redis is back
                    folded, updates = None, []
                frames = [(update.seq, update.frame()) for update in updates]
                if folded:
                    frames = [folded]
                if frames and not still_known(self._app, caller):
                    await self._revoked(socket)
                    return
                if (tenant, context_id) not in self._app.parts.registry.current.contexts:
                    # what was withheld or deferred may still come into its feed
                    code = WSCloseCode.POLICY_VIOLATION
                    await socket.close(code=code, message=b"the context was deleted")
                    return
                try:
                    async with asyncio.timeout(limit) as patience:
                        for seq, frame in frames:
                            await socket.send_str(frame)
                            after = seq
                            patience.reschedule(loop.time() + limit)
                except TimeoutError:
                    metrics.WEBSOCKETS_TOO_SLOW.inc()
                    message = f"no frame taken for {limit:g} s: resume, or ask to fold"
                    await socket.close(code=TOO_SLOW, message=message.encode())
                    return
                # a page that is not full was all there was: what came since has set the cue
                if folded is None and len(frames) < most:
                    await moved.wait()

    async def _fold(
        self, tenant: str, context_id: str, after: int, fold: int
    ) -> tuple[int, str] | None:
        """One frame for all that waits, and the number it reaches; None for ``fold`` or fewer."""
        feeds = self._app.parts.feeds
        if await feeds.last_seq(tenant, context_id) - after <= fold:
            return None
        waiting = await feeds.newest(tenant, context_id, after, MAX_DIGESTED)
        if not waiting:
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
            "context_id": context_id,
            "updates": waiting[-1].seq - after,
            "summary": digest.text,
            "tokens": digest.tokens,
            "untrusted": ["summary"],
        }
        return waiting[-1].seq, orjson.dumps(frame).decode()

    async def _revoked(self, socket: web.WebSocketResponse) -> None:
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"the key was revoked")

    async def _receive(
        self, socket: web.WebSocketResponse, caller: Caller, context_id: str
    ) -> None:
        async for message in socket:
            if not still_known(self._app, caller):
                await self._revoked(socket)
                return
            if message.type is not WSMsgType.TEXT:
                await socket.send_json(_error("send JSON as text"))
                continue
            try:
                seq = parse_client_message(message.data)
                await self._app.parts.feeds.acknowledge(caller.tenant, context_id, seq)
            except BadRequestError as error:
                await socket.send_json(_error(str(error)))
            except REDIS_DOWN:
                await socket.send_json(_error("the acknowledgement could not be kept: try again"))


def parse_after(text: str | None, name: str = "after") -> int | None:
    """The ``after`` parameter. Raises BadRequestError when it is no sequence number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise BadRequestError(f"{name}: a whole number, from 0")
    return int(text)


def parse_client_message(text: str) -> int:
    """The sequence number in ``{"type": "ack", "seq": N}``. Raises BadRequestError."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequestError("not JSON") from error
    if not isinstance(message, dict) or message.get("type") != "ack":
        raise BadRequestError('the only message is {"type": "ack", "seq": N}')
    seq = message.get("seq")
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_SEQ:
        raise BadRequestError("seq: the sequence number of an update")
    return seq


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


def _error(detail: str) -> dict[str, str]:
    return {"type": "error", "detail": detail}
