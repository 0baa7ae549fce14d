"""Cookies of people who have signed in, and of those who are about to.

Their names say to a browser that they are of this host alone and over TLS (``__Host-``), where
this installation is called by https. No page reads them, and none of another site sends the
session's.
"""

import base64
from dataclasses import astuple
from typing import Final

import orjson
from aiohttp import web

from hookstream.app.errors import ForbiddenError
from hookstream.app.identity.provider import Attempt
from hookstream.app.web.browsers import refuse_other_sites
from hookstream.app.web.sender import sender_of

__all__ = ["Cookies"]

SESSION: Final = "hookstream_session"
ATTEMPT: Final = "hookstream_sign_in"
#: For how long a browser may be at the provider.
ATTEMPT_SECONDS: Final = 600
SAFE: Final = ("GET", "HEAD")


class Cookies:
    """Sets, reads and takes back both cookies."""

    def __init__(self, public_url: str) -> None:
        """``public_url``: how this installation is called; "" where requests say so."""
        self._public_url = public_url

    def origin(self, request: web.Request) -> str:
        """How a browser calls this installation."""
        return (self._public_url or sender_of(request).origin).rstrip("/")

    def token(self, request: web.Request) -> str:
        """The session's token that a browser sends; "" where there is none."""
        return request.cookies.get(self._name(request, SESSION), "")

    def check_own_page(self, request: web.Request) -> None:
        """That a page of ours asks, where a cookie is what says who asks.

        To change something, and to open a WebSocket, a browser always says for which page.

        Raises:
            ForbiddenError: it is a page of another site, or nobody says which.
        """
        refuse_other_sites(request, self._public_url)
        if request.method in SAFE and "Upgrade" not in request.headers:
            return
        said = request.headers.get("Sec-Fetch-Site", "").strip().lower()
        if "Origin" not in request.headers and said != "same-origin":
            raise ForbiddenError(
                "who has signed in changes things from the console's own pages, which say so "
                "(Origin); programs have a key"
            )

    def begin(self, request: web.Request, response: web.StreamResponse, attempt: Attempt) -> None:
        """Have the browser keep an attempt: it comes back with it by a link of the provider's."""
        text = base64.urlsafe_b64encode(orjson.dumps(astuple(attempt))).decode()
        self._set(request, response, ATTEMPT, text, ATTEMPT_SECONDS, "Lax")

    def attempt(self, request: web.Request) -> Attempt | None:
        """What the browser has begun; None where it has begun nothing that can be read."""
        text = request.cookies.get(self._name(request, ATTEMPT), "")
        try:
            parts = orjson.loads(base64.urlsafe_b64decode(text))
            fits = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
            return Attempt(*parts) if fits else None
        except (ValueError, TypeError):
            return None

    def keep(
        self, request: web.Request, response: web.StreamResponse, token: str, seconds: float
    ) -> None:
        """Have the browser keep a session, and forget the attempt."""
        self._set(request, response, SESSION, token, int(seconds), "Strict")
        self._forget(request, response, ATTEMPT)

    def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Have the browser forget the session."""
        self._forget(request, response, SESSION)

    def _set(
        self,
        request: web.Request,
        response: web.StreamResponse,
        name: str,
        value: str,
        seconds: int,
        same_site: str,
    ) -> None:
        response.set_cookie(
            self._name(request, name),
            value,
            max_age=seconds,
            path="/",
            secure=self._secure(request),
            httponly=True,
            samesite=same_site,
        )

    def _forget(self, request: web.Request, response: web.StreamResponse, name: str) -> None:
        # a browser takes a change of such a cookie only with what it was set by
        response.del_cookie(
            self._name(request, name),
            path="/",
            secure=self._secure(request),
            httponly=True,
            samesite="Strict",
        )

    def _name(self, request: web.Request, name: str) -> str:
        return f"__Host-{name}" if self._secure(request) else name

    def _secure(self, request: web.Request) -> bool:
        return self.origin(request).startswith("https:")
