"""A key of Vault's (or OpenBao's) transit engine: it wraps and unwraps there, and never leaves."""

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.wrapping import WrappingKey

__all__ = ["VaultTransit"]

_SECONDS: Final = 3


class VaultTransit:
    """One key by its name; address and token are in Vault's own variables.

    Both a source and its only key. Vault's own rotation of the key needs nothing done here: what it
    has wrapped says by which version.
    """

    def __init__(
        self, key: str, mount: str = "transit", environ: Mapping[str, str] = os.environ
    ) -> None:
        """``VAULT_ADDR``, ``VAULT_TOKEN`` or ``VAULT_TOKEN_FILE``, ``VAULT_NAMESPACE`` and
        ``VAULT_CACERT`` of ``environ`` are looked at with each question: a token is renewed by
        others.
        """
        self.key = key
        self.mount = mount
        named = hashlib.sha256(f"{mount}/{key}".encode()).hexdigest()
        self.name = f"vault-{named[:16]}"
        self._environ = environ
        #: One session is not for two threads at a time.
        self._asking = threading.Lock()

    def wrapping_keys(self) -> Sequence[WrappingKey]:
        """This one."""
        return (self,)

    async def wrap(self, key: bytes) -> bytes:
        """Vault's text, ``vault:v1:…``. Raises SealingKeyError."""
        plain = base64.b64encode(key).decode()
        wrapped = await self._ask("encrypt_data", "ciphertext", plaintext=plain)
        return wrapped.encode()

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Raises SealingKeyError."""
        plain = await self._ask(
            "decrypt_data", "plaintext", ciphertext=wrapped.decode("ascii", "replace")
        )
        return base64.b64decode(plain)

    async def _ask(self, action: str, wanted: str, **values: str) -> str:
        return await asyncio.to_thread(self._call, action, wanted, values)

    def _call(self, action: str, wanted: str, values: dict[str, str]) -> str:
        try:
            import hvac
            from hvac.exceptions import VaultError
            from requests.exceptions import RequestException
        except ImportError as error:
            raise SealingKeyError(
                "vault:// needs the package hvac: `pip install 'hookstream[vault]'`"
            ) from error
        environ = self._environ
        address = environ.get("VAULT_ADDR")
        if not address:
            raise SealingKeyError("vault:// needs VAULT_ADDR, Vault's address, in the environment")
        try:
            with self._asking:
                client: Any = hvac.Client(
                    url=address,
                    token=_token(environ),
                    namespace=environ.get("VAULT_NAMESPACE") or None,
                    verify=environ.get("VAULT_CACERT") or True,
                    timeout=_SECONDS,
                    # what redirects is a standby, or somebody in between: both are named directly
                    allow_redirects=False,
                )
                transit: Callable[..., Any] = getattr(client.secrets.transit, action)
                answer = transit(name=self.key, mount_point=self.mount, **values)
            return str(answer["data"][wanted])
        except VaultError as error:
            # its message may name policies and paths: /health is open to anybody
            kind = type(error).__name__
        except RequestException as error:
            kind = type(error).__name__
        except (KeyError, TypeError, ValueError):
            kind = "an answer that is none of Vault's"
        raise SealingKeyError(
            f"Vault does not {action.partition('_')[0]} ({kind}): see to VAULT_ADDR, its token and "
            "policy, the key, and whether Vault is unsealed"
        )


def _token(environ: Mapping[str, str]) -> str:
    """Raises SealingKeyError where there is none."""
    if path := environ.get("VAULT_TOKEN_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise SealingKeyError(
                f"the token file {path} cannot be read ({error.strerror})"
            ) from error
    if token := environ.get("VAULT_TOKEN"):
        return token
    raise SealingKeyError("vault:// needs VAULT_TOKEN or VAULT_TOKEN_FILE in the environment")
