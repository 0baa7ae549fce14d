"""A line of a history: one event as JSON, as `hookstream export` writes and `import` reads it.

What the predecessor wrote is made such a line here, and back.
"""

import base64
import binascii
import difflib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.provider import (
    MAX_ID_CHARS,
    MAX_NAME_CHARS,
    event_name,
    short_id,
)
from hookstream.app.sqs.messages import pack
from hookstream.codecs.envelope import MAX_ENRICHMENT_BYTES, Event, is_event_id
from hookstream.codecs.json_items import members_of
from hookstream.codecs.json_payload import dump_json, load_json

__all__ = [
    "HistoryRecord",
    "OtherFormatError",
    "from_predecessor",
    "read_record",
    "to_predecessor",
    "without",
    "write_record",
]

#: Where a payload may stand, and what is there: JSON, a text, bytes.
PAYLOADS: Final = ("payload", "payload_text", "payload_base64")
#: Members of a line: what a source says, and what is in lines that were exported here.
MEMBERS: Final = (
    "received_at", *PAYLOADS, "event_type", "type", "delivery_id", "id", "headers", "content_type",
    "event_id", "message_id", "duplicate_of", "batch_id", "batch_index", "enrichment",
    "payload_kept", "blocked_by", "provider",
)  # fmt: skip
#: What some tools put before each text in UTF-8.
_MARK: Final = b"\xef\xbb\xbf"
#: Of a line of the predecessor's: members of its messages, and what may stand beside them. Times in
#: the order in which they count.
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")
PREDECESSOR_TIMES: Final = ("received_at", "created_at", "timestamp")
PREDECESSOR_MEMBERS: Final = (
    "delivery_id", "event_type", "repo_name", "sender_name", "payload", "auth_context", "id",
    *PREDECESSOR_TIMES,
)  # fmt: skip
#: Of a name that is none so much is looked at, and shown if it is a word.
MAX_NAME: Final = 64
#: Times as numbers: below it they are seconds, else milliseconds.
SECONDS_BELOW: Final = 100_000_000_000
#: The last millisecond of the year 9999.
MAX_MS: Final = 253_402_300_799_999
#: Brackets that a payload has at most where it is written as JSON within a line, not as text.
MAX_BRACKETS: Final = 100_000
MAX_DEPTH: Final = 200
MAX_TEXT: Final = 1024
MAX_ID: Final = 512


class OtherFormatError(BadRequestError):
    """A line of the other format: all others will be, too."""


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One event of before. Time in Unix milliseconds; "" and empty stand for what is not said.

    ``type`` is the event's type as it is; ``sent_as`` what its sender called it, of which the
    provider's rules make one. ``source_id``: what the source calls it, if that tells two apart.
    ``event_id``: of what was exported from here, as are the fields behind it, but for ``zoned``:
    the time said what zone it is of.
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
    zoned: bool = True


