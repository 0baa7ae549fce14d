"""How a payload is kept: the one place that decides on the codecs, and knows how to read them.

An envelope carries the number of the chain that reads its payload. Numbers are for ever: a new way
of keeping payloads gets a new one, and those of old entries stay readable.
"""

from dataclasses import dataclass
from typing import Any, Final

from faust.serializers.codecs import Codec

from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.errors import CodecError, MissingBlobError, UnknownDictionaryError
from hookstream.codecs.sealed import MonthKey, key_ids, open_sealed
from hookstream.codecs.zstd import ZstdCodec, compress, dictionary_id
from hookstream.proto.envelope_pb2 import PayloadEncoding

__all__ = ["DICTIONARY_MAX_BYTES", "Packing", "StoredPayload"]

RAW: Final = PayloadEncoding.PAYLOAD_ENCODING_RAW
ZSTD: Final = PayloadEncoding.PAYLOAD_ENCODING_ZSTD
#: Those that are sealed, and what is inside.
SEALED: Final[dict[int, int]] = {
    PayloadEncoding.PAYLOAD_ENCODING_SEALED: RAW,
    PayloadEncoding.PAYLOAD_ENCODING_SEALED_ZSTD: ZSTD,
}
_SEALED_AS: Final = {inside: sealed for sealed, inside in SEALED.items()}

#: What reads each encoding. A chain is written with ``|``, the codec nearest the payload first.
READERS: Final[dict[int, Codec]] = {
    ZSTD: ZstdCodec(),
}
#: Larger ones gain less by a dictionary, and would blow each dictionary's compressor up to 3 MB.
DICTIONARY_MAX_BYTES: Final = 128 * 1024
#: What does not lose at least a tenth is kept as it is: reading it then costs nothing.
WORTH: Final = 0.9


class StoredPayload:
    """A payload as it is kept; unpacked when it is first looked at, and once.

    ``size`` is that of the payload itself in bytes. ``blob`` is the Redis key of what lies beside
    the stream, else ""; its ``data`` is None until it has been fetched. ``place`` is what it is
    sealed for, where it is.
    """

    __slots__ = ("_inside", "_opened", "blob", "data", "encoding", "place", "size")

    def __init__(
        self, encoding: int, size: int, data: bytes | None, blob: str = "", place: bytes = b""
    ) -> None:
        self.encoding = encoding
        self.size = size
        self.data = data
        self.blob = blob
        self.place = place
        self._opened: bytes | None = None
        #: What was sealed, until it is unpacked.
        self._inside: bytes | None = None

    @property
    def key_id(self) -> int:
        """The data key that is needed to open it; 0 for none."""
        if self.encoding not in SEALED or self.data is None:
            return 0
        return next(iter(key_ids((self.data,))), 0)

    @property
    def dictionary_id(self) -> int:
        """The dictionary that is needed to unpack it; 0 for none, or where its key is not here."""
        if SEALED.get(self.encoding, self.encoding) != ZSTD or self.data is None:
            return 0
        try:
            return dictionary_id(self._packed())
        except CodecError:
            return 0

    def sealed(self, key: MonthKey, place: bytes) -> "StoredPayload":
        """The same, sealed by a key; it is neither sealed yet nor beside a stream."""
        assert self.data is not None
        return StoredPayload(
            _SEALED_AS[self.encoding], self.size, key.seal(self.data, place), "", place
        )

    def _packed(self) -> bytes:
        """What was packed, without its seal. Raises CodecError."""
        assert self.data is not None
        if self.encoding not in SEALED:
            return self.data
        if self._inside is None:
            self._inside = open_sealed(self.data, self.place)
        return self._inside

    def is_open_as(self, payload: bytes) -> bool:
        """Whether ``payload`` is the very object that :meth:`open` gave."""
        return self._opened is payload

    def emptied(self) -> "StoredPayload":
        """One of the same size that opens as nothing: for what cannot be read here."""
        empty = StoredPayload(RAW, self.size, b"")
        empty._opened = b""
        return empty

    def problem(self) -> CodecError | None:
        """What is lacking here to unpack it, without unpacking it."""
        if self.data is None:
            return MissingBlobError(self.blob)
        try:
            self._packed()
        except CodecError as error:
            return error
        number = self.dictionary_id
        return UnknownDictionaryError(number) if number and not BOOK.get(number) else None

    def found(self, payload: bytes) -> None:
        """Open as ``payload``, which was found where the event is by now."""
        self.encoding, self.data = RAW, payload

    def release(self) -> None:
        """Forget what it was unpacked to, where it can be unpacked again."""
        if self.data is not None and self.encoding != RAW:
            self._opened = self._inside = None

    def open(self) -> bytes:
        """The payload.

        Raises:
            MissingBlobError: its blob is not there, or was not fetched.
            UnknownDictionaryError: its dictionary was not fetched.
            UnknownKeyError: its data key was not fetched.
            ErasedError: its data key was destroyed.
            CodecError: it is damaged, or kept in a way that this build does not know.
        """
        if self._opened is None:
            if self.data is None:
                raise MissingBlobError(self.blob)
            packed, inside = self._packed(), SEALED.get(self.encoding, self.encoding)
            opened = packed if inside == RAW else _reader(inside).loads(packed)
            if len(opened) != self.size:
                raise CodecError(f"a payload of {len(opened)} bytes that should have {self.size}")
            self._opened, self._inside = opened, None
        return self._opened


def _reader(encoding: int) -> Any:
    reader = READERS.get(encoding)
    if reader is None:
        raise CodecError(
            f"a payload of encoding {encoding}, which this build does not know: upgrade it"
        )
    return reader


@dataclass(frozen=True, slots=True)
class Packing:
    """What an installation has chosen. Payloads below ``min_bytes`` are kept as they are."""

    compress: bool = True
    min_bytes: int = 128

    def pack(self, payload: bytes, dictionary: Dictionary | None = None) -> StoredPayload:
        """A payload in the form in which it is kept; as it is where that would not save a tenth.

        Costs 8 µs for 10 KB of JSON with a dictionary (bench/codecs.py).
        """
        size = len(payload)
        if not self.compress or size < self.min_bytes:
            return StoredPayload(RAW, size, payload)
        packed = compress(payload, dictionary if size <= DICTIONARY_MAX_BYTES else None)
        if len(packed) > size * WORTH:
            return StoredPayload(RAW, size, payload)
        return StoredPayload(ZSTD, size, packed)
