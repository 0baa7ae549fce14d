"""zstd with dictionaries, as a Faust codec of bytes: ``hookstream_zstd``.

A frame names its dictionary and its size, and ends in a checksum. Nothing is unpacked before both
have been looked at: a frame that declares gigabytes costs nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import zstandard
from faust.serializers.codecs import Codec

from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.errors import CodecError, UnknownDictionaryError

__all__ = [
    "LEVEL",
    "MAX_BYTES",
    "ZstdCodec",
    "compress",
    "compress_together",
    "decompress",
    "dictionary_id",
]

#: bench/codecs.py: level 6 saves a seventh more and takes three times as long.
LEVEL: Final = 3
#: Most bytes that a frame may unpack to: the largest body that a receiver can be set to take.
MAX_BYTES: Final = 64 * 1024 * 1024
#: How far :func:`compress_together` looks back: 8 MiB (2 MiB otherwise, at this level).
WIDE_LOG: Final = 23
MAGIC: Final = b"\x28\xb5\x2f\xfd"
#: A compressor takes 0.6 MB, and 3 MB once it has seen a large payload; a decompressor 0.1 MB.
COMPRESSORS: Final = 32
DECOMPRESSORS: Final = 128

Context = TypeVar("Context")


class _Contexts(threading.local):
    """Each thread's own: one shared by several threads crashes the process."""

    def __init__(self) -> None:
        self.compressors: OrderedDict[tuple[int, int], zstandard.ZstdCompressor] = OrderedDict()
        self.decompressors: OrderedDict[int, zstandard.ZstdDecompressor] = OrderedDict()


_contexts = _Contexts()


def compress(data: bytes, dictionary: Dictionary | None = None, level: int = LEVEL) -> bytes:
    """One frame with its size, its dictionary's id and a checksum."""
    key = (dictionary.dictionary_id if dictionary else 0, level)
    context = _kept(
        _contexts.compressors, key, COMPRESSORS, lambda: _new_compressor(dictionary, level)
    )
    return context.compress(data)


def compress_together(data: bytes) -> bytes:
    """One frame with its size and a checksum, of much that is alike: it looks back over all of it.

    Of 4 MiB of GitHub's example payloads that saves a sixth, and a fifth of the time.
    """
    context = _kept(_contexts.compressors, (-1, LEVEL), COMPRESSORS, _new_wide_compressor)
    return context.compress(data)


def decompress(data: bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """What is in one frame, if it is at most ``max_bytes``.

    Raises:
        UnknownDictionaryError: its dictionary is not in this process's book.
        CodecError: it is no frame, cut off, damaged, followed by more, too large, or says not how
            large it is (ours do).
    """
    if not data.startswith(MAGIC):
        raise CodecError(f"no zstd frame ({len(data)} bytes)")
    try:
        frame = zstandard.get_frame_parameters(data)
        # zstandard allocates what the frame declares, whatever limit it is given
        if frame.content_size > max_bytes:
            raise CodecError(
                f"a zstd frame of {frame.content_size} bytes, or of unknown size; at most "
                f"{max_bytes} are unpacked"
            )
        dictionary = BOOK.get(frame.dict_id) if frame.dict_id else None
        if frame.dict_id and dictionary is None:
            raise UnknownDictionaryError(frame.dict_id)
        context = _kept(
            _contexts.decompressors,
            frame.dict_id,
            DECOMPRESSORS,
            lambda: _new_decompressor(dictionary),
        )
        return context.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(
            f"a zstd frame that cannot be read ({len(data)} bytes): {error}"
        ) from error


def dictionary_id(data: bytes) -> int:
    """The id of the dictionary that a frame asks for; 0 for none, or where it is no frame."""
    try:
        return int(zstandard.get_frame_parameters(data).dict_id)
    except zstandard.ZstdError:
        return 0


def _new_compressor(dictionary: Dictionary | None, level: int) -> zstandard.ZstdCompressor:
    if dictionary is None:
        return zstandard.ZstdCompressor(level=level, write_checksum=True)
    content = zstandard.ZstdCompressionDict(dictionary.content)
    content.precompute_compress(level=level)
    return zstandard.ZstdCompressor(level=level, dict_data=content, write_checksum=True)


def _new_wide_compressor() -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WIDE_LOG, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def _new_decompressor(dictionary: Dictionary | None) -> zstandard.ZstdDecompressor:
    content = zstandard.ZstdCompressionDict(dictionary.content) if dictionary else None
    return zstandard.ZstdDecompressor(dict_data=content)


def _kept(
    kept: "OrderedDict[Any, Context]", key: Any, limit: int, make: Callable[[], Context]
) -> Context:
    """The context of a key; the one that was longest unused goes when there are too many."""
    found = kept.get(key)
    if found is None:
        found = kept[key] = make()
        if len(kept) > limit:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return found


class ZstdCodec(Codec):
    """Faust codec of bytes. Writes with ``dictionary``; reads what any dictionary here has written.

    >>> from faust.serializers import codecs
    >>> codecs.get_codec("json|hookstream_zstd").dumps({})   # doctest: +SKIP
    """

    def __init__(self, children: Any = None, *, dictionary: Dictionary | None = None) -> None:
        super().__init__(children=children, dictionary=dictionary)
        self.dictionary = dictionary

    def _dumps(self, obj: bytes) -> bytes:
        return compress(obj, self.dictionary)

    def _loads(self, s: bytes) -> bytes:
        return decompress(s)
