"""JSON Web Tokens by public keys (RFC 7519; RS256, ES256): Pub/Sub, Plaid, Wix.

The algorithm is the row's: what a token says of itself is compared with it, and chooses nothing.
"""

from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.digests import mismatch
from hookstream.app.providers.signatures.jws import jws_part
from hookstream.app.providers.signatures.public_keys import Keys, PrivateKey, SigningKey
from hookstream.codecs.json_payload import dump_json, parse_payload

__all__ = [
    "SKEW_SECONDS",
    "PublicAlgorithm",
    "check_times",
    "issued_at",
    "key_id",
    "sign_public_jwt",
    "verified_claims",
]

PublicAlgorithm = Literal["RS256", "ES256"]
#: A header has three short members; those that know more come with a certificate chain.
MAX_HEADER_CHARS = 8192
#: How far a sender's clock may be off where a token says from when until when it counts.
SKEW_SECONDS = 300

_JWS = jwt.PyJWS()


def key_id(text: str, algorithm: PublicAlgorithm, where: str) -> str:
    """The id of the key that a token names; "" where it names none.

    Raises:
        SignatureError: it is no token of this algorithm.
    """
    parts = text.split(".", 3)
    head: Any = None
    if len(parts) == 3 and len(parts[0]) <= MAX_HEADER_CHARS:
        try:
            head = jws_part(parts[0])
        except (ValueError, TypeError):
            head = None
    if not isinstance(head, dict) or head.get("alg") != algorithm:
        raise SignatureError(f"{where} is not a JSON Web Token of the algorithm {algorithm}")
    name = head.get("kid", "")
    if not isinstance(name, str):
        raise SignatureError(f"{where}: its kid is no text")
    return name


def verified_claims(
    text: str, keys: Keys, algorithm: PublicAlgorithm, where: str
) -> tuple[SigningKey, dict[str, Any]]:
    """The key that a token was signed with, and what it says.

    It is the key of its id, or the only one that has no id. Raises SignatureError.
    """
    named = key_id(text, algorithm, where)
    found = keys.get(named) or keys.get("")
    if found is None:
        raise SignatureError(f"{where}: the key that its kid names is none of the sender's")
    if isinstance(found.key, rsa.RSAPublicKey) != (algorithm == "RS256"):
        raise SignatureError(f"{where}: the key that its kid names is of another algorithm")
    try:
        # a signature whose base64 has bits left over is refused: one token would be several
        claims = parse_payload(_JWS.decode(text, found.key, algorithms=[algorithm]))
    except jwt.InvalidSignatureError as error:
        raise SignatureError(mismatch(where)) from error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise SignatureError(f"{where} is not a JSON Web Token that can be read") from error
    if not isinstance(claims, dict):
        raise SignatureError(f"{where} has no claims")
    return found, claims


def issued_at(claims: dict[str, Any], where: str) -> float:
    """When a token was issued, in Unix seconds. Raises SignatureError: it does not say."""
    issued = claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, (int, float)) or abs(issued) > 1e12:
        raise SignatureError(f"{where} does not say when it was issued (iat)")
    return issued


def check_times(claims: dict[str, Any], now: float, where: str) -> None:
    """The token counts now (``nbf`` where it says so, ``exp``), give or take what clocks differ.

    Raises SignatureError.
    """
    begins: Any = claims.get("nbf", 0)
    ends: Any = claims.get("exp")
    for time in (begins, ends):
        if isinstance(time, bool) or not isinstance(time, (int, float)) or abs(time) > 1e12:
            raise SignatureError(f"{where} does not say until when it counts (nbf, exp)")
    if not begins - SKEW_SECONDS <= now <= ends + SKEW_SECONDS:
        raise SignatureError(f"{where} {'has expired' if now > ends else 'is not valid yet'}")


def sign_public_jwt(
    claims: dict[str, Any], key: PrivateKey, algorithm: PublicAlgorithm, key_id: str = ""
) -> str:
    """Such a token.

    Raises:
        BadRequestError: the key is not one of the algorithm.
    """
    head = {"kid": key_id} if key_id else None
    if isinstance(key, rsa.RSAPrivateKey) != (algorithm == "RS256"):
        raise BadRequestError(f"the secret's key is not one of {algorithm}")
    try:
        return _JWS.encode(dump_json(claims), key, algorithm, head)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise BadRequestError(f"the secret's key is not one of {algorithm}") from error
