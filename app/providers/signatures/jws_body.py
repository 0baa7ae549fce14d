"""A JWS (RFC 7515) in a header that has the body's SHA-256: Netlify."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import encoded, key_bytes, keys_of, match, mismatch
from hookstream.app.providers.signatures.jws import ALGORITHM, jws_part, jws_signature, sign_jws
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["sign_jws_body", "verify_jws_body"]


def verify_jws_body(
    request: WebhookRequest, secrets: Sequence[str], header: str, *, issuer: str
) -> None:
    """``header`` is a compact JWS by HS256; its ``iss`` and its ``sha256``, hex, of the body.

    Raises SignatureError.
    """
    keys = keys_of(secrets)
    parts = request.single(header).split(".")
    if len(parts) != 3:
        raise SignatureError(f"{header} is not a JWS: three parts with dots between")
    head, claims, signature = parts
    # by whatever algorithm it says it is, it is verified by this one
    if _part(head, header).get("alg") != ALGORITHM:
        raise SignatureError(f"{header}: its alg is not {ALGORITHM}")
    signed = f"{head}.{claims}"
    expected = (encoded(jws_signature(key, signed), "base64url").encode() for key in keys)
    # compared as text: bits that base64 leaves over could be anything
    match(header, expected, [key_bytes(signature)])
    found = _part(claims, header)
    if found.get("iss") != issuer:
        raise SignatureError(f"{header}: its iss is not {issuer}")
    digest = found.get("sha256")
    body = hashlib.sha256(request.body).hexdigest()
    if not isinstance(digest, str) or not hmac.compare_digest(key_bytes(digest), body.encode()):
        raise SignatureError(mismatch(header))


def sign_jws_body(body: bytes, secret: str, *, issuer: str) -> str:
    """Such a header."""
    return sign_jws({"iss": issuer, "sha256": hashlib.sha256(body).hexdigest()}, secret)


def _part(text: str, header: str) -> dict[str, Any]:
    try:
        value = jws_part(text)
    except ValueError as error:
        raise SignatureError(f"{header}: a part of it is not JSON in base64url") from error
    if not isinstance(value, dict):
        raise SignatureError(f"{header}: a part of it is no JSON object")
    return value
