from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PayloadEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_ENCODING_RAW: _ClassVar[PayloadEncoding]
    PAYLOAD_ENCODING_ZSTD: _ClassVar[PayloadEncoding]
    PAYLOAD_ENCODING_SEALED: _ClassVar[PayloadEncoding]
    PAYLOAD_ENCODING_SEALED_ZSTD: _ClassVar[PayloadEncoding]
PAYLOAD_ENCODING_RAW: PayloadEncoding
PAYLOAD_ENCODING_ZSTD: PayloadEncoding
PAYLOAD_ENCODING_SEALED: PayloadEncoding
PAYLOAD_ENCODING_SEALED_ZSTD: PayloadEncoding

class Envelope(_message.Message):
    __slots__ = ("schema_version", "event_id", "tenant", "tool_id", "provider", "type", "message_id", "delivery_id", "received_at_ms", "headers", "content_type", "trace_context", "payload", "dedup_window_ms", "registry_version", "replay_id", "replay_context_id", "payload_encoding", "payload_bytes", "payload_blob", "dedup_history_ms", "dedup_function", "schema_errors", "registry_token", "enrichment", "batch_id", "batch_index", "kept_masked", "blocked_by", "source")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DEDUP_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_ENCODING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BLOB_FIELD_NUMBER: _ClassVar[int]
    DEDUP_HISTORY_MS_FIELD_NUMBER: _ClassVar[int]
    DEDUP_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ERRORS_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENRICHMENT_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    KEPT_MASKED_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_BY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    event_id: str
    tenant: str
    tool_id: str
    provider: str
    type: str
    message_id: str
    delivery_id: str
    received_at_ms: int
    headers: _containers.ScalarMap[str, str]
    content_type: str
    trace_context: str
    payload: bytes
    dedup_window_ms: int
    registry_version: int
    replay_id: str
    replay_context_id: str
    payload_encoding: PayloadEncoding
    payload_bytes: int
    payload_blob: str
    dedup_history_ms: int
    dedup_function: str
    schema_errors: _containers.RepeatedScalarFieldContainer[str]
    registry_token: int
    enrichment: bytes
    batch_id: str
    batch_index: int
    kept_masked: bool
    blocked_by: str
    source: str
    def __init__(self, schema_version: _Optional[int] = ..., event_id: _Optional[str] = ..., tenant: _Optional[str] = ..., tool_id: _Optional[str] = ..., provider: _Optional[str] = ..., type: _Optional[str] = ..., message_id: _Optional[str] = ..., delivery_id: _Optional[str] = ..., received_at_ms: _Optional[int] = ..., headers: _Optional[_Mapping[str, str]] = ..., content_type: _Optional[str] = ..., trace_context: _Optional[str] = ..., payload: _Optional[bytes] = ..., dedup_window_ms: _Optional[int] = ..., registry_version: _Optional[int] = ..., replay_id: _Optional[str] = ..., replay_context_id: _Optional[str] = ..., payload_encoding: _Optional[_Union[PayloadEncoding, str]] = ..., payload_bytes: _Optional[int] = ..., payload_blob: _Optional[str] = ..., dedup_history_ms: _Optional[int] = ..., dedup_function: _Optional[str] = ..., schema_errors: _Optional[_Iterable[str]] = ..., registry_token: _Optional[int] = ..., enrichment: _Optional[bytes] = ..., batch_id: _Optional[str] = ..., batch_index: _Optional[int] = ..., kept_masked: _Optional[bool] = ..., blocked_by: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...
