"""One OpenID provider: where it is, its keys, and a code exchanged for a token that is verified.

Sources: OpenID Connect Core 1.0 (3.1.2, 3.1.3) and Discovery 1.0 (4), RFC 7636 (PKCE, S256),
RFC 9207 (``iss`` in the answer). PyJWT verifies tokens, as those of providers of webhooks.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode

import aiohttp
from mode.utils.logging import get_logger

from hookstream.app.errors import AuthError, SignatureError, UnavailableError
from hookstream.app.providers.signatures.public_jwt import (
    PublicAlgorithm,
    check_times,
    key_id,
    verified_claims,
)
from hookstream.app.providers.signatures.public_keys import NO_KEYS, Keys, read_key_set
from hookstream.app.public_addresses import check_url
from hookstream.app.public_resolver import PublicResolver
from hookstream.codecs.json_payload import parse_payload

__all__ = ["ALLOW_PRIVATE", "Attempt", "OpenIdProvider"]

logger = get_logger(__name__)

ALLOW_PRIVATE: Final = "HOOKSTREAM_OIDC_ALLOW_PRIVATE"
WELL_KNOWN: Final = "/.well-known/openid-configuration"
#: Of each call, names and TLS included.
CALL_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 256 * 1024
#: What the provider says of itself is asked for anew after this,
FRESH_SECONDS: Final = 3600.0
#: and its keys, where one is missing, at most so often.
RENEWED_SECONDS: Final = 30.0
MAX_TOKEN_CHARS: Final = 64 * 1024
_WHERE: Final = "the identity token"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in that has begun; it is kept by the browser that has begun it."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        """One that nobody can guess."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier before it sees it."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class _Places:
    """What the provider says of itself."""

    authorization: str
    token: str
    keys: str
    end_session: str
    #: Of the ways in which a client can say its secret, whether it takes HTTP basic.
    basic: bool
    at: float


