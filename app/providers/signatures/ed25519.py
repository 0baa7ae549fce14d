"""Ed25519 over a time and the body, with a public key in hex as the secret: Discord."""

import re
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.digests import UNSET, mismatch
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_timestamp

__all__ = ["ed25519_public_key", "sign_ed25519", "verify_ed25519"]

_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")


def sign_ed25519(content: bytes, private_key: str) -> str:
    """Ed25519 (RFC 8032) of ``content`` in hex; the key is 32 bytes in hex.

    Raises:
        BadRequestError: not such a key.
    """
    if not _KEY.fullmatch(private_key):
        raise BadRequestError("the secret is no private key of Ed25519: 64 hex digits")
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key)).sign(content).hex()


@lru_cache(maxsize=256)
def ed25519_public_key(text: str) -> Ed25519PublicKey | None:
    """The public key in 64 hex digits; None where there is none."""
    if not _KEY.fullmatch(text):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        return None


def verify_ed25519(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    time_header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """``header`` is the signature in hex over the time's digits and the body; secrets are keys.

    Raises SignatureError.
    """
    keys = [key for key in map(ed25519_public_key, secrets) if key]
    if not keys:
        raise SignatureError(UNSET)
    text = request.single(header)
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    if not _SIGNATURE.fullmatch(text):
        raise SignatureError(f"{header} is not the hex of 64 bytes")
    for key in keys:
        try:
            key.verify(bytes.fromhex(text), time.encode() + request.body)
        except InvalidSignature:
            continue
        return
    raise SignatureError(mismatch(header))
