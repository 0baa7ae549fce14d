"""A stand-in for Vault: its transit engine's HTTP API over loopback, and no more of it.

It is no Vault. It answers ``/v1/MOUNT/encrypt/KEY`` and ``/v1/MOUNT/decrypt/KEY`` as Vault's
documentation says (developer.hashicorp.com/vault/api-docs/secret/transit), wants a token, and can
be sealed. Keys have versions, which :meth:`rotate` adds.
"""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.stack import free_port

__all__ = ["VaultStandIn"]


class VaultStandIn:
    """A server on a free port of 127.0.0.1, with one key."""

    def __init__(self, key: str = "hooks", mount: str = "transit") -> None:
        self.token = "s.token-of-the-stand-in"
        self.sealed = False
        self.requests: list[str] = []
        self._path = f"/v1/{mount}", key
        self._versions = [os.urandom(32)]
        standing_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                status, answer = standing_in._answer(
                    self.path, self.headers.get("X-Vault-Token"), self.rfile.read(length)
                )
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST  # noqa: N815 the base class calls it so

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: tests look at ``requests``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environ = {
            "VAULT_ADDR": f"http://127.0.0.1:{self._server.server_port}",
            "VAULT_TOKEN": self.token,
        }

    def close(self) -> None:
        """Let its port go."""
        self._server.shutdown()
        self._server.server_close()

    def rotate(self) -> None:
        """A new version of the key: it encrypts, all decrypt."""
        self._versions.append(os.urandom(32))

    def _answer(self, path: str, token: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests.append(path)
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if token != self.token:
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
