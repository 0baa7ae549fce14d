"""A line of a history: one event as JSON, as `hookstream export` writes and `import` reads it.

What the predecessor wrote is made such a line here, and back.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from hookstream.app.errors import BadRequestError
from hookstream.app.sqs.messages import pack
from hookstream.codecs.envelope import MAX_ENRICHMENT_BYTES, Event, is_event_id
from hookstream.codecs.json_items import members_of
from hookstream.codecs.json_payload import dump_json, load_json

__all__ = ["HistoryRecord", "from_predecessor", "read_record", "to_predecessor", "write_record"]

#: Where a payload may stand, and what is there: JSON, a text, bytes.
PAYLOADS: Final = ("payload", "payload_text", "payload_base64")
#: Times as numbers: below it they are seconds, else milliseconds.
SECONDS_BELOW: Final = 100_000_000_000
#: The last millisecond of the year 9999.
MAX_MS: Final = 253_402_300_799_999
#: Brackets that a payload has at most where it is written as JSON within a line, not as text.
MAX_BRACKETS: Final = 100_000
MAX_DEPTH: Final = 200
MAX_TEXT: Final = 1024
MAX_ID: Final = 512


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One event of before. Time in Unix milliseconds; "" and empty stand for what is not said.

    ``type`` is the event's type as it is; ``sent_as`` what its sender called it, of which the
    provider's rules make one. ``source_id``: what the source calls it, if that tells two apart.
    ``event_id``: of what was exported from here, as are the fields behind it.
    """

    received_at_ms: int
    payload: bytes
    type: str = ""
    sent_as: str = ""
    delivery_id: str = ""
    source_id: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    event_id: str = ""
    message_id: str = ""
    duplicate_of: str = ""
    batch_id: str = ""
    batch_index: int = 0
    kept_masked: bool = False
    blocked_by: str = ""
    enriched: bytes = b""


