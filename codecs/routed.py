"""What stages hand each other inside Redis: routed events, table changes, audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faust.serializers.codecs import Codec
from google.protobuf.message import DecodeError, Message

from hookstream.codecs.envelope import FINISHED_VERSION, Event, Recent, RecentEvents, is_event_id
from hookstream.codecs.errors import CodecError
from hookstream.proto.envelope_pb2 import Envelope
from hookstream.proto.pipeline_pb2 import (
    AuditBatch,
    FinishedUpdates,
    RoutedEvent,
    TableChange,
    TableChanges,
)
from hookstream.proto.pipeline_pb2 import Target as TargetMessage

__all__ = [
    "AuditCodec",
    "Change",
    "Finished",
    "Routed",
    "RoutedCodec",
    "Target",
    "decode_changes",
    "decode_routed",
    "encode_changes",
    "encode_routed",
    "only_targets",
    "recently_routed",
    "routed_origin",
]

#: What this process has routed and is likely to read again as the owner of its contexts' feeds.
recently_routed = RecentEvents()

#: Entries with finished updates that are remembered, and the largest one that is.
MAX_REMEMBERED = 2048
MAX_REMEMBERED_BYTES = 8192

#: One write to a table: key, value.
Change = tuple[bytes, bytes]
#: What stands where an envelope would: a version that says that there are finished updates.
_NO_ENVELOPE = Envelope(schema_version=FINISHED_VERSION).SerializeToString()


@dataclass(frozen=True, slots=True)
class Target:
    """A context that an event concerns, and the subscription that said so."""

    context_id: str
    priority: str
    subscription: str
    #: Which of :attr:`Finished.updates` is this context's.
    update: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """An event whose updates were finished where it was committed, and what delivery has to know.

    ``updates`` are JSON objects that lack ``context_id`` and ``priority``; each target names its
    own. ``keys`` are correlation keys. Time is in Unix milliseconds.
    """

    event_id: str
    tenant: str
    tool_id: str
    type: str
    replay_id: str
    received_at_ms: int
    keys: tuple[str, ...]
    updates: tuple[bytes, ...]

    @property
    def payload_bytes(self) -> int:
        """What it takes in memory, in bytes: its payload stayed where it was."""
        return sum(map(len, self.updates))


@dataclass(frozen=True, slots=True)
class Routed:
    """An event for all of its contexts in one partition, with the entry it came from.

    ``origin_floor``: the first entry of the batch that it came with; all before is committed, but
    for ``origin_pins``. ``event`` is whole where its updates are made by who delivers them.
    """

    origin_partition: int
    origin_entry_id: str
    origin_floor: str
    event: Event | Finished
    targets: tuple[Target, ...]
    origin_pins: tuple[str, ...] = ()


#: Entries with finished updates that this process has made, and reads again in a moment.
_recently_finished: Recent[Routed] = Recent(MAX_REMEMBERED)


def encode_routed(
    origin_partition: int,
    origin_entry_id: str,
    origin_floor: str,
    event: bytes | Finished,
    targets: Sequence[Target],
    origin_pins: Sequence[str] = (),
) -> bytes:
    """Bytes of one ``updates[q]`` entry; an envelope's bytes go through as they are.

    Of finished updates what was encoded is remembered: where this process owns the contexts, too,
    it reads it again in a moment, and to decode it takes 18 µs for each partition of them.
    """
    data: bytes = RoutedEvent(
        origin_partition=origin_partition,
        origin_entry_id=origin_entry_id,
        origin_floor=origin_floor,
        origin_pins=origin_pins,
        envelope=event if isinstance(event, bytes) else _NO_ENVELOPE,
        finished=None if isinstance(event, bytes) else _finished_message(event),
        targets=[
            TargetMessage(
                context_id=target.context_id,
                priority=target.priority,
                subscription=target.subscription,
                update=target.update,
            )
            for target in targets
        ],
    ).SerializeToString()
    if isinstance(event, Finished) and len(data) <= MAX_REMEMBERED_BYTES:
        routed = Routed(
            origin_partition,
            origin_entry_id,
            origin_floor or "0-0",
            event,
            tuple(targets),
            tuple(origin_pins),
        )
        _recently_finished.keep(data, routed)
    return data


def _finished_message(event: Finished) -> FinishedUpdates:
    return FinishedUpdates(
        event_id=event.event_id,
        tenant=event.tenant,
        tool_id=event.tool_id,
        type=event.type,
        replay_id=event.replay_id,
        received_at_ms=event.received_at_ms,
        keys=event.keys,
        updates=event.updates,
    )


def decode_routed(data: bytes) -> Routed:
    """The routed event in the bytes of an ``updates[q]`` entry.

    Raises:
        CodecError: the bytes are no routed event, or its envelope cannot be read.
    """
    if (known := _recently_finished.get(data)) is not None:
        return known
    message = _parse(RoutedEvent, data)
    finished = message.envelope == _NO_ENVELOPE
    return Routed(
        message.origin_partition,
        message.origin_entry_id,
        message.origin_floor or "0-0",
        _finished(message) if finished else recently_routed.decode(message.envelope),
        tuple(Target(t.context_id, t.priority, t.subscription, t.update) for t in message.targets),
        tuple(message.origin_pins),
    )


def _finished(message: RoutedEvent) -> Finished:
    said = message.finished
    updates = tuple(said.updates)
    if not is_event_id(said.event_id):
        raise CodecError(f"its event id is none: {said.event_id[:40]!r}")
    if any(target.update >= len(updates) for target in message.targets):
        raise CodecError(f"a target names an update that is not among its {len(updates)}")
    return Finished(
        said.event_id,
        said.tenant,
        said.tool_id,
        said.type,
        said.replay_id,
        said.received_at_ms,
        tuple(said.keys),
        updates,
    )


def only_targets(data: bytes, targets: Sequence[Target]) -> bytes:
    """The bytes of an ``updates[q]`` entry, for some of its targets."""
    message = _parse(RoutedEvent, data)
    wanted = {target.context_id for target in targets}
    kept = [target for target in message.targets if target.context_id in wanted]
    del message.targets[:]
    message.targets.extend(kept)
    return bytes(message.SerializeToString())


def routed_origin(data: bytes) -> tuple[int, str, str, tuple[str, ...]]:
    """Partition, entry, floor and pins of a routed event whose envelope need not be readable."""
    message = _parse(RoutedEvent, data)
    return (
        message.origin_partition,
        message.origin_entry_id,
        message.origin_floor or "0-0",
        tuple(message.origin_pins),
    )


def encode_changes(table: str, changes: Sequence[Change]) -> bytes:
    """Bytes of one changelog entry."""
    return TableChanges(
        table=table, changes=[TableChange(key=key, value=value) for key, value in changes]
    ).SerializeToString()


def decode_changes(data: bytes) -> tuple[str, list[Change]]:
    """The table's name and its writes, from the bytes of one changelog entry."""
    message = _parse(TableChanges, data)
    return message.table, [(change.key, change.value) for change in message.changes]


class RoutedCodec(Codec):
    """Faust codec ``hookstream_routed`` of ``updates[q]``."""

    def _dumps(self, obj: bytes) -> bytes:
        return obj

    def _loads(self, s: bytes) -> Routed:
        return decode_routed(s)


class AuditCodec(Codec):
    """Faust codec ``hookstream_audit``: an ``AuditBatch`` message."""

    def _dumps(self, obj: AuditBatch) -> bytes:
        return obj.SerializeToString()

    def _loads(self, s: bytes) -> AuditBatch:
        batch: AuditBatch = _parse(AuditBatch, s)
        return batch


def _parse(kind: type[Message], data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise CodecError(f"not a {kind.__name__} ({len(data)} bytes): {error}") from error
