"""The event and its protobuf envelope, versions 1 and 2."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from faust.serializers.codecs import Codec
from google.protobuf.message import DecodeError

from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.codecs.json_payload import dump_json, load_json
from hookstream.codecs.payload import SEALED, StoredPayload
from hookstream.codecs.readable import read_payload
from hookstream.codecs.sealed import payload_place
from hookstream.proto.envelope_pb2 import Envelope, PayloadEncoding

__all__ = [
    "FINISHED_VERSION",
    "KNOWN_VERSIONS",
    "MAX_ENRICHMENT_BYTES",
    "NOTE_VERSION",
    "SCHEMA_VERSION",
    "Blank",
    "EnvelopeCodec",
    "Event",
    "KeptEnvelope",
    "Recent",
    "RecentEvents",
    "decode_event",
    "encode_event",
    "is_event_id",
    "read_kept",
    "take_out_payload",
    "varint",
    "with_replay",
]

Value = TypeVar("Value")

SCHEMA_VERSION: Final = 2
#: The version of an envelope whose payload is there as it is: older builds read it.
PLAIN_VERSION: Final = 1
#: All that stands in place of an envelope where an event's updates are finished.
FINISHED_VERSION: Final = 3
#: A note for dedup of an event that came by an import: its ids and its time, and no payload. A
#: worker of an older build, which would take it for an event, holds it until it is upgraded.
NOTE_VERSION: Final = 4
#: Major versions that this build reads.
KNOWN_VERSIONS: Final = frozenset({PLAIN_VERSION, SCHEMA_VERSION, FINISHED_VERSION, NOTE_VERSION})
#: Of what stages add to an event, as JSON.
MAX_ENRICHMENT_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One accepted webhook, as every stage sees it.

    ``payload`` is the body as bytes; :meth:`data` is the same as JSON, parsed at most once.
    Times are Unix milliseconds. Nothing of it is changed in place, headers neither. A
    stored event's payload is unpacked when it is first looked at,
    which raises CodecError where it cannot be: a stage gets its events with what that takes.
    """

    event_id: str
    tenant: str
    tool_id: str
    provider: str
    type: str
    message_id: str
    delivery_id: str = ""
    received_at_ms: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    trace_context: str = ""
    payload: bytes = b""
    dedup_window_ms: int = 0
    registry_version: int = 0
    replay_id: str = ""
    replay_context_id: str = ""
    dedup_history_ms: int = 0
    #: Set when this dedup function could not say the message id yet, which is "" then.
    dedup_function: str = ""
    #: Where the payload breaks its tool's schema, when the tool lets it pass all the same.
    schema_errors: tuple[str, ...] = ()
    #: Tells two states of one ``registry_version`` apart; 0 where it is not known.
    registry_token: int = 0
    #: What stages have added, as a JSON object; see :meth:`enrich`.
    enriched: bytes = b""
    #: Of one that came with others in one request: the first one's id, and its place among them.
    batch_id: str = ""
    batch_index: int = 0
    #: Whether the payload is what agents may see of what was sent, which nobody has kept.
    kept_masked: bool = False
    #: Of such an event: the kind of data for which a rule keeps it from everybody; "" for none.
    blocked_by: str = ""
    #: "queue", "topic" or "import" where no webhook brought it, which is signed; else "".
    source: str = ""
    #: Whether it only says to dedup that this event is kept: it is on record, and goes nowhere.
    is_note: bool = False
    #: The envelope that it came in: fields of a newer minor version are kept when it is encoded.
    _envelope: bytes = field(default=b"", repr=False, compare=False)
    #: The payload as it came, and what it parses to: both hold for that payload alone.
    _came: StoredPayload | None = field(default=None, repr=False, compare=False)
    _parsed: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def brought_by(self) -> str:
        """What brought it, also where that is not a ``source`` but a webhook."""
        return self.source or "webhook"

    @property
    def stored(self) -> StoredPayload | None:
        """The payload as it is kept; None where it never was, or is another by now."""
        kept: bytes | StoredPayload = _PAYLOAD.slot.__get__(self)
        if isinstance(kept, StoredPayload):
            return kept
        return self._came if self._came is not None and self._came.is_open_as(kept) else None

    @property
    def payload_bytes(self) -> int:
        """Size of the payload in bytes, without unpacking it."""
        kept: bytes | StoredPayload = _PAYLOAD.slot.__get__(self)
        return kept.size if isinstance(kept, StoredPayload) else len(kept)

    def release(self) -> None:
        """Forget what the payload was parsed and unpacked to; who asks again gets it anew."""
        self._parsed.clear()
        kept: bytes | StoredPayload = _PAYLOAD.slot.__get__(self)
        if isinstance(kept, StoredPayload):
            kept.release()

    def unsendable(self) -> str:
        """What of it no envelope can hold, for people; "" where all is well."""
        kept: object = _PAYLOAD.slot.__get__(self)
        if not isinstance(kept, (bytes, StoredPayload)):
            return f"a payload that is {type(kept).__name__}: bytes are wanted"
        try:
            texts = (self.type, self.provider, self.tool_id, self.delivery_id, self.content_type)
            "".join((*texts, *self.headers.keys(), *self.headers.values())).encode()
        except (TypeError, ValueError, AttributeError) as error:
            return f"a type, content_type, or name or value of a header that is no text: {error}"
        if "\0" in self.type:
            # the event log could not have it: it would be delivered, and unknown to the API
            return "a type with the character NUL, which PostgreSQL does not take"
        return ""

    @property
    def is_parsed(self) -> bool:
        """Whether somebody has asked for :meth:`data`."""
        return bool(self._parsed)

    def is_data_changed(self) -> bool:
        """Whether somebody has changed what :meth:`data` gave, which no one else gets to see.

        Parses the payload anew.
        """
        if not self._parsed or self._parsed[0] is not self.payload:
            return False
        return bool(self._parsed[2] != read_payload(*self._parsed[:2]))

    def data(self) -> Any:
        """The payload as JSON values; None where nothing can be read of it, or it is not parsed.

        Read are JSON, forms, XML and lines of JSON: see :func:`read_payload`.
        """
        payload, kind = self.payload, self.content_type
        # an event that was made from this one by replace() shares the list
        if not self._parsed or self._parsed[0] is not payload or self._parsed[1] != kind:
            self._parsed[:] = payload, kind, read_payload(payload, kind)
        return self._parsed[2]

    @property
    def enrichment(self) -> dict[str, Any]:
        """What stages have added; a copy: :meth:`enrich` adds to it."""
        found: dict[str, Any] = load_json(self.enriched) if self.enriched else {}
        return found

    def enrich(self, **values: Any) -> "Event":
        """The event with ``values`` added to its :attr:`enrichment`; a name that is there is new.

        Values are what JSON has, and times. The payload stays what it was.

        Raises:
            ValueError: a value is nothing for JSON, or all of it takes more than 16 KiB.
        """
        try:
            enriched = dump_json({**self.enrichment, **values})
            # what is nested deeper than this reads again does not come back
            load_json(enriched)
        except (TypeError, ValueError) as error:
            raise ValueError(f"enrich({', '.join(values)}): not for JSON: {error}") from error
        if len(enriched) > MAX_ENRICHMENT_BYTES:
            raise ValueError(
                f"enrich({', '.join(values)}): {len(enriched)} bytes of JSON with what is there; "
                f"{MAX_ENRICHMENT_BYTES} at most. Add what rules and summaries need, not all of it"
            )
        return replace(self, enriched=enriched)


