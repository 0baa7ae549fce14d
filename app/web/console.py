"""``/``: the console, for people; one page and one script."""

from importlib.resources import files

from aiohttp import web

__all__ = ["console_routes"]

SIGN_IN = '<p id="person"><a href="/sign-in">Sign in</a>, or give a key.</p>\n'
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def console_routes(*, sign_in: bool) -> list[web.RouteDef]:
    """``/`` and ``/console.js``, for anybody: the page asks for a key, or leads to a sign-in."""
    routes = []
    for path, name, kind in (
        ("/", "console.html", "text/html"),
        ("/console.js", "console.js", "text/javascript"),
    ):
        text = files("hookstream.app").joinpath("web", name).read_text()
        if not sign_in:
            text = text.replace(SIGN_IN, "")

        async def serve(request: web.Request, text: str = text, kind: str = kind) -> web.Response:
            return web.Response(text=text, content_type=kind, headers=SECURITY)

        routes.append(web.get(path, serve))
    return routes
