"""HTTP Basic (RFC 7617)."""

import base64
from collections.abc import Sequence

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import after_scheme, key_bytes, keys_of, match
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["sign_basic", "verify_basic"]


def sign_basic(secret: str) -> str:
    """An Authorization header of ``username:password``."""
    return "Basic " + base64.b64encode(key_bytes(secret)).decode()


def verify_basic(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """HTTP Basic (RFC 7617); secrets are ``username:password``. Raises SignatureError."""
    keys = keys_of(secrets)
    header = "Authorization"
    text = after_scheme(request.single(header), "Basic", header)
    try:
        credentials = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError("Authorization: what follows Basic is not base64") from error
    match(header, keys, [credentials])
