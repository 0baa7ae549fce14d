"""A stand-in for an OpenID provider, on 127.0.0.1: as strict as a real one, and it forges.

Written after OpenID Connect Core 1.0 and RFC 7636. It has no page for a password: whoever comes to
its authorization endpoint is the person that a test has said.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import BasicAuth, web
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "StandInProvider", "stand_in_provider"]

CLIENT_ID, CLIENT_SECRET = "hookstream-tests", "a secret: of/this+client"
Claims = dict[str, Any]


class StandInProvider:
    """What it has been asked for, and who comes next."""

    def __init__(self) -> None:
        self.issuer = ""
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        #: Claims of whoever signs in next.
        self.person: Claims = {"sub": "user-1", "name": "Ada"}
        #: Changes the claims of a token, or the whole of it, before it is given out.
        self.change: Callable[[Claims], Claims] = lambda claims: claims
        self.forge: Callable[[str], str] = lambda token: token
        #: Of each code: what it was asked with.
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/.well-known/openid-configuration", self.discovery),
            web.get("/keys", self.keys),
            web.get("/authorize", self.authorize),
            web.post("/token", self.token),
        ]

    async def discovery(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "end_session_endpoint": f"{self.issuer}/out",
            }
        )

    async def keys(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": "one", "use": "sig"}]})

    async def authorize(self, request: web.Request) -> web.Response:
        """Signs in whoever comes; refuses what a real one refuses."""
        asked = dict(request.query)
        fits = (
            asked.get("response_type") == "code"
            and asked.get("client_id") == CLIENT_ID
            and asked.get("code_challenge_method") == "S256"
            and "openid" in asked.get("scope", "").split()
            and len(asked.get("code_challenge", "")) == 43
        )
        if not fits:
            raise web.HTTPBadRequest(text="invalid_request")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{back}")

    async def token(self, request: web.Request) -> web.Response:
        """A token for a code: once, for its client, redirect URI and verifier."""
        given = await request.post()
        asked = self.codes.pop(str(given.get("code")), None)
        digest = hashlib.sha256(str(given.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or given.get("grant_type") != "authorization_code"
            or given.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if not _is_client(request.headers.get("Authorization", "")):
            return web.json_response({"error": "invalid_client"}, status=401)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.person,
        }
        token = jwt.encode(self.change(claims), self.key, "RS256", headers={"kid": "one"})
        answer = {"access_token": "x", "token_type": "Bearer", "id_token": self.forge(token)}
        return web.json_response(answer)


def _is_client(header: str) -> bool:
    try:
        given = BasicAuth.decode(header)
    except ValueError:
        return False
    return (given.login, given.password) == (CLIENT_ID, "a%20secret%3A%20of%2Fthis%2Bclient")


@asynccontextmanager
async def stand_in_provider() -> AsyncIterator[StandInProvider]:
    """One on a free port."""
    provider = StandInProvider()
    app = web.Application()
    app.add_routes(provider.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()
