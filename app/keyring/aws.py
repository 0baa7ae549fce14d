"""A key of AWS KMS, which wraps and unwraps there and never leaves it."""

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from typing import Any, Final

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.wrapping import WrappingKey

__all__ = ["AwsKms"]

#: What KMS binds a wrapped key to, and shows in its log.
_CONTEXT: Final = {"hookstream": "data key"}
_LIMITS: Final[dict[str, Any]] = {
    "connect_timeout": 3,
    "read_timeout": 3,
    "retries": {"max_attempts": 2},
}


class AwsKms:
    """One key by its id, ARN or ``alias/NAME``; region and credentials are AWS's variables'.

    Both a source and its only key. KMS' own rotation of key material needs nothing done here.
    """

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.name = f"awskms-{hashlib.sha256(key_id.encode()).hexdigest()[:16]}"
        self._client: Any = None
        #: boto3 makes no two clients at a time.
        self._making = threading.Lock()

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """This one."""
        return (self,)

    async def wrap(self, key: bytes) -> bytes:
        """Raises SealingKeyError."""
        return await self._ask("encrypt", "CiphertextBlob", KeyId=self.key_id, Plaintext=key)

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Raises SealingKeyError."""
        return await self._ask("decrypt", "Plaintext", KeyId=self.key_id, CiphertextBlob=wrapped)

    async def _ask(self, action: str, wanted: str, **values: Any) -> bytes:
        return await asyncio.to_thread(self._call, action, wanted, values)

    def _call(self, action: str, wanted: str, values: dict[str, Any]) -> bytes:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise SealingKeyError(
                "awskms:// needs the package boto3: `pip install 'hookstream[awskms]'`"
            ) from error
        try:
            with self._making:
                self._client = self._client or boto3.client("kms", config=Config(**_LIMITS))
            answer = getattr(self._client, action)(EncryptionContext=_CONTEXT, **values)
            return bytes(answer[wanted])
        except ClientError as error:
            # its message may name accounts and roles: /health is open to anybody
            kind = error.response.get("Error", {}).get("Code", "ClientError")
        except BotoCoreError as error:
            kind = type(error).__name__
        raise SealingKeyError(
            f"AWS KMS does not {action} ({kind}): see to its key's policy, region and credentials, "
            "and to the network"
        )
