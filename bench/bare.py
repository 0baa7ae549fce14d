"""What the receiver is measured against: a bare aiohttp handler, ``python -m bench.bare PORT``.

It reads the body and answers 202. Same server, same settings of its runner, same event loop.
"""

import asyncio
import sys

import uvloop
from aiohttp import web

from hookstream.app.web.server import make_runner


async def post(request: web.Request) -> web.Response:
    """Read, and say thanks."""
    await request.read()
    return web.Response(status=202)


async def serve(port: int) -> None:
    """Until it is ended."""
    application = web.Application(client_max_size=64 << 20)
    application.router.add_post("/hooks/{tool_id}", post)
    runner = make_runner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
