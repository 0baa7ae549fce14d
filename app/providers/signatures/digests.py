"""Secrets and digests: read from what a sender wrote, and compared.

A comparison takes the same time wherever the difference is, and every secret of a tool is tried.
"""

import base64
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.secret_strength import MIN_CHARACTERS

__all__ = [
    "DIGEST_BYTES",
    "ENCODINGS",
    "MAX_CANDIDATES",
    "UNSET",
    "Algorithm",
    "Encoding",
    "GuessableKeyError",
    "after_scheme",
    "check_key",
    "digest_of",
    "digests_of",
    "encoded",
    "key_bytes",
    "keys_of",
    "match",
    "mismatch",
    "parts_of",
]

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64", "base64url"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)

DIGEST_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
#: Most signatures in one header: senders put one a secret there while they rotate.
MAX_CANDIDATES = 32
#: What is said of a tool whose secrets are none of those that a scheme needs.
UNSET = (
    "the tool has no secret of the kind that this webhook needs, so nothing can be verified: "
    "set it with PUT /api/v1/tools/{tool_id}"
)

_HEX = re.compile(r"[0-9a-fA-F]*")


class GuessableKeyError(BadRequestError):
    """A key that can be guessed; what a tool has already may be as weak as it was."""


def key_bytes(secret: bytes | str) -> bytes:
    """A secret as the key of an HMAC."""
    return secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass")


def check_key(key: bytes) -> None:
    """Refuse a key of an HMAC that has so few bytes that all are tried in no time.

    Raises:
        GuessableKeyError: with how many it has.
    """
    if len(key) < MIN_CHARACTERS:
        raise GuessableKeyError(
            f"can be guessed: its key has {len(key)} bytes, and {MIN_CHARACTERS} are the very "
            "least; set a random one, such as `openssl rand -base64 32` prints"
        )


def keys_of(secrets: Sequence[str]) -> list[bytes]:
    """The keys of a tool's secrets. Raises SignatureError where there is none."""
    # an empty secret would be one that everybody knows
    keys = [key_bytes(secret) for secret in secrets if secret]
    if not keys:
        raise SignatureError(UNSET)
    return keys


def after_scheme(text: str, scheme: str, header: str) -> str:
    """What follows ``scheme`` in an Authorization header. Raises SignatureError: another scheme."""
    name, _, rest = text.partition(" ")
    if name.lower() != scheme.lower():
        raise SignatureError(f"{header} does not begin with {scheme}")
    return rest.lstrip(" ")


def parts_of(text: str, separator: str, header: str) -> list[str]:
    """The parts of a header that is a list. Raises SignatureError: there are too many."""
    entries = text.split(separator, MAX_CANDIDATES)
    if len(entries) > MAX_CANDIDATES:
        raise SignatureError(f"{header} has more than {MAX_CANDIDATES} parts")
    return entries


def digest_of(text: str, size: int, encoding: str) -> bytes | None:
    """The digest that a text stands for; None where it is none of ``size`` bytes."""
    if encoding == "hex":
        # bytes.fromhex would pass over white space
        return bytes.fromhex(text) if len(text) == 2 * size and _HEX.fullmatch(text) else None
    try:
        if encoding == "base64url":
            # senders write it with and without its padding
            text += "=" * (-len(text) % 4)
            digest = base64.b64decode(text, altchars=b"-_", validate=True)
        else:
            digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest if len(digest) == size else None


def encoded(digest: bytes, encoding: str) -> str:
    """A digest as text: hex, base64, or base64url without padding."""
    if encoding == "hex":
        return digest.hex()
    if encoding == "base64url":
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return base64.b64encode(digest).decode()


def digests_of(header: str, texts: Iterable[str], encoding: str, size: int = 32) -> list[bytes]:
    """The well-formed signatures among ``texts``. Raises SignatureError where there is none."""
    found = [digest for text in texts if (digest := digest_of(text, size, encoding))]
    if not found:
        raise SignatureError(f"{header} has no signature of the form expected ({encoding})")
    return found


def match(
    header: str, expected: Iterable[bytes], candidates: Sequence[bytes], hint: str = ""
) -> None:
    """One of ``candidates`` is one of ``expected``. Raises SignatureError."""
    matched = False
    for digest in expected:
        for candidate in candidates:
            # no early exit: which of several secrets matched is not to be timed
            matched |= hmac.compare_digest(digest, candidate)
    if not matched:
        raise SignatureError(mismatch(header) + (f"; {hint}" if hint else ""))


def mismatch(header: str) -> str:
    """What is said of a signature that is none of the expected ones."""
    return (
        f"{header} does not match: the body was changed on its way, or the tool's secret is not "
        "the one that the sender has"
    )