class _LazyPayload:
    """What stands for ``Event.payload``: its slot, and the look that unpacks what lies there."""

    def __init__(self, slot: Any) -> None:
        self.slot = slot

    def __get__(self, event: Event, owner: type[Event] | None = None) -> bytes:
        kept: bytes | StoredPayload = self.slot.__get__(event)
        return kept.open() if isinstance(kept, StoredPayload) else kept

    def __set__(self, event: Event, value: bytes | StoredPayload) -> None:
        self.slot.__set__(event, value)


#: Everything that keeps events keeps them by this id: one that is none would stop its partition.
is_event_id = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_PAYLOAD = _LazyPayload(Event.__dict__["payload"])
type.__setattr__(Event, "payload", _PAYLOAD)


def encode_event(event: Event, packed: StoredPayload | None = None) -> bytes:
    """The event as envelope bytes, with its payload ``packed`` where that is given.

    Fields that this build does not know come through as they came in. Protobuf is not canonical:
    never hash these.
    """
    envelope = Envelope.FromString(event._envelope)
    for packing in ("payload_encoding", "payload_bytes", "payload_blob"):
        envelope.ClearField(packing)
    envelope.schema_version = PLAIN_VERSION
    envelope.event_id = event.event_id
    envelope.tenant = event.tenant
    envelope.tool_id = event.tool_id
    envelope.provider = event.provider
    envelope.type = event.type
    envelope.message_id = event.message_id
    envelope.delivery_id = event.delivery_id
    envelope.received_at_ms = event.received_at_ms
    envelope.headers.clear()
    envelope.headers.update(event.headers)
    envelope.content_type = event.content_type
    envelope.trace_context = event.trace_context
    envelope.dedup_window_ms = event.dedup_window_ms
    envelope.registry_version = event.registry_version
    envelope.replay_id = event.replay_id
    envelope.replay_context_id = event.replay_context_id
    envelope.dedup_history_ms = event.dedup_history_ms
    envelope.dedup_function = event.dedup_function
    envelope.schema_errors[:] = event.schema_errors
    envelope.registry_token = event.registry_token
    envelope.enrichment = event.enriched
    envelope.batch_id = event.batch_id
    envelope.batch_index = event.batch_index
    envelope.kept_masked = event.kept_masked
    envelope.blocked_by = event.blocked_by
    envelope.source = event.source
    raw = PayloadEncoding.PAYLOAD_ENCODING_RAW
    if event.is_note:
        envelope.schema_version = NOTE_VERSION
        envelope.payload = b""
    elif packed is None or (packed.encoding == raw and not packed.blob):
        envelope.payload = event.payload
    else:
        envelope.schema_version = SCHEMA_VERSION
        envelope.payload = b"" if packed.blob else packed.data or b""
        envelope.payload_encoding = packed.encoding  # type: ignore[assignment]
        envelope.payload_bytes = packed.size
        envelope.payload_blob = packed.blob
    return envelope.SerializeToString()


