"""Asana."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import handed_over
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import kind_at, no_delivery, signed_by, type_at, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Notes,
    Provider,
    any_secret,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Hook-Signature")
SECRET_HEADER = "X-Hook-Secret"  # noqa: S105 the name of a header
TEXT = "text/plain"


def _learn(request: WebhookRequest, options: SignatureOptions) -> tuple[str, Answer] | None:
    if request.header(SCHEME.header):
        return None
    # of two nobody could say which the sender keeps
    handed = request.headers.get(SECRET_HEADER.lower(), ())
    return handed_over(handed[0], SECRET_HEADER) if len(handed) == 1 else None


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    events = value_at(request.json(), "events")
    return Answer(200, b"", TEXT) if isinstance(events, ARRAYS) and not len(events) else None


def _correlation(payload: Any) -> Iterator[str]:
    events = value_at(payload, "events")
    for event in events if isinstance(events, list) else ():
        # a comment and an attachment are about the task they are of
        for path in ("parent.gid", "resource.gid"):
            if found := word_at(event, path):
                yield f"asana:{found}"


PROVIDER = Provider(
    name="asana",
    title="Asana",
    verify=verified_by(SCHEME),
    event_type=type_at("events.0.resource.resource_type", "events.0.action"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    batch=Batch({"events": []}, kind=kind_at("resource.resource_type", "action")),
    # each event has its time in milliseconds, so equal ones are one
    dedup_strategy="payload",
    dedup_window_seconds=48 * HOUR,
    credential="the X-Hook-Secret that Asana sends when the webhook is made",
    check_secret=any_secret,
    learn=_learn,
    handshake=_handshake,
    correlation=_correlation,
    hosts=("app.asana.com",),
    notes=Notes(
        setup="`POST /webhooks` of Asana's API with the tool's URL as `target`",
        verified_by="`X-Hook-Signature`: hex HMAC-SHA256 of the body",
        type_from="`resource.resource_type` and `action`: `task.changed`",
        delivery_from="none is sent",
        why="each event has its time, `created_at`, in milliseconds",
        retries="for up to 24 hours",
        source="https://developers.asana.com/docs/webhooks-guide",
        answers=(
            (
                "the first one, of an `X-Hook-Secret`",
                "200, empty, the same header",
                "it is not signed: it hands over the secret, and becomes no event",
            ),
            ('`{"events": []}`', "200, empty", "Asana's heartbeat; it becomes no event"),
        ),
    ),
)
