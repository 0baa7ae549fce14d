"""CloudEvents over HTTP: structured, batched and binary."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from hookstream.app.providers.batches import Batch, body_text
from hookstream.app.providers.first_contact import event_grid_challenge
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import kind_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.digests import key_bytes, keys_of, match
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

TOKEN = "access_token"  # noqa: S105 the name of a parameter
STRUCTURED = "application/cloudevents+json"
MAX_EVENTS = 8


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # one of two ways (HTTP 1.1 Web Hooks for Event Delivery, 3)
    if "authorization" not in request.headers and (token := request.query(TOKEN)):
        match(f"the query's {TOKEN}", keys_of(secrets), [key_bytes(token)])
    else:
        verify_token(request, secrets, "Authorization", scheme="Bearer")


def _attribute(request: WebhookRequest, name: str) -> str:
    """What a header says in binary mode (HTTP Protocol Binding, 3.1.3.2: quoted and escaped)."""
    text = request.header(f"ce-{name}")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return unquote(text)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # binary: the event is in headers, and its body may be anything
    if name := _attribute(request, "type"):
        return event_name(name)
    return event_name(text_at(request.json(), "type"))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    # an id is one of its source's
    if found := _attribute(request, "id"):
        return short_id(f"{_attribute(request, 'source')} {found}")
    payload = request.json()
    found = text_at(payload, "id")
    return short_id(f"{text_at(payload, 'source')} {found}") if found else ""


def _correlation(payload: Any) -> Iterator[str]:
    for event in payload[:MAX_EVENTS] if isinstance(payload, ARRAYS) else [payload]:
        source, subject = word_at(event, "source"), word_at(event, "subject")
        if source and subject:
            yield f"cloudevents:{source}#{subject}"


def _batch(request: WebhookRequest) -> str:
    # in binary mode the body is one event's data, which may be a list
    return "" if request.header("ce-type") else body_text(request)


def _sign(hook: Delivery) -> dict[str, str]:
    kind = body_type(hook.body)
    if b'"specversion"' in hook.body:
        kind = STRUCTURED
        if hook.body.lstrip()[:1] == b"[":
            kind = "application/cloudevents-batch+json"
    return {"Content-Type": kind, "Authorization": f"Bearer {hook.secret}"}


PROVIDER = Provider(
    name="cloudevents",
    title="CloudEvents",
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    batch=Batch([], kind=kind_at("type"), text=_batch, content_type=STRUCTURED),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        *("ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-specversion"),
        *("ce-dataschema", "ce-traceparent"),
    ),
    credential="the sender's bearer token",
    check_secret=any_secret,
    challenge=event_grid_challenge,
    correlation=_correlation,
    notes=Notes(
        setup="a bearer token; structured, batched or binary mode",
        verified_by=(
            "`Authorization: Bearer TOKEN`, or `?access_token=TOKEN` where the sender can do no "
            "better; nothing is signed"
        ),
        type_from="`type`, or `ce-type`",
        delivery_from="`source` and `id`, or `ce-source` and `ce-id`",
        why="source and id are one event's, as the specification has it",
        source="https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md",
        answers=(
            (
                "`OPTIONS` with `WebHook-Request-Origin`",
                "200, `WebHook-Allowed-Origin`",
                "the sender asks whether it may send; it becomes no event",
            ),
        ),
    ),
)
