"""ECDSA P-256 over a time and the body, with a public key as the secret: SendGrid."""

import base64
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.digests import UNSET, mismatch
from hookstream.app.providers.signatures.public_keys import private_key, public_key
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_timestamp

__all__ = ["ecdsa_public_key", "sign_ecdsa", "verify_ecdsa"]


def sign_ecdsa(content: bytes, secret: str) -> str:
    """ECDSA P-256 over SHA-256, base64 of DER; the key as PEM or base64 of DER (PKCS #8).

    Raises:
        BadRequestError: not such a key.
    """
    key = private_key(secret)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadRequestError("the secret is not a private key of the curve P-256")
    return base64.b64encode(key.sign(content, ec.ECDSA(SHA256()))).decode()


def ecdsa_public_key(text: str) -> ec.EllipticCurvePublicKey | None:
    """The P-256 public key in base64 of DER, or in PEM; None where there is none."""
    key = public_key(text)
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def verify_ecdsa(
    request: WebhookRequest,
    secrets: Sequence[str],
    header: str,
    time_header: str,
    *,
    now: float,
    tolerance_seconds: float,
) -> None:
    """ECDSA P-256 over the time's digits and the body; secrets are public keys.

    Raises SignatureError.
    """
    keys = [key for key in map(ecdsa_public_key, secrets) if key]
    if not keys:
        raise SignatureError(UNSET)
    text = request.single(header)
    time = request.single(time_header)
    check_timestamp(time, now, tolerance_seconds, time_header)
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError(f"{header} is not base64") from error
    for key in keys:
        try:
            key.verify(signature, time.encode() + request.body, ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return
    raise SignatureError(mismatch(header))
