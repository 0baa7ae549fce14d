"""Parquet objects: rows to bytes, and one row group of them back to rows.

Only what reads or writes the archive imports this: Arrow takes 40 MB.

Where payloads are sealed, those of a row group are compressed together and sealed as one value,
which stands in the first row of the column `payload`; in the others nothing does. Sealed one by one
they would not compress. All other columns are as they are without.
"""

import hashlib
import io
import mmap
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from hookstream.app.archive.rows import ArchivedEvent, Row, join, split
from hookstream.app.durations import HOUR_MS
from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealed import MonthKey, archive_place, month_of, open_sealed
from hookstream.codecs.zstd import MAX_BYTES, compress_together, decompress

__all__ = [
    "GROUP_BYTES",
    "SCHEMA_VERSION",
    "Encoded",
    "Group",
    "GroupRange",
    "LackingKeyError",
    "ObjectWriter",
    "Span",
    "check_rows",
    "encode_by_hour",
    "read_footer",
    "read_group",
    "sealed_by",
    "span_of",
]

#: Of the columns and what they mean; in each object's metadata, and in the manifest.
SCHEMA_VERSION: Final = 1
#: The same columns, with payloads that are sealed; in an object's own metadata only.
SEALED_VERSION: Final = 2
#: Most bytes of a group's payloads and their lengths: one that is as large as may be ends a group.
MAX_GROUP_BYTES: Final = 2 * MAX_BYTES
#: Payloads of a row group. Half as many take a third more room each, twice as many twice as long to
#: read one of (bench/archive.py).
GROUP_BYTES: Final = 8 << 20
LEVEL: Final = 3
METADATA_KEY: Final = b"hookstream"
_TAIL_BYTES: Final = 8

