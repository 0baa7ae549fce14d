"""``/``: the console, for people."""

from importlib.resources import files

from aiohttp import web

__all__ = ["console"]


async def console(request: web.Request) -> web.StreamResponse:
    """A page that shows events arriving and updates reaching contexts."""
    page = files("hookstream.app").joinpath("web", "console.html").read_text()
    return web.Response(
        text=page,
        content_type="text/html",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )
