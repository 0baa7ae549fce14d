"""A key of Google Cloud KMS, which wraps and unwraps there and never leaves it."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.wrapping import WrappingKey

__all__ = ["ENDPOINT", "GcpKms"]

#: Where KMS is, where that is not Google's usual address: the variable of Google's own tools.
ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"
#: What KMS binds a wrapped key to.
_ABOUT: Final = b"hookstream data key"
_SECONDS: Final = 3.0


class GcpKms:
    """One key by its name, ``projects/P/locations/L/keyRings/R/cryptoKeys/K``.

    Both a source and its only key. Credentials are found as Google's libraries find them
    (``GOOGLE_APPLICATION_CREDENTIALS``, the machine's or pod's service account). KMS' own rotation
    of the key needs nothing done here: what it has wrapped says by which version.
    """

    def __init__(self, key: str, environ: Mapping[str, str] = os.environ) -> None:
        self.key = key
        self.name = f"gcpkms-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._environ = environ
        self._client: Any = None
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
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError
            from google.cloud.kms_v1 import KeyManagementServiceClient
            from requests.exceptions import RequestException
        except ImportError as error:
            raise SealingKeyError(
                "gcpkms:// needs the package google-cloud-kms: `pip install 'hookstream[gcpkms]'`"
            ) from error
        request = {"name": self.key, "additional_authenticated_data": _ABOUT, **values}
        try:
            with self._asking:
                if self._client is None:
                    address = self._environ.get(ENDPOINT, "").rstrip("/")
                    # over HTTP: gRPC has threads, which children do not inherit
                    self._client = KeyManagementServiceClient(
                        transport="rest",
                        client_options={"api_endpoint": address} if address else None,
                    )
                # tried again by who asks
                answer = getattr(self._client, action)(request, retry=None, timeout=_SECONDS)
            return bytes(getattr(answer, wanted))
        except (GoogleAPICallError, GoogleAuthError, RequestException) as error:
            # its message may name projects and accounts: /health is open to anybody
            kind = type(error).__name__
        raise SealingKeyError(
            f"Google Cloud KMS does not {action} ({kind}): see to the key, to its permissions and "
            "credentials, and to the network"
        )
