"""Sealing bytes with AES-256-GCM, by a data key that travels along, itself wrapped by another key.

What is sealed says all that is needed to open it but the wrapping key::

    version (1 byte, 1) | length of the wrapped key (2 bytes, big-endian) | wrapped key
    | nonce (12 bytes, random) | ciphertext | tag (16 bytes)

Everything before the nonce is associated data, together with what the caller names: the bytes open
only where they were sealed for. A data key may seal 2**32 times, as nonces are random (NIST SP
800-38D, 8.3).
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hookstream.codecs.errors import CodecError

__all__ = ["KEY_BYTES", "DataKey", "wrapped_key"]

KEY_BYTES: Final = 32
_VERSION: Final = 1
_HEAD_BYTES: Final = 3
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MAX_WRAPPED_BYTES: Final = 0xFFFF


class DataKey:
    """A key in the clear, which seals and opens, and the same key wrapped.

    Made once for many calls: to set up the cipher costs more than to seal what is short.
    """

    __slots__ = ("_cipher", "_head")

    def __init__(self, key: bytes, wrapped: bytes) -> None:
        """``key``: 32 bytes. Raises ValueError where that or ``wrapped`` has another length."""
        if len(key) != KEY_BYTES or not 0 < len(wrapped) <= _MAX_WRAPPED_BYTES:
            raise ValueError("a data key has 32 bytes, and 1 to 65,535 wrapped")
        self._cipher = AESGCM(key)
        self._head = b"%c%b%b" % (_VERSION, len(wrapped).to_bytes(2, "big"), wrapped)

    def seal(self, data: bytes, associated: bytes) -> bytes:
        """``data``, sealed; to be opened with the same ``associated`` only."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, data, self._head + associated)
        return b"".join((self._head, nonce, sealed))

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed by this key.

        Raises:
            CodecError: another key's, changed, or sealed for something else.
        """
        at = len(self._head)
        if sealed[:at] != self._head or len(sealed) < at + _NONCE_BYTES + _TAG_BYTES:
            raise CodecError("not sealed by this data key")
        nonce, rest = sealed[at : at + _NONCE_BYTES], sealed[at + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, self._head + associated)
        except InvalidTag as error:
            raise CodecError("changed since it was sealed, or sealed for something else") from error


def wrapped_key(sealed: bytes) -> bytes:
    """The wrapped key of what is sealed.

    Raises:
        CodecError: the bytes are not sealed, or by a newer release.
    """
    if len(sealed) < _HEAD_BYTES or sealed[0] != _VERSION:
        raise CodecError("not sealed, or in a form that this release does not know")
    end = _HEAD_BYTES + int.from_bytes(sealed[1:_HEAD_BYTES], "big")
    if end == _HEAD_BYTES or len(sealed) < end + _NONCE_BYTES + _TAG_BYTES:
        raise CodecError("sealed bytes that have been cut off")
    return sealed[_HEAD_BYTES:end]
