"""Public keys: as people set them, as certificates and as JSON Web Keys; each with its validity."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.codecs.json_payload import parse_payload

__all__ = [
    "NO_KEYS",
    "Keys",
    "PrivateKey",
    "PublicKey",
    "SigningKey",
    "jwk_key",
    "private_key",
    "public_key",
    "read_certificate",
    "read_key_set",
]

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
#: Below, a key can be factored.
MIN_RSA_BITS: Final = 2048
#: Providers have two to four.
MAX_KEYS: Final = 64


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and when what it has signed counts, in Unix seconds.

    ``issuer``: whose tokens alone it signs, where the set that it is from says so.
    """

    key: PublicKey
    not_before: float = -math.inf
    not_after: float = math.inf
    issuer: str = ""

    def check_valid(self, at: float) -> None:
        """Raises SignatureError where the key did not count at that time."""
        if not self.not_before <= at <= self.not_after:
            when = "is not valid yet" if at < self.not_before else "has expired"
            raise SignatureError(f"the key that it was signed with {when}")


#: By key id; a certificate is the only one, with the id "".
Keys = Mapping[str, SigningKey]
NO_KEYS: Keys = MappingProxyType({})


@lru_cache(maxsize=256)
def public_key(text: str) -> PublicKey | None:
    """The key of RSA (2,048 bits and more) or P-256 in PEM or base64 of DER; None: it is none."""
    try:
        if _is_pem(text):
            key = load_pem_public_key(text.strip().encode())
        else:
            key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if _is_usable(key) else None  # type: ignore[return-value]


def private_key(text: str) -> PrivateKey:
    """A private key in PEM or base64 of DER (PKCS #8).

    Raises:
        BadRequestError: it is none of RSA or of an elliptic curve.
    """
    try:
        if _is_pem(text):
            key = load_pem_private_key(text.strip().encode(), None)
        else:
            key = load_der_private_key(base64.b64decode(text, validate=True), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequestError("the secret is no private key, PEM or base64 of DER") from error
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise BadRequestError("the secret is no private key of RSA or of the curve P-256")
    return key


def read_certificate(body: bytes) -> Keys:
    """The first of the certificates in PEM, which is the one that signs.

    Its chain is not verified: that it comes from the provider's own host, by TLS, is what counts.
    Raises ValueError: there is none, or none that is safe.
    """
    try:
        certificate = x509.load_pem_x509_certificates(body)[0]
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise ValueError("it is no certificate in PEM") from error
    if not _is_usable(key):
        raise ValueError("its key is neither of RSA, of 2,048 bits at least, nor of P-256")
    return {
        "": SigningKey(
            key,  # type: ignore[arg-type]
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )
    }


def read_key_set(body: bytes) -> Keys:
    """The keys of a JSON Web Key Set (RFC 7517) that sign, by id; others are passed over.

    Raises ValueError: there is none.
    """
    found = parse_payload(body)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JSON Web Key Set")
    keys = {}
    for one in listed[:MAX_KEYS]:
        if isinstance(one, dict) and isinstance(name := one.get("kid"), str) and name:
            try:
                issuer = one.get("issuer", "")
                if not isinstance(issuer, str):
                    continue
                keys[name] = SigningKey(jwk_key(one), issuer=issuer)
            except ValueError:
                # one for something else takes nothing from the others
                continue
    if not keys:
        raise ValueError("the JSON Web Key Set has no key that can be used")
    return keys


def jwk_key(value: Mapping[str, Any]) -> PublicKey:
    """The key of a JSON Web Key. Raises ValueError: it is none that verifies signatures."""
    if value.get("use", "sig") != "sig":
        raise ValueError("it is no key of signatures")
    try:
        key = jwt.PyJWK(dict(value)).key
    except (
        *(jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm),
        NotImplementedError,  # of the algorithm "none"
    ) as error:
        raise ValueError("it is no JSON Web Key") from error
    if not _is_usable(key):
        raise ValueError("it is neither a public key of RSA, of 2,048 bits at least, nor of P-256")
    return key  # type: ignore[no-any-return]


def _is_pem(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN")


def _is_usable(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= MIN_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
