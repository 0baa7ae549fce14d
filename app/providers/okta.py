"""Okta event hooks."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import echoed_json
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import answered_empty, delivery_at, kind_at, type_at
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "Authorization"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_token(request, secrets, options.header or HEADER)


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    if request.method != "GET":
        return None
    return echoed_json("verification", request.header("x-okta-verification-challenge"))


def _correlation(payload: Any) -> Iterator[str]:
    events = value_at(payload, "data.events")
    for event in events if isinstance(events, list) else ():
        targets = value_at(event, "target")
        for target in targets if isinstance(targets, list) else ():
            if found := word_at(target, "id"):
                yield f"okta:{found}"
        if found := word_at(event, "actor.id"):
            yield f"okta:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "Okta Event Hooks",
        hook.options.header or HEADER: hook.secret,
    }


PROVIDER = Provider(
    name="okta",
    title="Okta",
    verify=_verify,
    event_type=type_at("data.events.0.eventType"),
    delivery_id=delivery_at("data.events.0.uuid"),
    sign=signed(_sign),
    batch=Batch({"data": {"events": []}}, kind=kind_at("eventType")),
    # nothing is signed; the body's eventId is that of all events in it
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential="the event hook's Authentication secret, whole",
    check_secret=any_secret,
    challenge=_challenge,
    answer=answered_empty,
    correlation=_correlation,
    options=frozenset({"header"}),
    notes=Notes(
        setup="the event hook's Authentication secret; Authentication field `Authorization`, or "
        "another, named in `options.header`",
        verified_by="the secret in `Authorization` as it was typed in; Okta signs nothing",
        type_from="`eventType` of the event: `user.session.start`",
        delivery_from="`uuid` of the event, which is that of Okta's System Log",
        why="each event has an id; the body's `eventId` is that of all events in it",
        retries="once, where there is no answer in three seconds or a 5xx",
        source="https://developer.okta.com/docs/concepts/event-hooks/",
        answers=(
            (
                "all",
                "200, empty",
                "[Okta wants an empty answer](https://developer.okta.com/docs/"
                "concepts/event-hooks/)",
            ),
            (
                "GET with `X-Okta-Verification-Challenge`",
                "200, `verification` with its value",
                "Okta verifies the address so, once",
            ),
        ),
    ),
)