class Blank:
    """An envelope with what many events have in common, encoded once; filled in for each of them.

    Two messages' bytes, one behind the other, are one message with the fields of both
    (protobuf.dev/programming-guides/encoding, "Last One Wins"). Costs a third of an Event and its
    :func:`encode_event`.
    """

    def __init__(
        self,
        *,
        tenant: str,
        tool_id: str,
        provider: str,
        dedup_window_ms: int,
        dedup_history_ms: int,
        registry_version: int,
        registry_token: int,
    ) -> None:
        common = Envelope(
            tenant=tenant,
            tool_id=tool_id,
            provider=provider,
            dedup_window_ms=dedup_window_ms,
            dedup_history_ms=dedup_history_ms,
            registry_version=registry_version,
            registry_token=registry_token,
        ).SerializeToString()
        #: What stands before an event whose payload is as it came, and before any other.
        self._plain = common + Envelope(schema_version=PLAIN_VERSION).SerializeToString()
        self._packed = common + Envelope(schema_version=SCHEMA_VERSION).SerializeToString()

    def filled(
        self,
        payload: StoredPayload,
        *,
        event_id: str,
        event_type: str,
        message_id: str,
        delivery_id: str,
        received_at_ms: int,
        headers: Iterable[tuple[str, str]],
        content_type: str,
        trace_context: str,
    ) -> bytes:
        """The envelope of an event; its payload lies in the entry itself."""
        packed = payload.encoding
        own = Envelope(
            event_id=event_id,
            type=event_type,
            message_id=message_id,
            delivery_id=delivery_id,
            received_at_ms=received_at_ms,
            content_type=content_type,
            trace_context=trace_context,
            payload=payload.data,
            payload_encoding=packed,  # type: ignore[arg-type]
            payload_bytes=payload.size if packed else 0,
        )
        # one by one: what is given as a whole goes through Python's mixin of mappings
        kept = own.headers
        for name, value in headers:
            kept[name] = value
        return (self._packed if packed else self._plain) + own.SerializeToString()


