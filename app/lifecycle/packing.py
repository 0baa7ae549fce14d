"""What packing computes, for another process: entries of a stream become a block."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import KeptEnvelope, read_kept
from hookstream.codecs.errors import CodecError, MissingBlobError, UnknownDictionaryError
from hookstream.codecs.warm_block import pack_block

__all__ = ["Packable", "pack"]


class Packable(NamedTuple):
    """An entry to pack: its envelope, and its payload where that is not in it, as it is kept."""

    entry_id: str
    data: bytes
    payload: tuple[int, bytes | None] | None


def pack(entries: Sequence[Packable], dictionaries: Mapping[int, bytes]) -> bytes | int:
    """A block of these, read again and compared; or the id of a dictionary that is not here.

    ``dictionaries`` are taken into this process's book: those that it was found to lack before.

    Raises:
        CodecError: what was packed does not unpack to what it was.
    """
    for number, content in dictionaries.items():
        BOOK.add(Dictionary(number, content))
    try:
        return pack_block((entry.entry_id, _whole(entry)) for entry in entries)
    except UnknownDictionaryError as error:
        return error.dictionary_id


def _whole(entry: Packable) -> Sequence[bytes]:
    kept: KeptEnvelope = read_kept(entry.data)
    if entry.payload is not None:
        kept.stored.encoding, kept.stored.data = entry.payload
    try:
        return kept.whole()
    except UnknownDictionaryError:
        raise
    except (MissingBlobError, CodecError):
        # what is lost or damaged is so in any tier
        return (entry.data,)
