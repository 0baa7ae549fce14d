"""A JSON Web Token with a shared secret in a header (RFC 7519, HS256): monday."""

from collections.abc import Sequence
from typing import Any

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import (
    digest_of,
    keys_of,
    match,
)
from hookstream.app.providers.signatures.jws import ALGORITHM, jws_part, jws_signature
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age

__all__ = ["verify_jwt"]


def verify_jwt(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """``header`` is a token, with or without ``Bearer`` before it, that was issued lately.

    No other algorithm than HS256 is accepted, ``none`` the least. What says when is ``iat``, in
    Unix seconds: ``exp`` may be over once a sender sends again. Raises SignatureError.
    """
    keys = keys_of(secrets)
    text = request.single(header)
    if text[:7].lower() == "bearer ":
        text = text[7:]
    parts = text.split(".", 3)
    digest = digest_of(parts[2], 32, "base64url") if len(parts) == 3 else None
    if digest is None or _part(parts[0]).get("alg") != ALGORITHM:
        raise SignatureError(f"{header} is not a JSON Web Token of the algorithm {ALGORITHM}")
    signed = f"{parts[0]}.{parts[1]}"
    match(header, (jws_signature(key, signed) for key in keys), [digest])
    issued = _part(parts[1]).get("iat")
    if isinstance(issued, bool) or not isinstance(issued, (int, float)):
        raise SignatureError(f"the token in {header} does not say when it was issued (iat)")
    check_age(now - issued, tolerance_seconds, f"iat of the token in {header}")


def _part(text: str) -> dict[str, Any]:
    """A part of a token; empty where it is no object."""
    try:
        value = jws_part(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
