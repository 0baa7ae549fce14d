"""Plaid: a token (ES256) with the body's SHA-256, by a key that Plaid's API gives for its id.

Source: https://plaid.com/docs/api/webhooks/webhook-verification/. The call is authenticated, so a
secret is what the API wants. Plaid's keys are the same for all of its customers: what verifies was
sent by Plaid, and may be of somebody else's account.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.digests import key_bytes, mismatch
from hookstream.app.providers.signatures.jws import jws_part
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import keys_for, senders, signer
from hookstream.app.providers.signatures.public_jwt import (
    issued_at,
    key_id,
    sign_public_jwt,
    verified_claims,
)
from hookstream.app.providers.signatures.public_keys import Keys, SigningKey, jwk_key
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age
from hookstream.codecs.json_payload import parse_payload

__all__ = [
    "HEADER",
    "TOLERANCE_SECONDS",
    "credentials",
    "plaid_content",
    "plaid_keys",
    "sign_plaid",
    "verify_plaid",
]

HEADER: Final = "Plaid-Verification"
ALGORITHM: Final = "ES256"
#: Plaid repeats for a day; whether signed anew is not documented. Its page says five minutes.
TOLERANCE_SECONDS: Final = 25 * 3600
ENVIRONMENTS: Final = ("production", "sandbox")
UNKNOWN_KEY: Final = "INVALID_WEBHOOK_VERIFICATION_KEY_ID"
_KEY_ID: Final = re.compile(r"[0-9a-zA-Z-]{1,64}")


def credentials(name: str) -> tuple[str, str, str]:
    """Environment, client id and secret in ``[sandbox:]CLIENT_ID:SECRET``.

    Raises BadRequestError: it is none.
    """
    parts = name.split(":")
    if len(parts) == 2:
        parts = [ENVIRONMENTS[0], *parts]
    if len(parts) != 3 or parts[0] not in ENVIRONMENTS or not all(parts):
        raise BadRequestError("not CLIENT_ID:SECRET, or sandbox:CLIENT_ID:SECRET, of Plaid's API")
    return parts[0], parts[1], parts[2]


def plaid_keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    """Plaid's API, with each of the secrets that is for it. Raises SignatureError."""
    named = key_id(request.single(HEADER), ALGORITHM, HEADER)
    taken = [sender for sender in senders(secrets) if sender.key is None]
    if taken and not _KEY_ID.fullmatch(named):
        raise SignatureError(f"{HEADER} does not name its key (kid)")
    return [_source(sender.name, named) for sender in taken]


def verify_plaid(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    """The token's ``request_body_sha256`` is the body's. Raises SignatureError."""
    taken = senders(secrets)
    text = request.single(HEADER)
    refused = SignatureError("")
    for _, keys in keys_for(taken, request.keys):
        try:
            key, claims = verified_claims(text, keys, ALGORITHM, HEADER)
        except SignatureError as error:
            refused = error
            continue
        issued = issued_at(claims, HEADER)
        check_age(now - issued, options.tolerance(TOLERANCE_SECONDS), f"iat of {HEADER}")
        key.check_valid(issued)
        digest = claims.get("request_body_sha256")
        body = hashlib.sha256(request.body).hexdigest().encode()
        if not isinstance(digest, str) or not hmac.compare_digest(key_bytes(digest), body):
            raise SignatureError(mismatch(HEADER))
        return
    raise refused


def plaid_content(request: WebhookRequest) -> bytes:
    """The body, and when it was signed: true events have equal bodies."""
    try:
        issued = jws_part(request.header(HEADER).split(".")[1]).get("iat")
    except (ValueError, IndexError, AttributeError):
        return request.decoded
    return b"%s\0%s" % (str(issued).encode(), request.decoded)


def sign_plaid(body: bytes, secret: str, now: float) -> str:
    """The header, by the private key in ``secret``."""
    _, key = signer(secret)
    claims = {"iat": int(now), "request_body_sha256": hashlib.sha256(body).hexdigest()}
    return sign_public_jwt(claims, key, ALGORITHM, "bfbd5111-8e33-4643-8ced-b2e642a72f3c")


def _source(name: str, named: str) -> KeySource:
    try:
        environment, client, secret = credentials(name)
    except BadRequestError as error:
        raise SignatureError("the tool's secret is none of Plaid's API") from error
    return KeySource(
        f"https://{environment}.plaid.com/webhook_verification_key/get",
        _read,
        named,
        orjson.dumps({"client_id": client, "secret": secret, "key_id": named}),
        _is_absent,
    )


def _read(body: bytes) -> Keys:
    found = parse_payload(body)
    key = found.get("key") if isinstance(found, dict) else None
    if not isinstance(key, dict) or not isinstance(name := key.get("kid"), str):
        raise ValueError("it is no key of Plaid's")
    ends = key.get("expired_at")
    if ends is None:
        return {name: SigningKey(jwk_key(key))}
    if type(ends) not in (int, float):
        raise ValueError("its expired_at is no time")
    return {name: SigningKey(jwk_key(key), not_after=ends)}


def _is_absent(status: int, body: bytes) -> bool:
    try:
        found: Any = parse_payload(body)
    except ValueError:
        return False
    # wrong credentials are a 400, too
    return isinstance(found, dict) and found.get("error_code") == UNKNOWN_KEY