COLUMNS: Final = pa.schema(
    [
        pa.field("event_id", pa.uuid(), nullable=False),
        pa.field("received_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("provider", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("message_id", pa.string(), nullable=False),
        pa.field("delivery_id", pa.string(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("headers", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("entry_ms", pa.int64(), nullable=False),
        pa.field("entry_seq", pa.int64(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("envelope", pa.binary(), nullable=False),
    ]
)
_STATISTICS: Final = ["event_id", "received_at", "type", "partition", "entry_ms", "entry_seq"]
_DICTIONARIES: Final = ["provider", "type", "content_type"]
_TIME: Final = COLUMNS.get_field_index("received_at")
_ID: Final = COLUMNS.get_field_index("event_id")
_PAYLOAD: Final = COLUMNS.get_field_index("payload")
_by_entry = attrgetter("entry_ms", "entry_seq", "partition")
#: Those of a kind are alike: side by side they take half of the room.
_by_kind = attrgetter("type", "entry_ms", "entry_seq", "partition")


@dataclass(frozen=True, slots=True)
class GroupRange:
    """What is in a row group: milliseconds of entries' ids, and of when events were received."""

    first_entry: int
    last_entry: int
    oldest_ms: int
    newest_ms: int
    events: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """An object's bytes and what the manifest says of it."""

    data: bytes
    sha256: bytes
    footer_bytes: int
    events: int
    payload_bytes: int
    first_event: UUID
    last_event: UUID
    groups: tuple[GroupRange, ...]
    #: Of each group's values: what is read back must have the same.
    digests: tuple[bytes, ...]

    @property
    def oldest_ms(self) -> int:
        """When the first of its events was received."""
        return min(group.oldest_ms for group in self.groups)

    @property
    def newest_ms(self) -> int:
        """When the last of its events was received."""
        return max(group.newest_ms for group in self.groups)


class LackingKeyError(Exception):
    """Events of a month are to be sealed whose key was not given."""

    def __init__(self, month: str) -> None:
        super().__init__(month)
        self.month = month


class ObjectWriter:
    """Makes one object. Rows come in the order of their entries, or nearly: groups do not overlap
    by more than rows are out of order. Their payloads are sealed by ``key``, where one is given."""

    def __init__(self, tenant: str, tool_id: str, key: MonthKey | None = None) -> None:
        about = {"schema_version": SCHEMA_VERSION, "tenant": tenant, "tool_id": tool_id}
        if key is not None:
            # as text: not every reader of JSON has numbers of 63 bits
            about |= {"schema_version": SEALED_VERSION, "sealed_by": str(key.key_id)}
        self._owner = (tenant, tool_id)
        self._key = key
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(
            self._sink,
            COLUMNS,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=_DICTIONARIES,
            write_statistics=_STATISTICS,
            # one page a column: what is alike is then seen by zstd together
            data_page_size=1 << 30,
            write_page_checksum=True,
            store_schema=False,
        )
        self._writer.add_key_value_metadata({METADATA_KEY: orjson.dumps(about)})
        self._waiting: list[Row] = []
        self._waiting_bytes = 0
        self._groups: list[GroupRange] = []
        self._digests: list[bytes] = []
        self._payload_bytes = 0
        self._ids: tuple[bytes, bytes] | None = None

    @property
    def bytes_so_far(self) -> int:
        """What is written of it."""
        return self._sink.tell()

    def add(self, rows: Iterable[Row]) -> None:
        """Some more of them."""
        for row in rows:
            self._waiting.append(row)
            self._waiting_bytes += len(row.payload) + len(row.rest)
            if self._waiting_bytes >= GROUP_BYTES:
                self._write_group()

    def finish(self) -> Encoded:
        """All of it.

        Raises:
            ValueError: there was no row.
        """
        if self._waiting:
            self._write_group()
        self._writer.close()
        if self._ids is None:
            raise ValueError("an object without events")
        data = self._sink.getvalue()
        first, last = self._ids
        return Encoded(
            data=data,
            sha256=hashlib.sha256(data).digest(),
            footer_bytes=int.from_bytes(data[-8:-4], "little") + _TAIL_BYTES,
            events=sum(group.events for group in self._groups),
            payload_bytes=self._payload_bytes,
            first_event=UUID(bytes=first),
            last_event=UUID(bytes=last),
            groups=tuple(self._groups),
            digests=tuple(self._digests),
        )

    def _write_group(self) -> None:
        rows = sorted(self._waiting, key=_by_kind)
        self._waiting, self._waiting_bytes = [], 0
        ids, times = [row.event_id for row in rows], [row.received_at for row in rows]
        entries = [row.entry_ms for row in rows]
        known = self._ids or (ids[0], ids[0])
        self._ids = min(known[0], *ids), max(known[1], *ids)
        self._payload_bytes += sum(len(row.payload) for row in rows)
        self._groups.append(
            GroupRange(min(entries), max(entries), min(times), max(times), len(rows))
        )
        if self._key is not None:
            place = archive_place(*self._owner, rows[0].event_id)
            sealed = _sealed([row.payload for row in rows], self._key, place)
            rows = [row._replace(payload=b"") for row in rows]
            rows[0] = rows[0]._replace(payload=sealed)
        table = _table(rows)
        self._digests.append(_digest(table.columns))
        self._writer.write_table(table, row_group_size=len(rows))


def _table(rows: Sequence[Row]) -> Any:
    columns = []
    for number, values in enumerate(zip(*rows, strict=True)):
        kind = COLUMNS.field(number).type
        if number == _ID:
            ids = pa.Array.from_buffers(kind.storage_type, len(rows), [None, _joined(values)])
            columns.append(pa.ExtensionArray.from_storage(kind, ids))
        elif number == _PAYLOAD:
            # a copy less of what is large
            ends = pa.py_buffer(array("i", (0, *accumulate(map(len, values)))))
            columns.append(pa.Array.from_buffers(kind, len(rows), [None, ends, _joined(values)]))
        else:
            columns.append(pa.array(values, kind))
    return pa.Table.from_arrays(columns, schema=COLUMNS)


def _sealed(payloads: Sequence[bytes], key: MonthKey, place: bytes) -> bytes:
    """Payloads as one value: their lengths, then they themselves, compressed and sealed."""
    lengths = array("I", map(len, payloads))
    return key.seal(compress_together(b"".join((lengths.tobytes(), *payloads))), place)


def _unsealed(data: bytes, count: int, place: bytes) -> list[bytes]:
    """What :func:`_sealed` made of ``count`` payloads. Raises CodecError."""
    opened = decompress(open_sealed(data, place), MAX_GROUP_BYTES)
    lengths = array("I")
    at = lengths.itemsize * count
    lengths.frombytes(opened[:at])
    if len(lengths) != count or at + sum(lengths) != len(opened):
        raise CodecError("payloads of another number of rows")
    ends = accumulate(lengths, initial=at)
    return [opened[end : end + size] for end, size in zip(ends, lengths, strict=False)]


def _joined(values: Sequence[bytes]) -> Any:
    return pa.py_buffer(b"".join(values))


def _digest(columns: Sequence[Any]) -> bytes:
    """A hash of all values; 1 ms for 8 MiB."""
    hashed = xxhash.xxh3_128()
    for column in columns:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        count = len(array)
        if pa.types.is_binary(array.type) or pa.types.is_string(array.type):
            _, places, data = array.buffers()
            ends = memoryview(places).cast("i")[array.offset : array.offset + count + 1]
            hashed.update(array.offset.to_bytes(8, "little") if array.offset else b"")
            hashed.update(ends)
            hashed.update(memoryview(data)[ends[0] : ends[-1]] if data is not None else b"")
        else:
            width = array.type.bit_width // 8
            data = memoryview(array.buffers()[1])
            hashed.update(data[array.offset * width : (array.offset + count) * width])
    return hashed.digest()


def check_rows(encoded: Encoded, data: bytes) -> None:
    """Compare what was read back of an object with what was encoded, value by value.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: it is not the same.
    """
    size = len(data)
    if hashlib.sha256(data).digest() != encoded.sha256:
        raise ValueError("has another checksum than what was written")
    footer = read_footer(data[-encoded.footer_bytes :], size)
    if footer.num_row_groups != len(encoded.groups) or footer.num_rows != encoded.events:
        raise ValueError("has other rows than what was written")
    file = pq.ParquetFile(pa.BufferReader(data), metadata=footer, page_checksum_verification=True)
    for number, digest in enumerate(encoded.digests):
        table = file.read_row_group(number, use_threads=False)
        if _digest(table.columns) != digest:
            raise ValueError("has other values than what was written")


def encode_by_hour(
    tenant: str,
    tool_id: str,
    events: Iterable[ArchivedEvent],
    keys: Mapping[str, MonthKey] | None = None,
) -> list[Encoded]:
    """An object an hour, by when events were received; ``events`` are in the order of entries.

    What is taken apart is a row group at a time: memory that is used again is there already.
    ``keys``: by which payloads are sealed, by months; None where they are not.

    Raises:
        LackingKeyError: they are to be, and a month's key is not among them.
        CodecError: an event's envelope is none.
        ValueError: its entry is none.
    """
    writers: dict[int, ObjectWriter] = {}
    for event in events:
        row = split(event)
        hour = row.received_at // HOUR_MS
        if hour not in writers:
            key = None
            if keys is not None and (key := keys.get(month_of(row.received_at))) is None:
                raise LackingKeyError(month_of(row.received_at))
            writers[hour] = ObjectWriter(tenant, tool_id, key)
        writers[hour].add((row,))
    return [writers[hour].finish() for hour in sorted(writers)]


@dataclass(frozen=True, slots=True)
class Span:
    """Where in an object something is: ``start`` of its first byte, ``end`` past its last one."""

    start: int
    end: int


def _spread(data: bytes, span: Span, size: int) -> Any:
    """A file of ``size`` bytes of which only these are there: pages of zeros cost nothing."""
    whole = mmap.mmap(-1, size)
    whole[span.start : span.end] = data
    return pa.BufferReader(pa.py_buffer(whole))


def read_footer(tail: bytes, size: int) -> Any:
    """What an object's last bytes say of it; ``size`` is that of the object.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: they are no footer.
    """
    return pq.read_metadata(_spread(tail, Span(size - len(tail), size), size))


def sealed_by(footer: Any) -> int:
    """The data key by which an object's payloads are sealed; 0 where they are not."""
    about = orjson.loads((footer.metadata or {}).get(METADATA_KEY, b"{}"))
    return int(about.get("sealed_by", 0))


def span_of(footer: Any, group: int, size: int) -> Span:
    """Where a row group is.

    Raises:
        ValueError: there is none, or none in an object of this size.
    """
    if not 0 <= group < footer.num_row_groups:
        raise ValueError(f"has no row group {group}")
    found = footer.row_group(group)
    starts, ends = [], []
    for number in range(found.num_columns):
        column = found.column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        starts.append(min(start, column.data_page_offset))
        ends.append(starts[-1] + column.total_compressed_size)
    span = Span(min(starts), max(ends))
    if not 0 < span.start < span.end <= size:
        raise ValueError("has a footer that is of another object")
    return span


@dataclass(slots=True)
class Group:
    """A row group in memory."""

    columns: list[Any]
    nbytes: int
    _rows_of: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        entries = (self.columns[number].to_pylist() for number in _ENTRY)
        self._rows_of = {entry: row for row, entry in enumerate(zip(*entries, strict=True))}

    def row(self, number: int) -> Row:
        """One of its rows."""
        return Row(*(column[number].as_py() for column in self.columns))

    def rows(self) -> list[Row]:
        """All of them, in the order of their entries."""
        columns = (column.to_pylist() for column in self.columns)
        return sorted(map(Row._make, zip(*columns, strict=True)), key=_by_entry)

    def find(self, partition: int, entry_ms: int, entry_seq: int) -> bytes | None:
        """The envelope of an entry, where it is here."""
        number = self._rows_of.get((partition, entry_ms, entry_seq))
        return None if number is None else join(self.row(number))


_ENTRY: Final = [COLUMNS.get_field_index(name) for name in ("partition", "entry_ms", "entry_seq")]


def read_group(footer: Any, group: int, data: bytes, span: Span, size: int) -> Group:
    """A row group of which ``data`` has the bytes; every page's checksum is compared.

    Raises:
        UnknownKeyError: it is sealed, and its data key was not fetched.
        ErasedError: it is sealed, and its data key was destroyed.
        CodecError: what is sealed in it is not for there.
        pyarrow.ArrowException, OSError, ValueError: it is damaged.
    """
    file = pq.ParquetFile(
        _spread(data, span, size), metadata=footer, page_checksum_verification=True
    )
    table = file.read_row_group(group, columns=COLUMNS.names, use_threads=False)
    if table.schema.names != COLUMNS.names:
        raise ValueError("has other columns than this release knows")
    columns = [column.combine_chunks() for column in table.columns]
    columns[_TIME] = columns[_TIME].cast(pa.int64())
    if isinstance(columns[_ID], pa.ExtensionArray):
        columns[_ID] = columns[_ID].storage
    size_in_memory = table.nbytes
    if sealed_by(footer) and table.num_rows:
        about = orjson.loads(footer.metadata[METADATA_KEY])
        place = archive_place(about["tenant"], about["tool_id"], columns[_ID][0].as_py())
        payloads = _unsealed(columns[_PAYLOAD][0].as_py(), table.num_rows, place)
        columns[_PAYLOAD] = pa.array(payloads, pa.binary())
        size_in_memory += columns[_PAYLOAD].nbytes
    return Group(columns, size_in_memory)