def read_record(line: bytes) -> HistoryRecord:
    """The event in a line. Pure.

    Raises:
        BadRequestError: it is none; the detail says what is wrong, and never what stands there.
    """
    try:
        members = members_of(line.decode())
    except UnicodeDecodeError as error:
        raise BadRequestError("is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError("is no JSON object") from error
    payload = _payload(members)
    try:
        said: dict[str, Any] = {name: json.loads(text) for name, text in members.items()}
    except (ValueError, RecursionError) as error:
        raise BadRequestError("has a member that is no JSON") from error
    headers = said.get("headers") or {}
    if not isinstance(headers, dict):
        raise BadRequestError("headers: an object of texts")
    event_id, duplicate_of = _text(said, "event_id"), _text(said, "duplicate_of")
    batch_id = _text(said, "batch_id")
    for name, given in (
        ("event_id", event_id),
        ("duplicate_of", duplicate_of),
        ("batch_id", batch_id),
    ):
        if given and not is_event_id(given):
            raise BadRequestError(f"{name}: a UUID in lower case with hyphens")
    index = said.get("batch_index") or 0
    if type(index) is not int or not 0 <= index < 1 << 31:
        raise BadRequestError("batch_index: a whole number from 0 on")
    return HistoryRecord(
        received_at_ms=_time(said.get("received_at")),
        payload=payload,
        type=_text(said, "type"),
        sent_as=_text(said, "event_type"),
        delivery_id=_text(said, "delivery_id"),
        source_id=_identity(said.get("id")),
        content_type=_text(said, "content_type"),
        headers={
            str(name).lower()[:MAX_TEXT]: str(value)[:MAX_TEXT]
            for name, value in headers.items()
            if isinstance(value, (str, int, float))
        },
        event_id=event_id,
        message_id=_text(said, "message_id"),
        duplicate_of=duplicate_of,
        batch_id=batch_id,
        batch_index=index,
        kept_masked=said.get("payload_kept") == "masked",
        blocked_by=_text(said, "blocked_by"),
        enriched=_enrichment(said.get("enrichment")),
    )


def write_record(event: Event, row: Mapping[str, Any]) -> bytes:
    """The line, without its end, of an event whose payload has been fetched. Pure.

    ``row``: what the event log has of it.
    """
    said: dict[str, Any] = {
        "event_id": event.event_id,
        "received_at": datetime.fromtimestamp(event.received_at_ms / 1000, UTC).isoformat(
            timespec="milliseconds"
        ),
        "provider": event.provider,
        "type": event.type,
        "delivery_id": event.delivery_id,
        "message_id": event.message_id,
        "content_type": event.content_type,
        "headers": dict(event.headers),
    }
    if row["status"] == "duplicate" and row["duplicate_of"]:
        said["duplicate_of"] = str(row["duplicate_of"])
    if event.batch_id:
        said |= {"batch_id": event.batch_id, "batch_index": event.batch_index}
    if event.kept_masked:
        said |= {"payload_kept": "masked", "blocked_by": event.blocked_by}
    if row["enrichment"]:
        said["enrichment"] = load_json(row["enrichment"].encode())
    name, text = _written(event.payload)
    return dump_json(said)[:-1] + b',"' + name + b'":' + text + b"}"


def from_predecessor(line: bytes) -> bytes:
    """A line of the predecessor's format as one of ours. Its payload stays, character by character.

    Raises:
        BadRequestError: it is none.
    """
    try:
        members = members_of(line.decode())
    except UnicodeDecodeError as error:
        raise BadRequestError("is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError("is no JSON object") from error
    times = ("received_at", "created_at", "timestamp")
    parts = {
        "received_at": next((members[name] for name in times if name in members), None),
        "event_type": members.get("event_type"),
        "delivery_id": members.get("delivery_id"),
        "id": members.get("id"),
    }
    payload = members.get("payload")
    if payload is not None and payload.startswith('"'):
        # a body that was no JSON: Go wrote it as a text
        parts["payload_text"] = payload
    else:
        parts["payload"] = payload
    kept = (f'"{name}":{text}' for name, text in parts.items() if text is not None)
    return ("{" + ",".join(kept) + "}").encode()


def to_predecessor(event: Event) -> bytes:
    """An event as the predecessor's messages have it, and when it was received. Pure."""
    at = datetime.fromtimestamp(event.received_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return b'{"received_at":"' + at.encode() + b'",' + pack(event, {}).encode()[1:]


def _payload(members: dict[str, str]) -> bytes:
    """Takes a payload out of a line's members. Raises BadRequestError: there is none."""
    given = [name for name in PAYLOADS if name in members]
    if len(given) != 1:
        raise BadRequestError(f"say the payload once, as one of {', '.join(PAYLOADS)}")
    text = members.pop(given[0])
    if given[0] == "payload":
        # as it is written there; lone surrogates, which JSON can name, are within escapes
        return text.encode(errors="replace")
    try:
        value = json.loads(text, strict=False)
    except ValueError as error:
        raise BadRequestError(f"{given[0]}: a text") from error
    if not isinstance(value, str):
        raise BadRequestError(f"{given[0]}: a text")
    if given[0] == "payload_text":
        return value.encode(errors="replace")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError("payload_base64: not base64") from error


def _written(payload: bytes) -> tuple[bytes, bytes]:
    """A payload as a member of a line: which name, and its value; read again it is the same."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return b"payload_base64", b'"' + base64.b64encode(payload) + b'"'
    if _is_one_value(payload):
        return b"payload", payload
    return b"payload_text", orjson.dumps(text)


def _is_one_value(payload: bytes) -> bool:
    """Whether a payload may stand in a line as it is: JSON in one line, not nested too deep."""
    if payload.strip() != payload or b"\n" in payload or b"\r" in payload:
        return False
    if payload.count(b"[") + payload.count(b"{") > MAX_BRACKETS:
        return False
    try:
        orjson.loads(payload)
    except ValueError:
        return False
    depth = most = 0
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH:
        for byte in payload:
            # brackets within texts count, too: then it is written as a text, which is as good
            depth += (byte in b"[{") - (byte in b"]}")
            most = max(most, depth)
    return most <= MAX_DEPTH


def _time(value: Any) -> int:
    """Unix milliseconds of a time. Raises BadRequestError."""
    wanted = "received_at: a time such as 2026-01-31T12:00:00Z, or Unix seconds or milliseconds"
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
            aware = at if at.tzinfo else at.replace(tzinfo=UTC)
            ms = math.floor(aware.timestamp() * 1000 + 1e-6)
        except (ValueError, OverflowError) as error:
            raise BadRequestError(wanted) from error
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        ms = int(value * 1000 if abs(value) < SECONDS_BELOW else value)
    else:
        raise BadRequestError(wanted)
    if not 1 <= ms <= MAX_MS:
        raise BadRequestError(wanted)
    return ms


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadRequestError(f"{name}: a text of at most {MAX_TEXT} characters")
    return value


def _identity(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if not isinstance(value, (str, int)) or len(str(value)) > MAX_ID:
        raise BadRequestError(f"id: a text or a whole number of at most {MAX_ID} characters")
    return str(value)


def _enrichment(value: Any) -> bytes:
    if not value:
        return b""
    if not isinstance(value, dict) or len(found := dump_json(value)) > MAX_ENRICHMENT_BYTES:
        raise BadRequestError(
            f"enrichment: an object of at most {MAX_ENRICHMENT_BYTES} bytes of JSON"
        )
    return found
