"""OpenID Connect tokens by Google in ``Authorization``: who sends, and for whom it is meant.

Source: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions. The body is not
signed: a token is a password for an hour, for one audience.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import after_scheme
from hookstream.app.providers.signatures.key_source import KeySource, never_absent
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import keys_for, senders, signer
from hookstream.app.providers.signatures.public_jwt import (
    SKEW_SECONDS,
    issued_at,
    key_id,
    sign_public_jwt,
    verified_claims,
)
from hookstream.app.providers.signatures.public_keys import read_key_set
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age

__all__ = [
    "ALGORITHM",
    "HEADER",
    "ISSUERS",
    "KEYS_URL",
    "TOKEN",
    "TOLERANCE_SECONDS",
    "VALID_SECONDS",
    "bearer_token",
    "google_keys",
    "sign_google",
    "verify_google",
]

HEADER: Final = "Authorization"
TOKEN: Final = "the token in Authorization"  # noqa: S105 what it is called
ALGORITHM: Final = "RS256"
KEYS_URL: Final = "https://www.googleapis.com/oauth2/v3/certs"
ISSUERS: Final = ("https://accounts.google.com", "accounts.google.com")
#: Tokens live for an hour, and may be sent as long; clocks differ.
VALID_SECONDS: Final = 3600
TOLERANCE_SECONDS: Final = VALID_SECONDS + SKEW_SECONDS


def google_keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    """Google's keys; nowhere if the tool has its own. Raises SignatureError."""
    named = key_id(bearer_token(request), ALGORITHM, TOKEN)
    if all(sender.key for sender in senders(secrets)):
        return ()
    if not named:
        raise SignatureError(f"{TOKEN} does not name its key (kid)")
    return (KeySource(KEYS_URL, read_key_set, named, is_absent=never_absent),)


def verify_google(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """Secrets are the accounts that may send; ``options.audience``, or the tool's URL, for whom.

    Raises SignatureError.
    """
    taken = senders(secrets)
    text = bearer_token(request)
    refused = SignatureError("")
    for sender, keys in keys_for(taken, request.keys):
        try:
            _, claims = verified_claims(text, keys, ALGORITHM, TOKEN)
            return _check(claims, sender.name, request, options, now)
        except SignatureError as error:
            refused = error
    raise refused


def sign_google(
    secret: str, options: SignatureOptions, url: str, now: float, key_id: str = ""
) -> str:
    """A token as of the account in ``secret``, by the private key behind it."""
    email, key = signer(secret)
    issued = int(now)
    claims = {
        "aud": options.audience or url,
        "azp": "113774264463038321964",
        "email": email,
        "email_verified": True,
        "exp": issued + VALID_SECONDS,
        "iat": issued,
        "iss": ISSUERS[0],
        "sub": "113774264463038321964",
    }
    return sign_public_jwt(claims, key, ALGORITHM, key_id)


def _check(
    claims: dict[str, Any],
    email: str,
    request: WebhookRequest,
    options: SignatureOptions,
    now: float,
) -> None:
    issued, tolerance = issued_at(claims, TOKEN), options.tolerance(TOLERANCE_SECONDS)
    check_age(now - issued, tolerance, f"iat of {TOKEN}")
    ends = claims.get("exp")
    if not isinstance(ends, (int, float)) or (now > ends + SKEW_SECONDS and tolerance < math.inf):
        raise SignatureError(f"{TOKEN} has expired")
    if claims.get("iss") not in ISSUERS:
        raise SignatureError(f"{TOKEN} was not issued by Google")
    if claims.get("email") != email or claims.get("email_verified") is not True:
        raise SignatureError(f"{TOKEN} is of none of the accounts that are the tool's secrets")
    if claims.get("aud") != (options.audience or request.url):
        raise SignatureError(
            f"{TOKEN} is for another audience than options.audience or, without it, the tool's URL"
        )


def bearer_token(request: WebhookRequest) -> str:
    """What follows ``Bearer`` in Authorization. Raises SignatureError."""
    return after_scheme(request.single(HEADER), "Bearer", HEADER)
