"""Compression dictionaries, and the book of those that this process has."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import zstandard

from hookstream.codecs.errors import CodecError

__all__ = ["BOOK", "Dictionary", "DictionaryBook"]

MAGIC = b"\x37\xa4\x30\xec"
#: Ids that RFC 8878 leaves to everybody.
FIRST_ID, LAST_ID = 1 << 15, 1 << 31


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A trained zstd dictionary. Its id follows from its content, so an id is never used twice."""

    dictionary_id: int
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, content: bytes) -> "Dictionary":
        """The dictionary in these bytes.

        Raises:
            CodecError: they are none.
        """
        number = int(zstandard.ZstdCompressionDict(content).dict_id()) if content else 0
        if not content.startswith(MAGIC) or not number:
            raise CodecError(f"no zstd dictionary ({len(content)} bytes)")
        return cls(number, content)

    def named_for(self, owner: str) -> "Dictionary":
        """The same under an id that follows from its content and its owner: nobody else's.

        What is sealed for one is not to be looked up by another that came to the same.
        """
        named = hashlib.sha256(owner.encode() + b"\0" + self.content).digest()
        number = FIRST_ID + int.from_bytes(named[:4], "big") % (LAST_ID - FIRST_ID)
        # RFC 8878, 5: magic number, dictionary id
        return Dictionary(
            number, self.content[:4] + number.to_bytes(4, "little") + self.content[8:]
        )


class DictionaryBook:
    """Dictionaries by id, for reading; what is in it stays (64 KiB each)."""

    def __init__(self) -> None:
        self._known: dict[int, Dictionary] = {}

    def add(self, dictionary: Dictionary) -> None:
        """Have a dictionary from now on."""
        self._known[dictionary.dictionary_id] = dictionary

    def remove(self, dictionary_id: int) -> None:
        """Forget one: the key that it was sealed by was destroyed."""
        self._known.pop(dictionary_id, None)

    def get(self, dictionary_id: int) -> Dictionary | None:
        """A dictionary; None where it has to be fetched first."""
        return self._known.get(dictionary_id)

    def missing(self, ids: Iterable[int]) -> set[int]:
        """Those of ``ids`` that have to be fetched."""
        return {number for number in ids if number and number not in self._known}


#: The book of this process. Ids follow from content, so it may serve any number of apps.
BOOK = DictionaryBook()
