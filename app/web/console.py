"""``/``: the console, for people; pages, their scripts and one style sheet.

A page offers what the caller's role may do, and nothing else: an element says by ``data-may`` which
route it is for, and the roles that may call it, as ``app/roles.py`` has them, come in its place.
"""

import re
from importlib.resources import files
from typing import Final

from aiohttp import web

from hookstream.app.web.routes import may_call

__all__ = ["console_routes"]

SIGN_IN = '<p id="person"><a href="/sign-in">Sign in</a>, or give a key.</p>\n'
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
#: By path: the file beside this module, and its type.
PAGES: Final = (
    ("/", "console.html", "text/html"),
    ("/console.js", "console.js", "text/javascript"),
    ("/console/style.css", "console.css", "text/css"),
    ("/console/session.js", "console_session.js", "text/javascript"),
    ("/console/erasures", "console_erasures.html", "text/html"),
    ("/console/erasures.js", "console_erasures.js", "text/javascript"),
    ("/console/migration", "console_migration.html", "text/html"),
    ("/console/migration.js", "console_migration.js", "text/javascript"),
)
_MAY: Final = re.compile(r'data-may="([A-Z]+) ([^"]+)"')


def console_routes(*, sign_in: bool) -> list[web.RouteDef]:
    """All of the console, for anybody: pages ask for a key, or lead to a sign-in.

    Raises:
        SettingsError: a page has something for a route that there is not.
    """
    routes = []
    for path, name, kind in PAGES:
        text = files("hookstream.app").joinpath("web", name).read_text()
        if not sign_in:
            text = text.replace(SIGN_IN, "")
        text = _MAY.sub(_roles, text)

        async def serve(request: web.Request, text: str = text, kind: str = kind) -> web.Response:
            return web.Response(text=text, content_type=kind, headers=SECURITY)

        routes.append(web.get(path, serve))
    return routes


def _roles(found: re.Match[str]) -> str:
    roles = may_call(found[1], found[2]).roles
    return f'data-may="{" ".join(sorted(roles))}"'
