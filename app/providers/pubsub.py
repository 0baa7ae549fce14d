"""Google Cloud Pub/Sub, push subscriptions; Gmail, Cloud Storage and others publish there."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.json_body import OBJECTS
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Delivery,
    Notes,
    Provider,
    event_name,
    id_at,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.google_oidc import (
    HEADER,
    TOLERANCE_SECONDS,
    google_keys,
    sign_google,
    verify_google,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.pinned import check_sender
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.inner import unfolded

__all__ = ["PROVIDER"]

#: Where messages are sent without their envelope, this is left of it.
ID_HEADER = "x-goog-pubsub-message-id"


def _message(request: WebhookRequest) -> Any:
    """The message with its data decoded; None where the body is none."""
    payload = request.json()
    if not isinstance(payload, OBJECTS) or value_at(payload, "message") is None:
        return None
    found = payload if isinstance(payload, dict) else payload.as_dict()
    return unfolded(found).get("message")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    message = _message(request)
    if isinstance(message, dict):
        return event_name(_named(message))
    return "message" if request.header(ID_HEADER) else UNKNOWN


def _named(message: dict[str, Any]) -> str:
    for path in ("attributes.eventType", "attributes.ce-type", "attributes.type"):
        if found := text_at(message, path):
            return found
    data = message.get("data")
    if text_at(data, "emailAddress") and word_at(data, "historyId"):
        return "gmail.history"
    if text_at(message, "attributes.buildId") and (status := text_at(data, "status")):
        return event_name("build", status.lower())
    if state := text_at(data, "incident.state"):
        return event_name("incident", state)
    return next((t for path in ("eventType", "type") if (t := text_at(data, path))), "message")


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    found = id_at(payload, "message.messageId") or id_at(payload, "message.message_id")
    return found or short_id(request.header(ID_HEADER))


def _correlation(payload: Any) -> Iterator[str]:
    attributes = value_at(payload, "message.attributes")
    if (bucket := text_at(attributes, "bucketId")) and (name := text_at(attributes, "objectId")):
        yield f"pubsub:gs/{bucket}/{name}"
    for path in (
        *(
            "message.data.emailAddress",
            "message.attributes.buildId",
            "message.attributes.ce-subject",
        ),
        *("message.data.id", "message.data.incident.incident_id", "message.orderingKey"),
    ):
        if found := word_at(payload, path):
            yield f"pubsub:{found}"
    if found := word_at(payload, "subscription"):
        yield f"pubsub:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    token = sign_google(hook.secret, hook.options, hook.url, hook.now)
    return {"Content-Type": JSON, "User-Agent": "APIs-Google", HEADER: f"Bearer {token}"}


def _secret(secret: str, options: SignatureOptions) -> None:
    check_sender(secret, "the service account's e-mail address")


PROVIDER = Provider(
    name="pubsub",
    title="Google Pub/Sub",
    keys=google_keys,
    verify=verify_google,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    keep_headers=(ID_HEADER, "x-goog-pubsub-subscription-name"),
    credential="the e-mail address of the service account that the subscription sends as",
    check_secret=_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds", "audience"}),
    hosts=("console.cloud.google.com",),
    notes=Notes(
        setup=(
            "a push subscription to the tool's URL with authentication on; its service account's "
            "e-mail address is the secret, its audience `options.audience` (unless it is the "
            "tool's URL)"
        ),
        verified_by=(
            "`Authorization`: a token (RS256) by Google's keys, which are fetched from "
            "`www.googleapis.com`: of this account, for this audience; the body is not signed"
        ),
        type_from=(
            "attribute `eventType`, `ce-type` or `type`, else what the data says: "
            "`OBJECT_FINALIZE`, `gmail.history`, `build.success`, `incident.open`; `message` where "
            "nothing does"
        ),
        delivery_from="`message.messageId`, else `x-goog-pubsub-message-id`",
        why="the message's id stays when it is sent again; tokens are used for an hour",
        retries="until it is taken, for as long as the topic keeps it (7 days)",
        source="https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions",
    ),
)