class OpenIdProvider:
    """Speaks to one provider, for one client id."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str = "",
        *,
        scopes: str = "openid profile email",
        allow_private: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``client_secret``: "" for a public client; ``allow_private``: also hosts of one's own
        network, and http."""
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes
        self._allow_private = allow_private
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._places: _Places | None = None
        self._keys: Keys = NO_KEYS
        self._keys_at = -RENEWED_SECONDS
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()

    async def begin(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where a browser is sent. Raises UnavailableError: the provider cannot be asked."""
        places = await self._known_places()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        mark = "&" if "?" in places.authorization else "?"
        return f"{places.authorization}{mark}{urlencode(query)}"

    async def finish(self, attempt: Attempt, code: str, redirect_uri: str) -> dict[str, Any]:
        """What the provider says of who has signed in.

        Raises:
            AuthError: it does not take the code, or its token does not verify.
            UnavailableError: it cannot be asked.
        """
        places = await self._known_places()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._client_id,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        if self._client_secret and places.basic:
            # each is form-encoded first: RFC 6749, 2.3.1
            pair = f"{quote(self._client_id, safe='')}:{quote(self._client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif self._client_secret:
            form["client_secret"] = self._client_secret
        status, body = await self._call("POST", places.token, form, headers)
        answer = _object(body)
        token = answer.get("id_token") if answer else None
        if status != 200 or not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
            # what it says may name the code: it is for the log alone, and in short
            said = answer.get("error") if answer else None
            logger.warning("%s takes no code: %s, %.100r", self.issuer, status, said)
            raise AuthError("the identity provider does not confirm this sign-in: begin again")
        try:
            return await self._verified(token, attempt.nonce)
        except SignatureError as error:
            raise AuthError(f"this sign-in does not count: {error}") from error

    async def end_session(self, back_to: str) -> str:
        """Where a browser is sent to sign out there, too; "" where there is no such place."""
        try:
            place = (await self._known_places()).end_session
        except UnavailableError:
            return ""
        if not place:
            return ""
        query = urlencode({"client_id": self._client_id, "post_logout_redirect_uri": back_to})
        return f"{place}{'&' if '?' in place else '?'}{query}"

    async def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of a token for this client, this issuer and this attempt.

        Raises:
            SignatureError: it is another's, or forged.
            UnavailableError: keys cannot be fetched.
        """
        algorithm = _algorithm(token)
        named = key_id(token, algorithm, _WHERE)
        keys = await self._keys_with(named)
        _, claims = verified_claims(token, keys, algorithm, _WHERE)
        check_times(claims, self._now(), _WHERE)
        audience = claims.get("aud")
        several = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self.issuer:
            raise SignatureError(f"{_WHERE} is of another issuer")
        if self._client_id not in several:
            raise SignatureError(f"{_WHERE} is for another client")
        if (len(several) > 1 or "azp" in claims) and claims.get("azp") != self._client_id:
            raise SignatureError(f"{_WHERE} was given to another client")
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise SignatureError(f"{_WHERE} is of another sign-in")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise SignatureError(f"{_WHERE} names nobody")
        return claims

    async def _keys_with(self, named: str) -> Keys:
        """The provider's keys; fetched anew where the one that is named is not among them.

        A token may name none where there is one key (Core, 10.1): that may be another by now.
        """
        async with self._asking:
            if named not in self._keys and self._now() - self._keys_at >= RENEWED_SECONDS:
                self._keys_at = self._now()
                status, body = await self._call("GET", (await self._places_now()).keys)
                if status != 200:
                    raise self._unavailable(f"its keys: {status}")
                try:
                    self._keys = read_key_set(body)
                except ValueError as error:
                    raise self._unavailable(f"its keys: {error}") from error
            if not named and len(self._keys) == 1:
                return {"": next(iter(self._keys.values()))}
            return self._keys

    async def _known_places(self) -> _Places:
        async with self._asking:
            return await self._places_now()

    async def _places_now(self) -> _Places:
        if self._places is None or self._now() - self._places.at > FRESH_SECONDS:
            status, body = await self._call("GET", self.issuer.rstrip("/") + WELL_KNOWN)
            found = _object(body)
            if status != 200 or found is None:
                raise self._unavailable(f"{WELL_KNOWN}: {status}")
            self._places = self._read(found)
        return self._places

    def _read(self, found: Mapping[str, Any]) -> _Places:
        if found.get("issuer") != self.issuer:
            raise self._unavailable(f"it calls itself {str(found.get('issuer'))[:200]!r}")
        places: list[str] = []
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            place = found.get(name)
            if not isinstance(place, str):
                raise self._unavailable(f"it does not say where its {name} is")
            self._check(place)
            places.append(place)
        end = found.get("end_session_endpoint")
        ways = found.get("token_endpoint_auth_methods_supported")
        basic = not isinstance(ways, list) or "client_secret_basic" in ways
        if isinstance(end, str):
            self._check(end)
        authorization, token, keys = places
        ended = end if isinstance(end, str) else ""
        return _Places(authorization, token, keys, ended, basic, self._now())

    def _check(self, place: str) -> None:
        try:
            check_url(place, allow_private=self._allow_private, setting=ALLOW_PRIVATE)
        except ValueError as error:
            raise self._unavailable(str(error)) from error

    async def _call(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. Raises UnavailableError."""
        self._check(url)
        try:
            async with self._client().request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (
                    more := await response.content.read(MAX_ANSWER_BYTES)
                ):
                    body += more
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self._unavailable(f"{error.__cause__ or error!r}") from error
        if len(body) > MAX_ANSWER_BYTES:
            raise self._unavailable("it answers too much")
        return response.status, body

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=None if self._allow_private else PublicResolver(),
                    use_dns_cache=False,
                    limit=16,
                ),
                timeout=aiohttp.ClientTimeout(CALL_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "Hookstream",
                },
                trust_env=False,
            )
        return self._session

    def _unavailable(self, why: str) -> UnavailableError:
        # what this machine sees of its network is for the log
        logger.warning("the identity provider %s cannot be used: %s", self.issuer, why)
        return UnavailableError("the identity provider cannot be asked now: try again")


def _algorithm(token: str) -> PublicAlgorithm:
    """Which of the algorithms that count here a token is of. Raises SignatureError: none."""
    for algorithm in get_args(PublicAlgorithm):
        try:
            key_id(token, algorithm, _WHERE)
        except SignatureError:
            continue
        found: PublicAlgorithm = algorithm
        return found
    raise SignatureError(f"{_WHERE} is of no algorithm that counts (RS256, ES256)")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = parse_payload(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
