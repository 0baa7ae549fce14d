"""A stand-in for Google Cloud KMS: encrypt and decrypt of its HTTP API over loopback, no more.

It is no KMS. It answers ``/v1/projects/…/cryptoKeys/KEY:encrypt`` and ``:decrypt`` as Google's
reference says (cloud.google.com/kms/docs/reference/rest), and wants a token that the service
account, which it makes, has signed, as Google's own library signs them. Keys have versions, which
:meth:`rotate` adds.
"""

import base64
import json
import os
from email.message import Message
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.stand_in import StandIn

__all__ = ["GcpKmsStandIn"]

ACCOUNT = "hooks@a-project.iam.gserviceaccount.com"


class GcpKmsStandIn(StandIn):
    """A server with one key; ``credentials`` is the file of a service account that may use it."""

    def __init__(self, folder: Path) -> None:
        self.key = "projects/a-project/locations/global/keyRings/ring/cryptoKeys/hooks"
        self.may = True
        self._versions = [os.urandom(32)]
        signs = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._account = signs.public_key()
        super().__init__()
        self.credentials = folder / "account.json"
        self.credentials.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": "a-project",
                    "private_key_id": "1",
                    "private_key": signs.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    ).decode(),
                    "client_email": ACCOUNT,
                    "client_id": "1",
                    "token_uri": f"{self.url}/token",
                }
            )
        )

    def rotate(self) -> None:
        """A new version of the key: it encrypts, all decrypt."""
        self._versions.append(os.urandom(32))

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, Any]]:
        """As KMS answers."""
        try:
            token = headers.get("Authorization", "").removeprefix("Bearer ")
            signed = jwt.decode(token, self._account, ["RS256"], options={"verify_aud": False})
        except jwt.PyJWTError:
            return _refusal(401, "UNAUTHENTICATED", "invalid authentication credentials")
        if signed["iss"] != ACCOUNT or not self.may:
            return _refusal(403, "PERMISSION_DENIED", f"{ACCOUNT} may not use it")
        given = json.loads(body)
        about = base64.b64decode(given.get("additionalAuthenticatedData", ""))
        name = path.partition("?")[0]
        if name == f"/v1/{self.key}:encrypt":
            nonce, number = os.urandom(12), len(self._versions)
            plain = base64.b64decode(given["plaintext"])
            data = AESGCM(self._versions[-1]).encrypt(nonce, plain, about)
            wrapped = base64.b64encode(bytes([number]) + nonce + data).decode()
            version = f"{self.key}/cryptoKeyVersions/{number}"
            return 200, {"name": version, "ciphertext": wrapped}
        if name == f"/v1/{self.key}:decrypt":
            data = base64.b64decode(given["ciphertext"])
            try:
                cipher = AESGCM(self._versions[data[0] - 1])
                plain = cipher.decrypt(data[1:13], data[13:], about)
            except (ValueError, IndexError, InvalidTag):
                return _refusal(400, "INVALID_ARGUMENT", "Decryption failed")
            return 200, {"plaintext": base64.b64encode(plain).decode()}
        return _refusal(404, "NOT_FOUND", f"{name} not found")


def _refusal(code: int, status: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"error": {"code": code, "status": status, "message": message}}
