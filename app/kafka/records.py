"""What a record of a topic is: a webhook's body, with headers."""

from typing import Any, Final

from hookstream.app.ingest.refusals import IN_TOPIC
from hookstream.app.providers.provider import body_type
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.queues.door import Arrival, bits_of
from hookstream.app.queues.unpacked import Unpacked
from hookstream.app.routing.topics import KafkaSource

__all__ = ["arrival", "unpack"]

#: A record whose time is so far ahead has a producer with a wrong clock.
AHEAD_MS: Final = 3_600_000


def arrival(record: Any, source: KafkaSource, now_ms: int) -> Arrival:
    """A record as a receiver's door takes it. Pure.

    Its event's id follows from its place and its time, so that it is the same event each time it
    comes. A time that cannot be (none, or an hour ahead) counts for nothing: it is an event of now.
    """
    place = f"{record.topic}/{record.partition}/{record.offset}"
    known = 0 < record.timestamp <= now_ms + AHEAD_MS
    return Arrival(
        name=f"record {record.offset} of partition {record.partition}",
        method=IN_TOPIC,
        place=f"kafka://{place}",
        source="topic",
        body=record.value,
        at_ms=record.timestamp if known else 0,
        bits=bits_of(f"kafka\0{place}"),
        headers=_headers(record, source),
    )


def unpack(came: Arrival) -> Unpacked:
    """The webhook in a record. Pure."""
    headers = dict(came.headers)
    body = came.body
    assert isinstance(body, bytes)
    headers.setdefault("content-type", body_type(body))
    # it stands in the record as it is
    headers.pop("content-encoding", None)
    shown = {name: (value,) for name, value in headers.items()}
    return Unpacked(WebhookRequest("POST", came.place, shown, body, body))


def _headers(record: Any, source: KafkaSource) -> dict[str, str]:
    """A record's headers that are texts, and what the source's ``headers`` names; the last of one
    name counts.
    """
    found: dict[str, str] = {}
    for name, value in record.headers:
        try:
            found[name] = (value or b"").decode()
        except UnicodeDecodeError:
            continue
    named = {header: found[where] for header, where in source.headers.items() if where in found}
    return {name.lower(): value for name, value in found.items()} | named
