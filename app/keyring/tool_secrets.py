"""The secrets of tools, sealed where they are kept and in the clear where they verify.

A sealed secret is a text like any other, so that a row holds either: ``sealed:1:KEY:BASE64``, with
the name of the wrapping key and what :mod:`hookstream.codecs.sealing` makes. It opens for its
tenant and tool only.
"""

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hookstream.app.errors import BadRequestError, SealingKeyError
from hookstream.app.keyring.keyring import KeyRing
from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealing import wrapped_key

__all__ = ["CLEAR", "SEALED", "ToolSecrets"]

#: How a sealed secret begins. No secret in the clear may.
SEALED: Final = "sealed:"
_FORM: Final = f"{SEALED}1:"
#: Secrets that are kept in memory in the clear, as the catalog keeps them.
MAX_OPENED: Final = 100_000
#: Questions to wrapping keys at a time.
AT_ONCE: Final = 8

Row = Mapping[str, Any]


class ToolSecrets:
    """Seals and opens the secrets of tools' rows."""

    def __init__(
        self, ring: KeyRing, may_seal: Callable[[], bool] = lambda: True, *, opens: bool = True
    ) -> None:
        """``may_seal``: no release that cannot open them can run on this database any more.

        ``opens``: webhooks are verified here. To others tools have no secrets.
        """
        self.ring = ring
        self.opens = opens
        self._may_seal = may_seal
        #: Sealed texts with whose they are → what they are in the clear.
        self._opened: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        #: Sealed texts that could not be opened when they were last tried, and why.
        self._failed: dict[str, str] = {}

    @property
    def seals(self) -> bool:
        """Whether secrets are sealed from now on."""
        return not self.ring.is_empty and self._may_seal()

    async def sealed(self, tenant: str, tool_id: str, secrets: Sequence[str]) -> list[str]:
        """Secrets as they are to be kept.

        Raises:
            BadRequestError: one looks like a sealed one.
            SealingKeyError: the key cannot be had now: nothing is kept in the clear then.
        """
        if any(secret.startswith(SEALED) for secret in secrets):
            raise BadRequestError(f'secrets: none may begin with "{SEALED}"')
        if not secrets or not self.seals:
            return list(secrets)
        name, key = await self.ring.sealing_key(tenant)
        subject = _subject(tenant, tool_id)
        kept = []
        for secret in secrets:
            data = base64.b64encode(key.seal(secret.encode(), subject)).decode()
            kept.append(f"{_FORM}{name}:{data}")
            self._keep((tenant, tool_id, kept[-1]), secret)
        return kept

    def begins(self) -> str:
        """How a secret begins that is sealed by the key of now. Raises SealingKeyError."""
        return f"{_FORM}{self.ring.current().name}:"

    async def prepare(self, rows: Iterable[Row]) -> None:
        """Open what is sealed in rows of tools; what cannot be is told by :meth:`opened`."""
        if not self.opens:
            return
        wanted = [
            (row["tenant"], row["tool_id"], text)
            for row in rows
            for text in _texts(row)
            if (row["tenant"], row["tool_id"], text) not in self._opened
        ]
        room = asyncio.Semaphore(AT_ONCE)

        async def one(place: tuple[str, str, str]) -> None:
            async with room:
                await self._open(*place)

        for start in range(0, len(wanted), 1000):
            await asyncio.gather(*map(one, wanted[start : start + 1000]))

    def opened(self, row: Row, column: str = "secrets") -> tuple[str, ...]:
        """The secrets of a prepared row, in the clear.

        Raises:
            SealingKeyError: one of them could not be opened; the message says what to do.
        """
        if not self.opens:
            return ()
        found = []
        for text in row[column] if column == "secrets" else [row[column]]:
            if not isinstance(text, str) or not text.startswith(SEALED):
                found.append(text)
                continue
            clear = self._opened.get((row["tenant"], row["tool_id"], text))
            if clear is None:
                raise SealingKeyError(self._failed.get(text, "its key has not been asked for yet"))
            found.append(clear)
        return tuple(found)

    async def _open(self, tenant: str, tool_id: str, text: str) -> None:
        try:
            if not text.startswith(_FORM):
                raise CodecError("sealed in a form that this release does not know")
            name, _, data = text.removeprefix(_FORM).partition(":")
            sealed = base64.b64decode(data, validate=True)
            key = await self.ring.data_key(tenant, name, wrapped_key(sealed))
            clear = key.open(sealed, _subject(tenant, tool_id)).decode()
        except (SealingKeyError, CodecError, binascii.Error, ValueError) as error:
            if len(self._failed) >= MAX_OPENED:
                self._failed.clear()
            self._failed[text] = str(error)
            return
        self._failed.pop(text, None)
        self._keep((tenant, tool_id, text), clear)

    def _keep(self, place: tuple[str, str, str], clear: str) -> None:
        self._opened[place] = clear
        if len(self._opened) > MAX_OPENED:
            self._opened.popitem(last=False)


def _texts(row: Row) -> list[str]:
    """What is sealed of a row that anybody may have written."""
    kept = [*(row["secrets"] or ()), row.get("learnt_secret")]
    return [text for text in kept if isinstance(text, str) and text.startswith(SEALED)]


def _subject(tenant: str, tool_id: str) -> bytes:
    return f"tool secret\0{tenant}\0{tool_id}".encode()


#: Without any key: secrets are as they stand in their row.
CLEAR: Final = ToolSecrets(KeyRing())
