"""The compact form of JSON Web Signatures by HS256 (RFC 7515): written, and taken apart."""

import base64
import hmac
from typing import Any, Final

import orjson

from hookstream.app.providers.signatures.digests import encoded, key_bytes

__all__ = ["ALGORITHM", "jws_part", "jws_signature", "sign_jws"]

ALGORITHM: Final = "HS256"


def sign_jws(claims: dict[str, Any], secret: str) -> str:
    """Such a text with these claims."""
    parts = ({"alg": ALGORITHM, "typ": "JWT"}, claims)
    signed = ".".join(encoded(orjson.dumps(part), "base64url") for part in parts)
    return f"{signed}.{encoded(jws_signature(key_bytes(secret), signed), 'base64url')}"


def jws_signature(key: bytes, signed: str) -> bytes:
    """What the first two parts, with the dot between, are signed with."""
    return hmac.digest(key, signed.encode("utf-8", "surrogatepass"), "sha256")


def jws_part(text: str) -> Any:
    """The JSON in a part. Raises ValueError: it is none in base64url."""
    return orjson.loads(
        base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    )