def read_record(line: bytes) -> HistoryRecord:
    """The event in a line. Pure.

    Raises:
        BadRequestError: it is none; the detail says what is wrong, and never what stands there,
            but for the name of a member that there is not.
        OtherFormatError: it is one of the predecessor's.
    """
    members = _members(line)
    _check_names(members, MEMBERS, _OF_PREDECESSOR)
    payload = _payload(members)
    try:
        said: dict[str, Any] = {name: json.loads(text) for name, text in members.items()}
    except (ValueError, RecursionError) as error:
        raise BadRequestError("has a member that is no JSON") from error
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
    received_at_ms, zoned = _time(said.get("received_at"))
    return HistoryRecord(
        received_at_ms=received_at_ms,
        zoned=zoned,
        payload=payload,
        type=_name(said, "type"),
        sent_as=_name(said, "event_type"),
        delivery_id=_delivery_id(said),
        source_id=_identity(said.get("id")),
        content_type=_text(said, "content_type"),
        headers=_headers(said.get("headers")),
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
        BadRequestError: it is none, or has a member that there is not.
        OtherFormatError: it is one of ours.
    """
    members = _members(line)
    _check_names(members, PREDECESSOR_MEMBERS, _OURS)
    times = [members[name] for name in PREDECESSOR_TIMES if members.get(name, "null") != "null"]
    if not times:
        raise BadRequestError(
            f"says nowhere when it was received: one of {', '.join(PREDECESSOR_TIMES)} does"
        )
    parts = {
        "received_at": times[0],
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
    line = b'{"received_at":"' + at.encode() + b'",' + pack(event, {}).encode()[1:]
    # what the payload's own characters may have between its values; within a text JSON has none
    return line.translate(_ONE_LINE)


def without(line: bytes, names: Collection[str]) -> bytes:
    """A line without members of these names; what else stands there keeps its characters. Pure.

    What is no object stays as it is: who reads it says so.
    """
    try:
        members = _members(line)
    except BadRequestError:
        return line
    kept = (f"{json.dumps(name)}:{text}" for name, text in members.items() if name not in names)
    return ("{" + ",".join(kept) + "}").encode(errors="replace")


def _members(line: bytes) -> dict[str, str]:
    try:
        # some tools begin each text with a mark of its encoding
        return members_of(line.removeprefix(_MARK).decode())
    except UnicodeDecodeError as error:
        raise BadRequestError("is not UTF-8") from error
    except RecursionError as error:
        raise BadRequestError("is nested too deeply") from error
    except ValueError as error:
        raise BadRequestError("is no JSON object") from error


_OF_PREDECESSOR: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("repo_name", "sender_name", "auth_context"),
        "a member of the predecessor's format, which `--format predecessor` reads",
    ),
    **dict.fromkeys(
        PREDECESSOR_TIMES[1:], "`received_at` here, or else `--format predecessor` reads the line"
    ),
}
_OURS: Final[Mapping[str, str]] = dict.fromkeys(
    [name for name in MEMBERS if name not in PREDECESSOR_MEMBERS],
    "a member of Hookstream's own format: leave out `--format predecessor`",
)


def _check_names(
    given: Collection[str], members: Collection[str], others: Mapping[str, str]
) -> None:
    """Raises BadRequestError, OtherFormatError for a member that would be lost without a word.

    ``others``: what is said of a member that only the other format has.
    """
    wrong = [name for name in given if name not in members]
    if not wrong:
        return
    for name, said in others.items():
        if name in wrong:
            raise OtherFormatError(f"`{name}` is {said}")
    # some text that was made a name may be anybody's
    plain = [one for one in wrong if len(one) <= MAX_NAME and one.replace("-", "_").isidentifier()]
    if not plain:
        raise BadRequestError("has a member that there is not, and whose name is no word")
    near = difflib.get_close_matches(plain[0], members, 1)
    meant = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(members)}"
    raise BadRequestError(
        f"there is no member `{plain[0]}`: {meant} (`--ignore {plain[0]}` leaves it out)"
    )


def _headers(given: Any) -> dict[str, str]:
    """Headers by their names in small letters; several of a name as one. Raises BadRequestError."""
    if given is None:
        return {}
    wanted = "headers: an object of texts (or whole numbers), or of lists of them"
    if not isinstance(given, dict):
        raise BadRequestError(wanted)
    found: dict[str, str] = {}
    for name, value in given.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        # a table may have a length there
        if not all(isinstance(one, str) or type(one) is int for one in values):
            raise BadRequestError(wanted)
        if values:
            found[name.lower()[:MAX_TEXT]] = ", ".join(map(str, values))[:MAX_TEXT]
    return found


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


def _time(value: Any) -> tuple[int, bool]:
    """Unix milliseconds of a time, and whether it says what zone it is of; it is UTC where not.

    Raises BadRequestError.
    """
    wanted = (
        "received_at: a time from 1970 on, such as 2026-01-31T12:00:00Z, or Unix seconds or "
        "milliseconds"
    )
    zoned = True
    if value is None:
        raise BadRequestError(f"has no {wanted}")
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
            zoned = at.tzinfo is not None
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
    return ms, zoned


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadRequestError(f"{name}: a text of at most {MAX_TEXT} characters")
    return value


def _name(said: Mapping[str, Any], name: str) -> str:
    """What would be kept of a type's name is all of it. Raises BadRequestError."""
    value = _text(said, name)
    if value and event_name(value) != value:
        raise BadRequestError(
            f"{name}: at most {MAX_NAME_CHARS} printable characters, and no blanks around them"
        )
    return value


def _delivery_id(said: Mapping[str, Any]) -> str:
    value = _text(said, "delivery_id")
    if short_id(value) != value:
        raise BadRequestError(f"delivery_id: at most {MAX_ID_CHARS} printable characters")
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
