"""An archived event, and how its envelope is taken apart into columns and put together again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote
from zlib import crc32

import orjson
from google.protobuf.message import DecodeError

from hookstream.codecs.envelope import is_event_id
from hookstream.codecs.errors import CodecError
from hookstream.proto.envelope_pb2 import Envelope

__all__ = [
    "MAX_MS",
    "ArchivedEvent",
    "Entry",
    "Place",
    "Row",
    "entry_id",
    "folder_of",
    "join",
    "parse_entry",
    "place_number",
    "split",
]

#: The highest that PostgreSQL's bigint, and Parquet's readers without unsigned numbers, can hold.
MAX_NUMBER: Final = (1 << 63) - 1
#: The last millisecond of the year 9999: above it there is no day to write.
MAX_MS: Final = 253_402_300_799_999

Entry = tuple[int, int]
_parse: Final = Envelope.FromString


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """One event, and the entry that it was in ``events[partition]``.

    ``envelope`` has its payload as it came: :func:`decode_event` gives the event.
    """

    partition: int
    entry_id: str
    envelope: bytes


class Place(NamedTuple):
    """Where an event was appended: what it is found by."""

    tenant: str
    tool_id: str
    partition: int
    entry_id: str


class Row(NamedTuple):
    """An event as the columns have it, but for its tenant and tool.

    ``headers`` is a JSON object, in which null stands for the delivery id; ``rest`` the envelope
    without what other columns hold.
    """

    event_id: bytes
    received_at: int
    provider: str
    type: str
    message_id: str
    delivery_id: str
    content_type: str
    headers: str
    partition: int
    entry_ms: int
    entry_seq: int
    payload: bytes
    rest: bytes


_IN_COLUMNS: Final = (
    "event_id",
    "received_at_ms",
    "provider",
    "type",
    "message_id",
    "delivery_id",
    "content_type",
    "headers",
    "payload",
)


def parse_entry(entry_id: str) -> Entry:
    """``ms-seq`` as two numbers, whose order is that of entries.

    Raises:
        ValueError: it is no entry's id, or one that no manifest can hold.
    """
    milliseconds, _, sequence = entry_id.partition("-")
    entry = int(milliseconds), int(sequence)
    if not all(0 <= number <= MAX_NUMBER for number in entry):
        raise ValueError(f"the entry {entry_id[:64]!r} is out of range")
    return entry


def entry_id(entry: Entry) -> str:
    """The entry as Redis writes it."""
    return f"{entry[0]}-{entry[1]}"


def split(event: ArchivedEvent) -> Row:
    """The columns of an event. Costs 10 µs (bench/archive.py).

    Raises:
        CodecError: it is no envelope with an id and a time.
        ValueError: its entry's id is none.
    """
    try:
        envelope = _parse(event.envelope)
    except DecodeError as error:
        raise CodecError(f"what should be archived is no envelope: {error}") from error
    event_id, received_at = envelope.event_id, envelope.received_at_ms
    if not is_event_id(event_id) or not 0 <= received_at <= MAX_MS:
        raise CodecError("an envelope to be archived has no event id, or no time")
    delivery_id, headers = envelope.delivery_id, envelope.headers
    # most senders put it into a header, too: random bytes that need not be there twice
    kept = {name: None if (value := headers[name]) == delivery_id else value for name in headers}
    entry_ms, entry_seq = parse_entry(event.entry_id)
    columns = (
        bytes.fromhex(event_id.replace("-", "")),
        received_at,
        envelope.provider,
        envelope.type,
        envelope.message_id,
        delivery_id,
        envelope.content_type,
        orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode(),
        event.partition,
        entry_ms,
        entry_seq,
        envelope.payload,
    )
    clear = envelope.ClearField
    for name in _IN_COLUMNS:
        clear(name)
    return Row(*columns, envelope.SerializeToString())


def join(row: Row) -> bytes:
    """The envelope again: a message's bytes behind another's are one message with both's fields."""
    named = row.event_id.hex()
    own = Envelope(
        event_id=f"{named[:8]}-{named[8:12]}-{named[12:16]}-{named[16:20]}-{named[20:]}",
        received_at_ms=row.received_at,
        provider=row.provider,
        type=row.type,
        message_id=row.message_id,
        delivery_id=row.delivery_id,
        content_type=row.content_type,
        payload=row.payload,
    )
    if row.headers != "{}":
        kept = own.headers
        headers: Mapping[str, str | None] = orjson.loads(row.headers)
        for name, value in headers.items():
            kept[name] = row.delivery_id if value is None else value
    return row.rest + own.SerializeToString()


def folder_of(tenant: str, tool_id: str, at_ms: int) -> str:
    """Where objects of a tool and hour are, with ``name=value`` as Hive, DuckDB and Spark read it.

    Whatever is no letter, digit, ``-``, ``.`` or ``_`` is percent-encoded: nothing leads elsewhere.
    """
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    named = (("tenant", tenant), ("tool", tool_id))
    parts = [f"{name}={_encoded(value)}" for name, value in named]
    return "/".join([*parts, f"day={at:%Y-%m-%d}", f"hour={at:%H}"])


def _encoded(name: str) -> str:
    # quote() leaves it as it is, and object stores' clients do not
    return quote(name, safe="").replace("~", "%7E")


def place_number(tenant: str, tool_id: str) -> int:
    """The number that the manifest's index of entries has for a tool."""
    return crc32(f"{tenant}/{tool_id}".encode())
