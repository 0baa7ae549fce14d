"""Snyk: webhooks of an organisation."""

from collections.abc import Sequence

from hookstream.app.providers.lookup import text_at, value_at
from hookstream.app.providers.parts import keys_at, no_delivery, signed_by, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Answer,
    Notes,
    Provider,
    any_secret,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Hub-Signature", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # X-Snyk-Event has it, too, but is not signed
    payload = request.json()
    known = value_at(payload, "project") is not None and value_at(payload, "newIssues") is not None
    return "project_snapshot" if known else UNKNOWN


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    payload = request.json()
    is_ping = text_at(payload, "webhookId") and value_at(payload, "project") is None
    return Answer(200, b"", "text/plain") if is_ping else None


PROVIDER = Provider(
    name="snyk",
    title="Snyk",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(
        SCHEME,
        {"User-Agent": "Snyk-Webhooks/hookstream", "X-Snyk-Event": "project_snapshot/v0"},
        delivery_header="X-Snyk-Transport-ID",
    ),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("x-snyk-event", "x-snyk-transport-id", "x-snyk-timestamp"),
    credential="the secret given when the webhook was created",
    check_secret=any_secret,
    handshake=_handshake,
    correlation=keys_at("snyk", "project.id"),
    hosts=("app.snyk.io",),
    notes=Notes(
        setup="the Webhooks API (`POST /v1/org/ORG/webhooks`), with a secret",
        verified_by="`X-Hub-Signature`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from="what the body is of: `project_snapshot`",
        delivery_from="not read: `X-Snyk-Transport-ID` is not signed",
        why="the headers are not signed; the body has the project and when it was tested",
        source=("https://docs.snyk.io/snyk-api/using-specific-snyk-apis/webhooks-apis/webhooks"),
        answers=(("`ping`", "200", "a trial of the URL; it becomes no event"),),
    ),
)