def decode_event(data: bytes) -> Event:
    """The event in envelope bytes. Its payload is left packed until somebody looks at it.

    Raises:
        CodecError: the bytes are no envelope, or none that a receiver makes.
        UnknownVersionError: the envelope is of a version that this build does not know.
    """
    envelope = _envelope(data)
    if not is_event_id(envelope.event_id):
        raise CodecError(f"its event id is none: {envelope.event_id[:40]!r}")
    if envelope.batch_id and not is_event_id(envelope.batch_id):
        raise CodecError(f"its batch's id is none: {envelope.batch_id[:40]!r}")
    if envelope.dedup_window_ms < 0 or envelope.dedup_history_ms < 0:
        raise CodecError("its dedup window or history is negative")
    headers, schema_errors = envelope.headers, envelope.schema_errors
    stored = _stored(envelope)
    return Event(
        event_id=envelope.event_id,
        tenant=envelope.tenant,
        tool_id=envelope.tool_id,
        provider=envelope.provider,
        type=envelope.type,
        message_id=envelope.message_id,
        delivery_id=envelope.delivery_id,
        received_at_ms=envelope.received_at_ms,
        # three times as fast as dict(headers); what is changed in place would get half of the way
        headers=MappingProxyType({name: headers[name] for name in headers}),
        content_type=envelope.content_type,
        trace_context=envelope.trace_context,
        payload=stored or envelope.payload,  # type: ignore[arg-type]
        dedup_window_ms=envelope.dedup_window_ms,
        registry_version=envelope.registry_version,
        replay_id=envelope.replay_id,
        replay_context_id=envelope.replay_context_id,
        dedup_history_ms=envelope.dedup_history_ms,
        dedup_function=envelope.dedup_function,
        schema_errors=tuple(schema_errors) if schema_errors else (),
        registry_token=envelope.registry_token,
        enriched=envelope.enrichment,
        batch_id=envelope.batch_id,
        batch_index=envelope.batch_index,
        kept_masked=envelope.kept_masked,
        blocked_by=envelope.blocked_by,
        source=envelope.source,
        is_note=envelope.schema_version == NOTE_VERSION,
        _envelope=data,
        _came=stored,
    )


class Recent(Generic[Value]):
    """What bytes are decoded to, of the last ``most`` of them: read anew, they are not decoded."""

    def __init__(self, most: int) -> None:
        self._known: dict[bytes, Value] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._known)

    def keep(self, data: bytes, value: Value) -> None:
        """Remember ``value``, which is what ``data`` is decoded to."""
        self._known[data] = value
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def get(self, data: bytes) -> Value | None:
        """What was kept of these bytes; None where that is not remembered."""
        return self._known.get(data)


class RecentEvents(Recent[Event]):
    """Events by their envelope's bytes. Those with large payloads are not kept."""

    def __init__(self, most: int = 1024, payload_bytes: int = 32_768) -> None:
        super().__init__(most)
        self._payload_bytes = payload_bytes

    def keep(self, data: bytes, event: Event) -> None:
        """Remember ``event``, which :func:`decode_event` made of ``data``."""
        if event.payload_bytes > self._payload_bytes:
            return
        # neither the memory of the parsed payload, nor what a stage may have changed in it
        event._parsed.clear()
        super().keep(data, event)

    def decode(self, data: bytes) -> Event:
        """As :func:`decode_event`."""
        return self.get(data) or decode_event(data)


def with_replay(
    data: bytes,
    *,
    replay_id: str,
    replay_context_id: str,
    registry_version: int,
    registry_token: int = 0,
) -> bytes:
    """Envelope bytes marked as a replay; the payload stays as and where it is.

    Raises:
        CodecError: the bytes are no envelope.
    """
    envelope = _envelope(data)
    envelope.replay_id = replay_id
    envelope.replay_context_id = replay_context_id
    envelope.registry_version = registry_version
    envelope.registry_token = registry_token
    return envelope.SerializeToString()


