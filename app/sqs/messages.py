"""What a message of a queue is: a webhook as it was sent, or in the predecessor's format."""

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import body_type
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.queues.unpacked import Unpacked
from hookstream.app.routing.queues import PREDECESSOR, SqsSource
from hookstream.app.sqs.client import Message
from hookstream.codecs.envelope import Event
from hookstream.codecs.json_items import members_of
from hookstream.codecs.json_payload import dump_json

__all__ = ["HAND_OVER", "pack", "pack_mark", "unpack"]

#: What the predecessor's door took out of GitHub's headers, and where its messages have it.
PREDECESSOR_HEADERS: Final = {
    "x-github-event": "event_type",
    "x-github-delivery": "delivery_id",
}
PAYLOAD: Final = "payload"
#: What the predecessor's workers read as the type of a hand-over mark.
HAND_OVER: Final = "hookstream.hand_over"
#: What SQS takes in no message, and JSON has within texts alone.
_NOT_IN_SQS: Final = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


def unpack(message: Message, source: SqsSource) -> Unpacked:
    """The webhook in a message. Pure.

    Its headers are the message's attributes by their own names, and what the source's ``headers``
    names. Raises BadRequestError: it is not of the source's format; the detail says what to do.
    """
    headers = {name.lower(): value for name, value in message.attributes.items()}
    if source.format == PREDECESSOR:
        return _of_predecessor(message, source, headers)
    headers |= _named(source.headers, message.attributes, {})
    return Unpacked(_hook(source, headers, message.body))


def _of_predecessor(message: Message, source: SqsSource, headers: dict[str, str]) -> Unpacked:
    try:
        # some senders' tools begin a text with a mark of its encoding
        members = members_of(message.body.removeprefix("\ufeff"))
        payload = members.pop(PAYLOAD)
        # what stands beside the payload is short
        rest: dict[str, Any] = {name: json.loads(text) for name, text in members.items()}
    except KeyError as error:
        raise BadRequestError(
            "the message has no `payload`, which the predecessor's have: if its body is the "
            'webhook itself, set the source\'s `format` to "raw"'
        ) from error
    except RecursionError as error:
        raise BadRequestError("the message is nested too deeply") from error
    except ValueError as error:
        raise BadRequestError(
            f"the message is no JSON object, which the predecessor's are ({str(error)[:100]})"
        ) from error
    named = {**PREDECESSOR_HEADERS, **source.headers}
    headers |= _named(named, message.attributes, rest)
    if payload.startswith('"'):
        # a body that was no JSON: Go wrote it as a text
        payload = json.loads(payload, strict=False)
    return Unpacked(
        _hook(source, headers, payload),
        event_type=word_at(rest, "event_type"),
        delivery_id=word_at(rest, "delivery_id"),
    )


def _named(
    named: Mapping[str, str], attributes: Mapping[str, str], data: Mapping[str, Any]
) -> dict[str, str]:
    """Headers that are found, by what names them."""
    found = {name: attributes.get(where) or word_at(data, where) for name, where in named.items()}
    return {name: value for name, value in found.items() if value}


def _hook(source: SqsSource, headers: dict[str, str], text: str) -> WebhookRequest:
    # lone surrogates, which JSON can name, are nothing that a body has
    body = text.encode(errors="replace")
    headers.setdefault("content-type", body_type(body))
    # it stands in the queue as it is
    headers.pop("content-encoding", None)
    shown = {name: (value,) for name, value in headers.items()}
    return WebhookRequest("POST", source.queue.url, shown, body, body)


def pack(event: Event, auth_context: Mapping[str, Any]) -> str:
    """An event as the predecessor's workers take it out of their queue. Pure.

    Its payload has been fetched. JSON stands there as it was sent; what is none is a text.
    """
    data = event.data()
    context = dict(auth_context)
    installation = value_at(data, "installation.id")
    if context and type(installation) is int:
        context.setdefault("installation_id", installation)
    before = {
        "delivery_id": event.delivery_id or event.event_id,
        "event_type": event.headers.get("x-github-event") or event.type,
        "repo_name": text_at(data, "repository.full_name"),
        "sender_name": text_at(data, "sender.login"),
    }
    parts = [dump_json(before).decode()[:-1], f'"{PAYLOAD}":{_written(event.payload)}']
    if context:
        parts.append(f'"auth_context":{dump_json(context).decode()}')
    return ",".join(parts).translate(_NOT_IN_SQS) + "}"


def _written(payload: bytes) -> str:
    """A payload as a value in JSON."""
    try:
        text = payload.decode()
        orjson.loads(text)
    except ValueError:
        return dump_json(payload.decode(errors="replace")).decode()
    return text


def pack_mark(tool_id: str, mark: str, auth_context: Mapping[str, Any]) -> str:
    """The message that says that what comes next of its group is worked on elsewhere."""
    body: dict[str, Any] = {
        "delivery_id": mark,
        "event_type": HAND_OVER,
        "repo_name": "",
        "sender_name": "",
        PAYLOAD: {"tool_id": tool_id, "mark": mark},
    }
    if auth_context:
        body["auth_context"] = dict(auth_context)
    return dump_json(body).decode()
