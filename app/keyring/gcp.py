"""A key of Google Cloud KMS, which wraps and unwraps there and never leaves it."""

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.wrapping import WrappingKey

__all__ = ["ENDPOINT", "GcpKms"]

#: Where KMS is, where that is not Google's usual address: the variable of Google's own tools.
ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"
_GOOGLE: Final = "https://cloudkms.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/cloudkms"
#: What KMS binds a wrapped key to.
_ABOUT: Final = b"hookstream data key"
_SECONDS: Final = 3


class GcpKms:
    """One key by its name, ``projects/P/locations/L/keyRings/R/cryptoKeys/K``.

    Both a source and its only key. Credentials are found as Google's libraries find them
    (``GOOGLE_APPLICATION_CREDENTIALS``, the machine's or pod's service account). KMS' own rotation
    of the key needs nothing done here: what it has wrapped says by which version.

    Asked by its HTTP API (cloud.google.com/kms/docs/reference/rest), with Google's library for
    credentials. That for KMS brings a module ``proto``, which in a checkout is ours.
    """

    def __init__(self, key: str, environ: Mapping[str, str] = os.environ) -> None:
        self.key = key
        self.name = f"gcpkms-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._url = f"{environ.get(ENDPOINT, '').rstrip('/') or _GOOGLE}/v1/{key}"
        self._session: Any = None
        #: One session is not for two threads at a time.
        self._asking = threading.Lock()

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """This one."""
        return (self,)

    async def wrap(self, key: bytes) -> bytes:
        """Raises SealingKeyError."""
        return await self._ask("encrypt", "ciphertext", plaintext=key)

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Raises SealingKeyError."""
        return await self._ask("decrypt", "plaintext", ciphertext=wrapped)

    async def _ask(self, action: str, wanted: str, **values: bytes) -> bytes:
        return await asyncio.to_thread(self._call, action, wanted, values)

    def _call(self, action: str, wanted: str, values: dict[str, bytes]) -> bytes:
        try:
            import google.auth
            from google.auth.exceptions import GoogleAuthError
            from google.auth.transport.requests import AuthorizedSession
            from requests.exceptions import RequestException
        except ImportError as error:
            raise SealingKeyError(
                "gcpkms:// needs the packages google-auth and requests: "
                "`pip install 'hookstream[gcpkms]'`"
            ) from error
        given = {**values, "additionalAuthenticatedData": _ABOUT}
        body = {name: base64.b64encode(value).decode() for name, value in given.items()}
        try:
            with self._asking:
                if self._session is None:
                    credentials, _ = google.auth.default(scopes=[_SCOPE])
                    self._session = cast(Any, AuthorizedSession)(credentials)
                answer = self._session.post(
                    f"{self._url}:{action}", json=body, timeout=_SECONDS, allow_redirects=False
                )
            if answer.status_code == 200:
                return base64.b64decode(answer.json()[wanted])
            # its message may name projects and accounts: /health is open to anybody
            kind = str(answer.json()["error"]["status"])
            kind = kind if kind.isidentifier() else f"status {answer.status_code}"
        except (GoogleAuthError, RequestException) as error:
            kind = type(error).__name__
        except (KeyError, TypeError, ValueError):
            kind = "an answer that is none of KMS'"
        raise SealingKeyError(
            f"Google Cloud KMS does not {action} ({kind}): see to the key, to its permissions and "
            "credentials, and to the network"
        )
