from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("context_id", "priority", "subscription", "update")
    CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    context_id: str
    priority: str
    subscription: str
    update: int
    def __init__(self, context_id: _Optional[str] = ..., priority: _Optional[str] = ..., subscription: _Optional[str] = ..., update: _Optional[int] = ...) -> None: ...

class FinishedUpdates(_message.Message):
    __slots__ = ("event_id", "tenant", "tool_id", "type", "replay_id", "received_at_ms", "keys", "updates")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    tenant: str
    tool_id: str
    type: str
    replay_id: str
    received_at_ms: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    updates: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, event_id: _Optional[str] = ..., tenant: _Optional[str] = ..., tool_id: _Optional[str] = ..., type: _Optional[str] = ..., replay_id: _Optional[str] = ..., received_at_ms: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ..., updates: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RoutedEvent(_message.Message):
    __slots__ = ("origin_partition", "origin_entry_id", "envelope", "targets", "origin_floor", "origin_pins", "finished")
    ORIGIN_PARTITION_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FLOOR_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_PINS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    origin_partition: int
    origin_entry_id: str
    envelope: bytes
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    origin_floor: str
    origin_pins: _containers.RepeatedScalarFieldContainer[str]
    finished: FinishedUpdates
    def __init__(self, origin_partition: _Optional[int] = ..., origin_entry_id: _Optional[str] = ..., envelope: _Optional[bytes] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., origin_floor: _Optional[str] = ..., origin_pins: _Optional[_Iterable[str]] = ..., finished: _Optional[_Union[FinishedUpdates, _Mapping]] = ...) -> None: ...

class WarmEvent(_message.Message):
    __slots__ = ("entry_id", "envelope")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    envelope: bytes
    def __init__(self, entry_id: _Optional[str] = ..., envelope: _Optional[bytes] = ...) -> None: ...

class WarmBlock(_message.Message):
    __slots__ = ("schema_version", "events")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    events: _containers.RepeatedCompositeFieldContainer[WarmEvent]
    def __init__(self, schema_version: _Optional[int] = ..., events: _Optional[_Iterable[_Union[WarmEvent, _Mapping]]] = ...) -> None: ...

class TableChange(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class TableChanges(_message.Message):
    __slots__ = ("table", "changes")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    table: str
    changes: _containers.RepeatedCompositeFieldContainer[TableChange]
    def __init__(self, table: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[TableChange, _Mapping]]] = ...) -> None: ...

class EventAudit(_message.Message):
    __slots__ = ("event_id", "tenant", "tool_id", "provider", "type", "status", "duplicate_of", "message_id", "delivery_id", "received_at_ms", "entry_id", "payload_bytes", "error", "stage", "replay_id", "schema_errors", "enrichment", "payload_changed", "dedup", "batch_id", "batch_index", "again", "path")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_OF_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ERRORS_FIELD_NUMBER: _ClassVar[int]
    ENRICHMENT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_CHANGED_FIELD_NUMBER: _ClassVar[int]
    DEDUP_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    tenant: str
    tool_id: str
    provider: str
    type: str
    status: str
    duplicate_of: str
    message_id: str
    delivery_id: str
    received_at_ms: int
    entry_id: str
    payload_bytes: int
    error: str
    stage: str
    replay_id: str
    schema_errors: _containers.RepeatedScalarFieldContainer[str]
    enrichment: bytes
    payload_changed: bool
    dedup: str
    batch_id: str
    batch_index: int
    again: bool
    path: PathAudit
    def __init__(self, event_id: _Optional[str] = ..., tenant: _Optional[str] = ..., tool_id: _Optional[str] = ..., provider: _Optional[str] = ..., type: _Optional[str] = ..., status: _Optional[str] = ..., duplicate_of: _Optional[str] = ..., message_id: _Optional[str] = ..., delivery_id: _Optional[str] = ..., received_at_ms: _Optional[int] = ..., entry_id: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., error: _Optional[str] = ..., stage: _Optional[str] = ..., replay_id: _Optional[str] = ..., schema_errors: _Optional[_Iterable[str]] = ..., enrichment: _Optional[bytes] = ..., payload_changed: _Optional[bool] = ..., dedup: _Optional[str] = ..., batch_id: _Optional[str] = ..., batch_index: _Optional[int] = ..., again: _Optional[bool] = ..., path: _Optional[_Union[PathAudit, _Mapping]] = ...) -> None: ...

class PathAudit(_message.Message):
    __slots__ = ("path", "copied", "key", "decided", "contexts", "dropped_by", "decided_at_ms")
    PATH_FIELD_NUMBER: _ClassVar[int]
    COPIED_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_BY_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    path: str
    copied: bool
    key: str
    decided: bool
    contexts: _containers.RepeatedScalarFieldContainer[str]
    dropped_by: str
    decided_at_ms: int
    def __init__(self, path: _Optional[str] = ..., copied: _Optional[bool] = ..., key: _Optional[str] = ..., decided: _Optional[bool] = ..., contexts: _Optional[_Iterable[str]] = ..., dropped_by: _Optional[str] = ..., decided_at_ms: _Optional[int] = ...) -> None: ...

class DeliveryAudit(_message.Message):
    __slots__ = ("tenant", "context_id", "seq", "event_id", "delivered_at_ms", "replay_id", "kind")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    context_id: str
    seq: int
    event_id: str
    delivered_at_ms: int
    replay_id: str
    kind: str
    def __init__(self, tenant: _Optional[str] = ..., context_id: _Optional[str] = ..., seq: _Optional[int] = ..., event_id: _Optional[str] = ..., delivered_at_ms: _Optional[int] = ..., replay_id: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...

class DailyAudit(_message.Message):
    __slots__ = ("tenant", "context_id", "seq", "day", "summary", "tokens", "updates", "from_seq", "to_seq", "created_at_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    TO_SEQ_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    context_id: str
    seq: int
    day: str
    summary: str
    tokens: int
    updates: int
    from_seq: int
    to_seq: int
    created_at_ms: int
    def __init__(self, tenant: _Optional[str] = ..., context_id: _Optional[str] = ..., seq: _Optional[int] = ..., day: _Optional[str] = ..., summary: _Optional[str] = ..., tokens: _Optional[int] = ..., updates: _Optional[int] = ..., from_seq: _Optional[int] = ..., to_seq: _Optional[int] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class AuditBatch(_message.Message):
    __slots__ = ("partition", "events", "deliveries", "dailies")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    DAILIES_FIELD_NUMBER: _ClassVar[int]
    partition: int
    events: _containers.RepeatedCompositeFieldContainer[EventAudit]
    deliveries: _containers.RepeatedCompositeFieldContainer[DeliveryAudit]
    dailies: _containers.RepeatedCompositeFieldContainer[DailyAudit]
    def __init__(self, partition: _Optional[int] = ..., events: _Optional[_Iterable[_Union[EventAudit, _Mapping]]] = ..., deliveries: _Optional[_Iterable[_Union[DeliveryAudit, _Mapping]]] = ..., dailies: _Optional[_Iterable[_Union[DailyAudit, _Mapping]]] = ...) -> None: ...
