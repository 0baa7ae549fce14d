"""Stands before a receiver of one's own and lets calls through, or answers them as it is told."""

from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from tests.support.stack import free_port

__all__ = ["Answer", "Door"]

#: What is answered in place of the receiver; None: it answers itself.
Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
#: Said by either side of this connection alone.
_OWN = ("transfer-encoding", "connection", "content-length", "date", "server")


class Door:
    """An ``async with`` block long; ``calls`` are methods and paths of what came."""

    def __init__(self, to: str) -> None:
        self._to = to
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.answer: Answer | None = None
        self.calls: list[tuple[str, str]] = []

    async def __aenter__(self) -> "Door":
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle, auto_decompress=False))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        if self.answer is not None:
            answer = await self.answer(request)  # type: ignore[arg-type]
            if answer is not None:
                return answer
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        data = await request.read()
        async with self._session.request(
            request.method, f"{self._to}{request.path_qs}", headers=headers, data=data
        ) as found:
            kept = {n: v for n, v in found.headers.items() if n.lower() not in _OWN}
            return web.Response(body=await found.read(), status=found.status, headers=kept)
