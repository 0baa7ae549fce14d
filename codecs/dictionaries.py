"""Compression dictionaries, and the book of those that this process has."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import zstandard

from hookstream.codecs.errors import CodecError

__all__ = ["BOOK", "Dictionary", "DictionaryBook"]

MAGIC = b"\x37\xa4\x30\xec"


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


class DictionaryBook:
    """Dictionaries by id, for reading; what is in it stays (32 KiB each)."""

    def __init__(self) -> None:
        self._known: dict[int, Dictionary] = {}

    def add(self, dictionary: Dictionary) -> None:
        """Have a dictionary from now on."""
        self._known[dictionary.dictionary_id] = dictionary

    def get(self, dictionary_id: int) -> Dictionary | None:
        """A dictionary; None where it has to be fetched first."""
        return self._known.get(dictionary_id)

    def missing(self, ids: Iterable[int]) -> set[int]:
        """Those of ``ids`` that have to be fetched."""
        return {number for number in ids if number and number not in self._known}


#: The book of this process. Ids follow from content, so it may serve any number of apps.
BOOK = DictionaryBook()
