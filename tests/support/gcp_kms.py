"""A stand-in for Google Cloud KMS: encrypt and decrypt of its HTTP API over loopback, no more.

It is no KMS. It answers ``/v1/projects/…/cryptoKeys/KEY:encrypt`` and ``:decrypt`` as Google's
reference says (cloud.google.com/kms/docs/reference/rest), and wants a token, which ``/token`` gives
to who can sign as the service account that it has made. Keys have versions, which :meth:`rotate`
adds.
"""

import base64
import json
import os
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.stand_in import StandIn

__all__ = ["GcpKmsStandIn"]

#: For whom the assertion is, wherever tokens are asked for.
AUDIENCE = "https://oauth2.googleapis.com/token"
ACCOUNT = "hooks@a-project.iam.gserviceaccount.com"


class GcpKmsStandIn(StandIn):
    """A server with one key; ``credentials`` is the file of a service account that may use it."""

    def __init__(self, folder: Path) -> None:
        self.key = "projects/a-project/locations/global/keyRings/ring/cryptoKeys/hooks"
        self.may = True
        self.token = "token-of-the-stand-in"
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
        if path == "/token":
            return self._token(body)
        if headers.get("Authorization") != f"Bearer {self.token}":
            return _refusal(401, "UNAUTHENTICATED", "invalid authentication credentials")
        if not self.may:
            return _refusal(403, "PERMISSION_DENIED", f"{ACCOUNT} may not use it")
        given = json.loads(body)
        about = base64.b64decode(given.get("additionalAuthenticatedData", ""))
        if path == f"/v1/{self.key}:encrypt":
            nonce, number = os.urandom(12), len(self._versions)
            plain = base64.b64decode(given["plaintext"])
            data = AESGCM(self._versions[-1]).encrypt(nonce, plain, about)
            wrapped = base64.b64encode(bytes([number]) + nonce + data).decode()
            version = f"{self.key}/cryptoKeyVersions/{number}"
            return 200, {"name": version, "ciphertext": wrapped}
        if path == f"/v1/{self.key}:decrypt":
            data = base64.b64decode(given["ciphertext"])
            try:
                cipher = AESGCM(self._versions[data[0] - 1])
                plain = cipher.decrypt(data[1:13], data[13:], about)
            except (ValueError, IndexError, InvalidTag):
                return _refusal(400, "INVALID_ARGUMENT", "Decryption failed")
            return 200, {"plaintext": base64.b64encode(plain).decode()}
        return _refusal(404, "NOT_FOUND", f"{path} not found")

    def _token(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """OAuth 2.0 for service accounts (RFC 7523)."""
        [assertion] = parse_qs(body.decode())["assertion"]
        try:
            signed = jwt.decode(assertion, self._account, ["RS256"], audience=AUDIENCE)
        except jwt.PyJWTError as error:
            return 400, {"error": "invalid_grant", "error_description": str(error)}
        if signed["iss"] != ACCOUNT or not signed["scope"].endswith("/auth/cloudkms"):
            return 400, {"error": "invalid_scope"}
        return 200, {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}


def _refusal(code: int, status: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"error": {"code": code, "status": status, "message": message}}
