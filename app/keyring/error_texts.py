"""What is said of failures, which may quote a payload, is sealed wherever it is kept."""

from collections.abc import Iterable
from typing import Final

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealed import error_place

__all__ = ["AWAY", "CLEAR", "ErrorTexts"]

#: What stands where a text cannot be sealed, or not be opened, now.
AWAY: Final = "(what it says is sealed by a data key that is away: see /health, part sealing)"


class ErrorTexts:
    """Seals and opens texts of errors; without data keys they stay as they are.

    The key is that of the month in which the text is kept.
    """

    def __init__(self, keys: DataKeys | None = None) -> None:
        self._keys = keys

    def seal(self, tenant: str, text: str) -> str:
        """A text as it is kept. ``tenant`` "": of what could not be read, which quotes nobody.

        While the key is away that is said instead: a commit waits for payloads' keys, and not for
        what is said of them.
        """
        if self._keys is None or not tenant or not text:
            return text
        try:
            return self._keys.seal_text(tenant, text, error_place(tenant))
        except SealingKeyError:
            return AWAY

    async def open(self, tenant: str, text: str) -> str:
        """What :meth:`seal` made; "" where its key was destroyed.

        Raises:
            SealingKeyError: its key cannot be had now.
        """
        if self._keys is None:
            return text
        try:
            return await self._keys.open_text(text, error_place(tenant)) or ""
        except CodecError:
            # damaged, or another tenant's: nobody takes it for words
            return text

    async def opened(self, tenant: str, texts: Iterable[str]) -> list[str]:
        """Several. Raises as :meth:`open`."""
        return [await self.open(tenant, text) for text in texts]

    async def shown(self, tenant: str, text: str) -> str:
        """As :meth:`open`, for people: what cannot be opened now says so."""
        try:
            return await self.open(tenant, text)
        except SealingKeyError:
            return AWAY


#: Seals nothing.
CLEAR: Final = ErrorTexts()
