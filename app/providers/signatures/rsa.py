"""RSA (PKCS #1 v1.5) by public keys: Amazon SNS, PayPal."""

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.signatures.public_keys import PrivateKey, PublicKey

__all__ = ["rsa_signature", "sign_rsa", "verifies_rsa"]


def rsa_signature(text: str, name: str) -> bytes:
    """The signature in base64. Raises SignatureError: it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError(f"{name} is not base64") from error


def verifies_rsa(key: PublicKey, signature: bytes, content: bytes, *, sha1: bool = False) -> bool:
    """Whether ``content`` was signed with the other half of this key, over SHA-256 or SHA-1."""
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, content, PKCS1v15(), _digest(sha1))
    except InvalidSignature:
        return False
    return True


def sign_rsa(key: PrivateKey, content: bytes, *, sha1: bool = False) -> str:
    """The signature in base64.

    Raises:
        BadRequestError: it is no key of RSA.
    """
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadRequestError("the secret's key is not one of RSA")
    return base64.b64encode(key.sign(content, PKCS1v15(), _digest(sha1))).decode()


def _digest(sha1: bool) -> HashAlgorithm:
    return SHA1() if sha1 else SHA256()  # noqa: S303 what SNS signs with unless a topic says otherwise
