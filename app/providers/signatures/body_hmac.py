"""HMAC of the raw body in a header: GitHub, Bitbucket, Jira, Sentry, Shopify, PagerDuty, Linear."""

import hmac
from collections.abc import Sequence

from hookstream.app.errors import SignatureError
from hookstream.app.providers.signatures.digests import (
    DIGEST_BYTES,
    Algorithm,
    Encoding,
    digest_of,
    digests_of,
    encoded,
    key_bytes,
    keys_of,
    match,
    parts_of,
)
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["sign_hmac", "verify_hmac", "verify_hmac_list"]


def sign_hmac(
    content: bytes, key: bytes | str, algorithm: str = "sha256", encoding: str = "hex"
) -> str:
    """HMAC of ``content`` as text."""
    return encoded(hmac.digest(key_bytes(key), content, algorithm), encoding)


def verify_hmac(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    *,
    prefix: str = "",
    algorithm: Algorithm = "sha256",
    encoding: Encoding = "hex",
) -> None:
    """``header`` is ``prefix`` and the HMAC of the raw body. Raises SignatureError."""
    keys = keys_of(secrets)
    text = request.single(header)
    if not text.startswith(prefix):
        raise SignatureError(f"{header} does not begin with {prefix}")
    size = DIGEST_BYTES[algorithm]
    candidate = digest_of(text[len(prefix) :], size, encoding)
    if candidate is None:
        raise SignatureError(f"{header} is not the {encoding} of {size} bytes")
    match(header, (hmac.digest(key, request.body, algorithm) for key in keys), [candidate])


def verify_hmac_list(
    request: WebhookRequest, secrets: Sequence[str], header: str, *, prefix: str
) -> None:
    """``header`` is a comma-separated list, one of it ``prefix`` and the hex HMAC-SHA256.

    Entries with another prefix are of versions to come, and skipped. Raises SignatureError.
    """
    keys = keys_of(secrets)
    entries = [entry.strip() for entry in parts_of(request.joined(header), ",", header)]
    candidates = digests_of(
        header, (entry[len(prefix) :] for entry in entries if entry.startswith(prefix)), "hex"
    )
    match(header, (hmac.digest(key, request.body, "sha256") for key in keys), candidates)
