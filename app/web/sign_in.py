"""``/sign-in`` and ``/sign-out``: people, by an OpenID provider; ``/api/v1/me``: who asks."""

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from hookstream.app.errors import AuthError, ForbiddenError, LimitError, NotFoundError
from hookstream.app.identity.mapping import RoleMapping
from hookstream.app.identity.provider import Attempt, OpenIdProvider
from hookstream.app.identity.sessions import Sessions
from hookstream.app.postgres.acting import Acting
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.token_bucket import TokenBuckets
from hookstream.app.web.access import CALLER_KEY, TENANT
from hookstream.app.web.cookies import Cookies
from hookstream.app.web.models.me import MeOut
from hookstream.app.web.problem import json_response
from hookstream.app.web.recorded import note
from hookstream.app.web.request_log import id_of
from hookstream.app.web.routes import Route
from hookstream.app.web.sender import sender_of

__all__ = ["CALLBACK", "SIGN_IN", "SIGN_OUT", "MeViews", "SignInViews", "not_here"]

SIGN_IN: Final = "/sign-in"
CALLBACK: Final = "/sign-in/callback"
SIGN_OUT: Final = "/sign-out"
#: Sign-ins from one address: each asks the provider.
PER_SECOND, BURST = 0.5, 30.0
MOST_CHARS: Final = 4096


class MeViews:
    """Says who asks."""

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [Route("GET", "/api/v1/me", self.get, "Whose key or session this is", gives=MeOut)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Kind, name, role and tenant."""
        caller = request[CALLER_KEY]
        who = caller.acting
        contexts = None if caller.contexts is None else sorted(caller.contexts)
        return json_response(
            {
                "kind": who.kind,
                "id": who.id,
                "name": who.name,
                "role": caller.role,
                "tenant": caller.tenant,
                "contexts": contexts,
            }
        )


class SignInViews:
    """Authorization code with PKCE: there, back, and out again."""

    def __init__(
        self,
        *,
        provider: OpenIdProvider,
        sessions: Sessions,
        cookies: Cookies,
        mapping: RoleMapping,
        trail: AuditTrail,
    ) -> None:
        self._provider = provider
        self._sessions = sessions
        self._cookies = cookies
        self._mapping = mapping
        self._trail = trail
        self._buckets = TokenBuckets(PER_SECOND, BURST)

    def routes(self) -> list[web.RouteDef]:
        """Open to anybody: the provider says who it is."""
        return [
            web.get(SIGN_IN, self.begin, allow_head=False),
            web.get(CALLBACK, self.callback, allow_head=False),
            web.post(SIGN_OUT, self.sign_out),
        ]

    async def close(self, web_app: web.Application) -> None:
        """Let go of connections to the provider."""
        await self._provider.close()

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send a browser to the provider."""
        self._take(request)
        attempt = Attempt.new()
        place = await self._provider.begin(attempt, self._back(request))
        response = web.Response(status=303, headers={"Location": place})
        self._cookies.begin(request, response, attempt)
        return response

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """A browser comes back: who is it, and what may they?"""
        self._take(request)
        query = request.query
        attempt = self._cookies.attempt(request)
        # what is no UTF-8 is nobody's
        state = query.get("state", "").encode("utf-8", "replace")
        if attempt is None or not hmac.compare_digest(state, attempt.state.encode()):
            raise AuthError(
                "this browser has begun no such sign-in, or long ago: begin at /sign-in"
            )
        # one provider's answer shall not be taken for another's
        if query.get("iss", self._provider.issuer) != self._provider.issuer:
            raise AuthError("this is the answer of another identity provider")
        code = query.get("code", "")
        if not code or len(code) > MOST_CHARS or not code.isascii():
            said = "".join(filter(str.isprintable, query.get("error", "no code")))[:100]
            raise AuthError(f"the identity provider lets nobody in here: {said}")
        claims = await self._provider.finish(attempt, code, self._back(request))
        mapped = self._mapping.of(claims)
        who = _acting(request, claims, mapped.role if mapped else "")
        about = ("session", who.id)
        if mapped is None:
            await note(self._trail, TENANT, who, "session.refused", about)
            raise ForbiddenError(
                "you are known to the identity provider, and have no role here: whoever runs this "
                "installation gives roles by groups there (HOOKSTREAM_OIDC_ROLES)"
            )
        await note(self._trail, mapped.tenant, who, "session.made", about)
        token = await self._sessions.begin(who.id, who.name, mapped.tenant, mapped.role)
        response = web.Response(status=303, headers={"Location": "/"})
        self._cookies.keep(request, response, token, self._sessions.seconds)
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session; answers where the browser may sign out of the provider, too."""
        self._cookies.check_own_page(request)
        token = self._cookies.token(request)
        if token and (person := await self._sessions.find(token)) is not None:
            claims = {"sub": person.subject, "name": person.name}
            who = _acting(request, claims, person.role)
            await self._sessions.end(token)
            await note(self._trail, person.tenant, who, "session.ended", ("session", who.id))
        place = await self._provider.end_session(f"{self._cookies.origin(request)}/")
        response = json_response({"end_session": place})
        self._cookies.forget(request, response)
        return response

    def _back(self, request: web.Request) -> str:
        return self._cookies.origin(request) + CALLBACK

    def _take(self, request: web.Request) -> None:
        wait = self._buckets.take(sender_of(request).address, time.monotonic())
        if wait:
            raise LimitError("too many sign-ins from this address: wait for Retry-After", wait)


def not_here() -> list[web.RouteDef]:
    """The same routes where there is no provider."""

    async def nobody(request: web.Request) -> web.StreamResponse:
        raise NotFoundError("nobody signs in here: HOOKSTREAM_OIDC_ISSUER names no provider")

    return [
        web.get(SIGN_IN, nobody, allow_head=False),
        web.get(CALLBACK, nobody, allow_head=False),
        web.post(SIGN_OUT, nobody),
    ]


def _acting(request: web.Request, claims: Mapping[str, Any], role: str) -> Acting:
    names = (claims.get(name) for name in ("name", "preferred_username", "email"))
    name = next((name for name in names if isinstance(name, str) and name), "")
    return Acting(
        "person",
        _clean(claims["sub"]),
        _clean(name),
        role,
        sender_of(request).address,
        id_of(request),
        secrets.token_hex(12),
    )


def _clean(text: str) -> str:
    """As a row of the audit trail can have it."""
    return "".join(filter(str.isprintable, text))[:200]
