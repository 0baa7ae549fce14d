"""What is believed of an OpenID provider: the token of this sign-in, for this client alone."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from hookstream.app.errors import AuthError, UnavailableError
from hookstream.app.identity.provider import Attempt, OpenIdProvider
from tests.support.openid_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    StandInProvider,
    stand_in_provider,
)

BACK = "http://127.0.0.1:1/sign-in/callback"
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def there() -> AsyncIterator[StandInProvider]:
    async with stand_in_provider() as provider:
        yield provider


@pytest.fixture
async def ours(there: StandInProvider) -> AsyncIterator[OpenIdProvider]:
    made = OpenIdProvider(there.issuer, CLIENT_ID, CLIENT_SECRET, allow_private=True)
    yield made
    await made.close()


async def code_for(ours: OpenIdProvider, attempt: Attempt) -> str:
    """What a browser comes back with."""
    place = await ours.begin(attempt, BACK)
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(place, allow_redirects=False) as response,
    ):
        assert response.status == 302, await response.text()
        query = parse_qs(urlsplit(response.headers["Location"]).query)
    assert query["state"] == [attempt.state]
    return query["code"][0]


async def test_a_sign_in_says_who_it_is(ours: OpenIdProvider, there: StandInProvider) -> None:
    attempt = Attempt.new()
    code = await code_for(ours, attempt)
    claims = await ours.finish(attempt, code, BACK)
    assert (claims["sub"], claims["name"]) == ("user-1", "Ada")
    # a code counts once
    with pytest.raises(AuthError, match="begin again"):
        await ours.finish(attempt, code, BACK)
    # what the provider says of itself is asked for once
    await ours.finish(attempt, await code_for(ours, attempt), BACK)
    assert there.asked.count("/.well-known/openid-configuration") == 1
    assert there.asked.count("/keys") == 1
    assert (await ours.end_session("http://x/")).startswith(f"{there.issuer}/out?client_id=")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://evil.example"}, "of another issuer"),
        ({"aud": "another"}, "for another client"),
        ({"aud": [CLIENT_ID, "another"]}, "given to another client"),
        ({"azp": "another"}, "given to another client"),
        ({"nonce": "another"}, "of another sign-in"),
        ({"nonce": None}, "of another sign-in"),
        ({"exp": int(time.time()) - 3600}, "has expired"),
        ({"exp": None}, "until when"),
        ({"sub": ""}, "names nobody"),
        ({"sub": 7}, "names nobody"),
    ],
)
async def test_a_token_that_says_something_else_counts_for_nothing(
    ours: OpenIdProvider, there: StandInProvider, claims: dict[str, Any], said: str
) -> None:
    there.change = lambda known: {**known, **claims}
    if isinstance(claims.get("sub"), int) or claims.get("exp", 0) is None:
        # PyJWT does not make such tokens
        there.forge = lambda token: resigned(there, token, claims)
        there.change = lambda known: known
    attempt = Attempt.new()
    with pytest.raises(AuthError, match=said):
        await ours.finish(attempt, await code_for(ours, attempt), BACK)


def resigned(there: StandInProvider, token: str, claims: dict[str, Any], **head: Any) -> str:
    """A token with other claims, signed as the provider signs."""
    known = jwt.decode(token, options={"verify_signature": False})
    text = json.dumps({**known, **claims}).encode()
    return jwt.PyJWS().encode(text, there.key, "RS256", {"kid": "one", **head})


async def test_a_token_that_names_no_key_is_by_the_only_one(
    ours: OpenIdProvider, there: StandInProvider
) -> None:
    def unnamed(token: str) -> str:
        claims = jwt.decode(token, options={"verify_signature": False})
        return jwt.encode(claims, there.key, "RS256")

    there.forge = unnamed
    attempt = Attempt.new()
    claims = await ours.finish(attempt, await code_for(ours, attempt), BACK)
    assert claims["sub"] == "user-1"


def forgeries(there: StandInProvider, token: str) -> dict[str, str]:
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, signature = token.split(".")
    pem = there.key.public_key()
    return {
        "another key": jwt.encode(claims, OTHER_KEY, "RS256", headers={"kid": "one"}),
        "a key that it does not have": jwt.encode(
            claims, OTHER_KEY, "RS256", headers={"kid": "two"}
        ),
        "no signature": jwt.encode(claims, None, "none", headers={"kid": "one"}),
        "the public key as a secret": jwt.encode(
            claims, str(pem.public_numbers().n).zfill(64), "HS256", headers={"kid": "one"}
        ),
        "cut short": f"{head}.{body}.",
        "changed": f"{head}.{body[:-2]}AA.{signature}",
        "no token": "x",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "another key", "a key that it does not have", "no signature", "the public key as a secret",
        "cut short", "changed", "no token",
    ],
)  # fmt: skip
async def test_a_forged_token_counts_for_nothing(
    ours: OpenIdProvider, there: StandInProvider, kind: str
) -> None:
    there.forge = lambda token: forgeries(there, token)[kind]
    attempt = Attempt.new()
    with pytest.raises(AuthError, match="does not count"):
        await ours.finish(attempt, await code_for(ours, attempt), BACK)


async def test_a_code_is_of_use_to_nobody_without_its_verifier(
    ours: OpenIdProvider, there: StandInProvider
) -> None:
    attempt, thief = Attempt.new(), Attempt.new()
    code = await code_for(ours, attempt)
    with pytest.raises(AuthError):
        await ours.finish(thief, code, BACK)


async def test_a_provider_that_calls_itself_otherwise_is_not_used(
    ours: OpenIdProvider, there: StandInProvider
) -> None:
    there.issuer += "/other"
    with pytest.raises(UnavailableError):
        await ours.begin(Attempt.new(), BACK)


async def test_no_private_address_is_called_unless_that_is_set(there: StandInProvider) -> None:
    strict = OpenIdProvider(there.issuer, CLIENT_ID)
    by_name = OpenIdProvider(there.issuer.replace("http://127.0.0.1", "https://localhost"), "x")
    try:
        for provider in (strict, by_name):
            with pytest.raises(UnavailableError):
                await provider.begin(Attempt.new(), BACK)
        assert there.asked == []
    finally:
        await strict.close()
        await by_name.close()


async def test_a_provider_that_is_away_is_503_and_tried_again(there: StandInProvider) -> None:
    nobody = OpenIdProvider("http://127.0.0.1:1", CLIENT_ID, allow_private=True)
    try:
        with pytest.raises(UnavailableError, match="cannot be asked now"):
            await nobody.begin(Attempt.new(), BACK)
    finally:
        await nobody.close()
