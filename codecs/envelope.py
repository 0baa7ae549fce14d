"""The event and its protobuf envelope, version 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from faust.serializers.codecs import Codec
from google.protobuf.message import DecodeError

from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.proto.envelope_pb2 import Envelope

__all__ = [
    "KNOWN_VERSIONS",
    "SCHEMA_VERSION",
    "EnvelopeCodec",
    "Event",
    "decode_event",
    "encode_event",
]

SCHEMA_VERSION: Final = 1
#: Major versions that this build reads.
KNOWN_VERSIONS: Final = frozenset({SCHEMA_VERSION})
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One accepted webhook, as every stage sees it.

    ``payload`` is the body as bytes; :meth:`data` is the same as JSON, parsed at most once.
    Times are Unix milliseconds.
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
    #: Where the payload breaks its tool's schema, when the tool lets it pass all the same.
    schema_errors: tuple[str, ...] = ()
    #: The envelope that it came in: fields of a newer minor version are kept when it is encoded.
    _envelope: bytes = field(default=b"", repr=False, compare=False)
    _parsed: list[Any] = field(default_factory=list, repr=False, compare=False)

    def data(self) -> Any:
        """The payload as JSON values; None where it is neither JSON nor a form.

        A form is an object of its fields' first values. One whose only field is a JSON text named
        ``payload`` (GitHub's forms, Slack's interactions) is that JSON.
        """
        if not self._parsed:
            self._parsed.append(_parse(self.payload, self.content_type))
        return self._parsed[0]


def _parse(payload: bytes, content_type: str) -> Any:
    try:
        if content_type.partition(";")[0].strip().lower() != FORM:
            return orjson.loads(payload)
        fields = parse_qs(payload.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        if list(fields) == ["payload"]:
            return orjson.loads(fields["payload"][0])
        return {name: values[0] for name, values in fields.items()}
    except ValueError:
        return None


def encode_event(event: Event) -> bytes:
    """The event as envelope bytes. Protobuf is not canonical: never hash these.

    Fields that this build does not know come through as they came in.
    """
    envelope = Envelope.FromString(event._envelope)
    envelope.schema_version = SCHEMA_VERSION
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
    envelope.payload = event.payload
    envelope.dedup_window_ms = event.dedup_window_ms
    envelope.registry_version = event.registry_version
    envelope.replay_id = event.replay_id
    envelope.replay_context_id = event.replay_context_id
    envelope.schema_errors[:] = event.schema_errors
    return envelope.SerializeToString()


def decode_event(data: bytes) -> Event:
    """The event in envelope bytes.

    Raises:
        CodecError: the bytes are no envelope.
        UnknownVersionError: the envelope is of a version that this build does not know.
    """
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
            f"version {SCHEMA_VERSION}: upgrade the worker",
            version,
        )
    return Event(
        event_id=envelope.event_id,
        tenant=envelope.tenant,
        tool_id=envelope.tool_id,
        provider=envelope.provider,
        type=envelope.type,
        message_id=envelope.message_id,
        delivery_id=envelope.delivery_id,
        received_at_ms=envelope.received_at_ms,
        headers=dict(envelope.headers),
        content_type=envelope.content_type,
        trace_context=envelope.trace_context,
        payload=envelope.payload,
        dedup_window_ms=envelope.dedup_window_ms,
        registry_version=envelope.registry_version,
        replay_id=envelope.replay_id,
        replay_context_id=envelope.replay_context_id,
        schema_errors=tuple(envelope.schema_errors),
        _envelope=data,
    )


class EnvelopeCodec(Codec):
    """Faust codec ``hookstream_envelope``: :class:`Event` to envelope bytes and back."""

    def _dumps(self, obj: Event) -> bytes:
        return encode_event(obj)

    def _loads(self, s: bytes) -> Event:
        return decode_event(s)
