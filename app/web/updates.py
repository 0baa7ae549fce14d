"""``GET /contexts/{context_id}/updates``: a context's feed over WebSocket."""

import asyncio
from typing import TYPE_CHECKING

import orjson
from aiohttp import WSMsgType, web

from hookstream.app import metrics
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.redis_client import REDIS_DOWN
from hookstream.app.web.access import authorise, path_id

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["UpdateViews", "parse_client_message"]

PROTOCOL = "hookstream"
#: A browser cannot set headers on a WebSocket: it offers its key as a subprotocol instead.
KEY_PROTOCOL = "hookstream.key."
MAX_CLIENT_MESSAGE_BYTES = 4096
MAX_SEQ = 2**53


class UpdateViews:
    """Sends updates as they come, from where the client left off."""

    def __init__(self, app: "Hookstream") -> None:
        self._app = app

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and send every update past ``after``.

        Without ``after`` it begins behind what the context's clients have acknowledged. A slow
        client is read for no faster than it takes: nothing piles up for it in memory.
        """
        tenant = authorise(self._app, _credentials(request))
        context_id = path_id(request, "context_id")
        parts = self._app.parts
        known = (tenant, context_id) in parts.registry.current.contexts
        if not known and (tenant, context_id) not in (await parts.registry.reload()).contexts:
            raise NotFoundError(f"there is no context {context_id}")
        after = parse_after(request.query.get("after"))
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
        metrics.WEBSOCKETS.inc()
        sender = asyncio.create_task(self._send(socket, tenant, context_id, after))
        try:
            await self._receive(socket, tenant, context_id)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            metrics.WEBSOCKETS.dec()
        return socket

    async def _send(
        self, socket: web.WebSocketResponse, tenant: str, context_id: str, after: int
    ) -> None:
        feeds = self._app.parts.feeds
        with feeds.watch(tenant, context_id) as moved:
            while not socket.closed:
                moved.clear()
                try:
                    updates = await feeds.read(tenant, context_id, after)
                except REDIS_DOWN:
                    # the client keeps its connection, and gets what it missed when Redis is back
                    updates = []
                for update in updates:
                    await socket.send_str(update.frame())
                    after = update.seq
                if not updates:
                    await moved.wait()

    async def _receive(self, socket: web.WebSocketResponse, tenant: str, context_id: str) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.send_json(_error("send JSON as text"))
                continue
            try:
                seq = parse_client_message(message.data)
                await self._app.parts.feeds.acknowledge(tenant, context_id, seq)
            except BadRequestError as error:
                await socket.send_json(_error(str(error)))
            except REDIS_DOWN:
                await socket.send_json(_error("the acknowledgement could not be kept: try again"))


def parse_after(text: str | None) -> int | None:
    """The ``after`` parameter. Raises BadRequestError when it is no sequence number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise BadRequestError("after: a sequence number, 0 for everything")
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


def _credentials(request: web.Request) -> str:
    if header := request.headers.get("Authorization"):
        return header
    for offered in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if offered.strip().startswith(KEY_PROTOCOL):
            return f"Bearer {offered.strip().removeprefix(KEY_PROTOCOL)}"
    return ""


def _error(detail: str) -> dict[str, str]:
    return {"type": "error", "detail": detail}
