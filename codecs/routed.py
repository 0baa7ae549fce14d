"""What stages hand each other inside Redis: routed events, table changes, audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faust.serializers.codecs import Codec
from google.protobuf.message import DecodeError, Message

from hookstream.codecs.envelope import Event, RecentEvents
from hookstream.codecs.errors import CodecError
from hookstream.proto.pipeline_pb2 import AuditBatch, RoutedEvent, TableChange, TableChanges
from hookstream.proto.pipeline_pb2 import Target as TargetMessage

__all__ = [
    "AuditCodec",
    "Change",
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

#: One write to a table: key, value.
Change = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """A context that an event concerns, and the subscription that said so."""

    context_id: str
    priority: str
    subscription: str


@dataclass(frozen=True, slots=True)
class Routed:
    """An event for all of its contexts in one partition, with the entry it came from.

    ``origin_floor``: the first entry of the batch that it came with; all before is committed, but
    for ``origin_pins``.
    """

    origin_partition: int
    origin_entry_id: str
    origin_floor: str
    event: Event
    targets: tuple[Target, ...]
    origin_pins: tuple[str, ...] = ()


def encode_routed(
    origin_partition: int,
    origin_entry_id: str,
    origin_floor: str,
    envelope: bytes,
    targets: Sequence[Target],
    origin_pins: Sequence[str] = (),
) -> bytes:
    """Bytes of one ``updates[q]`` entry; the envelope's bytes go through as they are."""
    return RoutedEvent(
        origin_partition=origin_partition,
        origin_entry_id=origin_entry_id,
        origin_floor=origin_floor,
        origin_pins=origin_pins,
        envelope=envelope,
        targets=[
            TargetMessage(
                context_id=target.context_id,
                priority=target.priority,
                subscription=target.subscription,
            )
            for target in targets
        ],
    ).SerializeToString()


def decode_routed(data: bytes) -> Routed:
    """The routed event in the bytes of an ``updates[q]`` entry.

    Raises:
        CodecError: the bytes are no routed event, or its envelope cannot be read.
    """
    message = _parse(RoutedEvent, data)
    return Routed(
        message.origin_partition,
        message.origin_entry_id,
        message.origin_floor or "0-0",
        recently_routed.decode(message.envelope),
        tuple(Target(t.context_id, t.priority, t.subscription) for t in message.targets),
        tuple(message.origin_pins),
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
