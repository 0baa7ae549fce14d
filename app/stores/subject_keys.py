"""Keys by which values of a person are hashed: one an erasure, kept sealed beside the hashes."""

import base64
import binascii
import hashlib
import hmac
import os
from typing import Final

from hookstream.app.errors import BadRequestError, SealingKeyError
from hookstream.app.keyring.keyring import KeyRing
from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealing import wrapped_key

__all__ = ["SubjectKeys"]

KEY_BYTES: Final = 32
_BY_PSEUDONYM: Final = "pseudonym"


class SubjectKeys:
    """Draws keys and opens them again; whoever has the hashes alone cannot try out values."""

    def __init__(self, ring: KeyRing, pseudonym_key: str = "") -> None:
        """``ring`` seals what is drawn; without any key there, ``pseudonym_key`` makes it."""
        self._ring = ring
        self._pseudonym_key = pseudonym_key.encode()
        self._opened: dict[tuple[str, str], bytes] = {}

    async def draw(self, tenant: str) -> tuple[bytes, str]:
        """A new key, and what is kept of it.

        Raises:
            BadRequestError: this installation has no key to seal it by.
            SealingKeyError: that key cannot be had now.
        """
        if self._ring.is_empty:
            if not self._pseudonym_key:
                raise BadRequestError(
                    "a subject is kept as keyed hashes, and there is no key here: set "
                    "HOOKSTREAM_KEY_URL or HOOKSTREAM_PSEUDONYM_KEY, the same for all processes"
                )
            salt = os.urandom(KEY_BYTES).hex()
            kept = f"{_BY_PSEUDONYM}:{salt}"
            return await self.open(tenant, kept), kept
        name, data_key = await self._ring.sealing_key(tenant)
        key = os.urandom(KEY_BYTES)
        sealed = base64.b64encode(data_key.seal(key, _about(tenant))).decode()
        kept = f"{name}:{sealed}"
        self._opened[tenant, kept] = key
        return key, kept

    async def open(self, tenant: str, kept: str) -> bytes:
        """The key of what :meth:`draw` has kept.

        Raises:
            SealingKeyError: it cannot be had now; the message says what is missing.
        """
        known = self._opened.get((tenant, kept))
        if known is None:
            known = self._opened[tenant, kept] = await self._open(tenant, kept)
        return known

    async def _open(self, tenant: str, kept: str) -> bytes:
        name, _, rest = kept.partition(":")
        if name == _BY_PSEUDONYM:
            if not self._pseudonym_key:
                raise SealingKeyError(
                    "an erasure's hashes were made with HOOKSTREAM_PSEUDONYM_KEY, which is not set"
                )
            text = f"hookstream erasure\0{tenant}\0{rest}".encode()
            return hmac.digest(self._pseudonym_key, text, hashlib.sha256)
        try:
            sealed = base64.b64decode(rest, validate=True)
            key = await self._ring.data_key(tenant, name, wrapped_key(sealed))
            return key.open(sealed, _about(tenant))
        except (CodecError, binascii.Error) as error:
            raise SealingKeyError(f"the key of an erasure cannot be opened: {error}") from error


def _about(tenant: str) -> bytes:
    return f"erasure\0{tenant}".encode()