def take_out_payload(data: bytes, blob_of: Callable[[str], str]) -> tuple[bytes, str, bytes]:
    """Claim check: envelope bytes without their payload, the blob's name, and what belongs there.

    ``blob_of`` gives the blob's name for an event id. What has been taken out already has the
    name "".

    Raises:
        CodecError: the bytes are no envelope.
    """
    envelope = _envelope(data)
    if envelope.payload_blob:
        return data, "", b""
    payload = envelope.payload
    envelope.payload_bytes = envelope.payload_bytes or len(payload)
    envelope.schema_version = SCHEMA_VERSION
    envelope.payload_blob = blob_of(envelope.event_id)
    envelope.payload = b""
    return envelope.SerializeToString(), envelope.payload_blob, payload


@dataclass(slots=True)
class KeptEnvelope:
    """An envelope as it lies somewhere: whose event it is, and its payload as it is kept there."""

    event_id: str
    tenant: str
    tool_id: str
    replay_id: str
    stored: StoredPayload
    _envelope: Envelope = field(repr=False)

    @property
    def is_event(self) -> bool:
        """Whether it is an event itself: no replay of one, and no note of one that is elsewhere."""
        return not self.replay_id and self._envelope.schema_version != NOTE_VERSION

    def whole(self) -> tuple[bytes, bytes]:
        """The envelope with the payload in it, as it came: nothing else is needed to read it.

        In two pieces, of which the second is the payload: what is to be put together with others is
        copied once (protobuf.dev/programming-guides/encoding, "Length-Delimited Records").

        Raises:
            CodecError: the payload cannot be had; see :meth:`StoredPayload.open`.
        """
        envelope, payload = self._envelope, self.stored.open()
        for field_name in ("payload", "payload_encoding", "payload_bytes", "payload_blob"):
            envelope.ClearField(field_name)
        envelope.schema_version = PLAIN_VERSION
        return envelope.SerializeToString() + _PAYLOAD_TAG + varint(len(payload)), payload


def varint(value: int) -> bytes:
    """A number as protobuf writes it (protobuf.dev/programming-guides/encoding, "Varints")."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


#: What stands before the length of an envelope's payload.
_PAYLOAD_TAG = varint(Envelope.DESCRIPTOR.fields_by_name["payload"].number << 3 | 2)


def read_kept(data: bytes) -> KeptEnvelope:
    """What an envelope says of where its event belongs, for who only puts it somewhere else.

    Raises:
        CodecError: the bytes are no envelope.
        UnknownVersionError: the envelope is of a version that this build does not know.
    """
    envelope = _envelope(data)
    payload = envelope.payload
    return KeptEnvelope(
        envelope.event_id,
        envelope.tenant,
        envelope.tool_id,
        envelope.replay_id,
        _stored(envelope)
        or StoredPayload(PayloadEncoding.PAYLOAD_ENCODING_RAW, len(payload), payload),
        envelope,
    )


def _stored(envelope: Envelope) -> StoredPayload | None:
    """The payload as it is kept; None where it is in the envelope as it came."""
    if envelope.schema_version in (PLAIN_VERSION, NOTE_VERSION):
        return None
    return StoredPayload(
        envelope.payload_encoding,
        envelope.payload_bytes,
        None if envelope.payload_blob else envelope.payload,
        envelope.payload_blob,
        # only where it may be needed: most are not sealed
        payload_place(envelope.tenant, envelope.event_id)
        if envelope.payload_encoding in SEALED
        else b"",
    )


def _envelope(data: bytes) -> Envelope:
    try:
        envelope = Envelope.FromString(data)
    except DecodeError as error:
        raise CodecError(f"not an envelope ({len(data)} bytes): {error}") from error
    version = envelope.schema_version
    if version == 0:
        raise CodecError(f"not an envelope ({len(data)} bytes): it names no schema version")
    if version not in KNOWN_VERSIONS:
        raise UnknownVersionError(
            f"envelope of schema version {version}; this build reads "
            f"versions {PLAIN_VERSION} to {NOTE_VERSION}: upgrade the worker",
            version,
        )
    return envelope


class EnvelopeCodec(Codec):
    """Faust codec ``hookstream_envelope``: :class:`Event` to envelope bytes and back."""

    def _dumps(self, obj: Event) -> bytes:
        return encode_event(obj)

    def _loads(self, s: bytes) -> Event:
        return decode_event(s)
