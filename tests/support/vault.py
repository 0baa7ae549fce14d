"""A stand-in for Vault: its transit engine's HTTP API over loopback, and no more of it.

It is no Vault. It answers ``/v1/MOUNT/encrypt/KEY`` and ``/v1/MOUNT/decrypt/KEY`` as Vault's
documentation says (developer.hashicorp.com/vault/api-docs/secret/transit), wants a token, and can
be sealed. Keys have versions, which :meth:`rotate` adds.
"""

import base64
import json
import os
from email.message import Message
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.stand_in import StandIn

__all__ = ["VaultStandIn"]


class VaultStandIn(StandIn):
    """A server with one key."""

    def __init__(self, key: str = "hooks", mount: str = "transit") -> None:
        self.token = "s.token-of-the-stand-in"
        self.sealed = False
        self._path = f"/v1/{mount}", key
        self._versions = [os.urandom(32)]
        super().__init__()
        self.environ = {"VAULT_ADDR": self.url, "VAULT_TOKEN": self.token}

    def rotate(self) -> None:
        """A new version of the key: it encrypts, all decrypt."""
        self._versions.append(os.urandom(32))

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, Any]]:
        """As Vault answers."""
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if headers.get("X-Vault-Token") != self.token:
            return 403, {"errors": ["permission denied"]}
        mount, key = self._path
        given = json.loads(body)
        if path == f"{mount}/encrypt/{key}":
            nonce = os.urandom(12)
            plain = base64.b64decode(given["plaintext"])
            data = nonce + AESGCM(self._versions[-1]).encrypt(nonce, plain, None)
            text = f"vault:v{len(self._versions)}:{base64.b64encode(data).decode()}"
            return 200, {"data": {"ciphertext": text, "key_version": len(self._versions)}}
        if path == f"{mount}/decrypt/{key}":
            try:
                _, version, text = given["ciphertext"].split(":")
                data = base64.b64decode(text)
                cipher = AESGCM(self._versions[int(version[1:]) - 1])
                plain = cipher.decrypt(data[:12], data[12:], None)
            except (ValueError, IndexError, InvalidTag):
                return 400, {"errors": ["invalid ciphertext"]}
            return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}
        return 404, {"errors": ["no handler for route"]}
