"""What packing computes, for another process: entries of a stream become a block."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import KeptEnvelope, read_kept
from hookstream.codecs.errors import (
    CodecError,
    MissingBlobError,
    UnknownDictionaryError,
    UnknownKeyError,
)
from hookstream.codecs.sealed import KEYS, MonthKey, block_place
from hookstream.codecs.warm_block import pack_block

__all__ = ["Packable", "Seal", "pack"]


class Seal(NamedTuple):
    """Keys for a block: those that open what goes into it, and the one that seals it, by its name.

    What is sealed by one that is destroyed (``erased``) goes into it as it is.

    They come with each task, through the pipe that the task comes through, and are forgotten with
    it: no command line, environment or file has them.
    """

    opens: Sequence[MonthKey] = ()
    key: MonthKey | None = None
    name: str = ""
    erased: Collection[int] = ()


_NOTHING = Seal()


class Packable(NamedTuple):
    """An entry to pack: its envelope, and its payload where that is not in it, as it is kept."""

    entry_id: str
    data: bytes
    payload: tuple[int, bytes | None] | None


def pack(
    entries: Sequence[Packable], dictionaries: Mapping[int, bytes], seal: Seal = _NOTHING
) -> bytes | int:
    """A block of these, read again and compared; or the id of a dictionary that is not here.

    ``dictionaries`` are taken into this process's book: those that it was found to lack before.

    Raises:
        CodecError: what was packed does not unpack to what it was.
        UnknownKeyError: a key that opens one of them was not given.
    """
    for number, content in dictionaries.items():
        BOOK.add(Dictionary(number, content))
    try:
        with KEYS.lent(seal.opens):
            whole = ((entry.entry_id, _whole(entry, seal.erased)) for entry in entries)
            return pack_block(whole, seal.key, block_place(seal.name))
    except UnknownDictionaryError as error:
        return error.dictionary_id


def _whole(entry: Packable, erased: Collection[int]) -> Sequence[bytes]:
    kept: KeptEnvelope = read_kept(entry.data)
    if entry.payload is not None:
        kept.stored.encoding, kept.stored.data = entry.payload
    try:
        return kept.whole()
    except UnknownDictionaryError:
        raise
    except UnknownKeyError as error:
        if error.key_id not in erased:
            raise
        return (entry.data,)
    except (MissingBlobError, CodecError):
        # what is lost or damaged is so in any tier
        return (entry.data,)
