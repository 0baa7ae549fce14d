"""Argo CD: its notifications' webhook service.

Argo CD has no payload of its own: a template in its settings says what is sent. This reads
``{"trigger": …, "url": …, "app": {{toJson .app}}}``, the application as Kubernetes has it.
"""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if trigger := text_at(payload, "trigger"):
        return event_name(trigger)
    phase = text_at(payload, "app.status.operationState.phase")
    return event_name("sync", phase.lower()) if phase else UNKNOWN


def _correlation(payload: Any) -> Iterator[str]:
    if name := word_at(payload, "app.metadata.name"):
        yield f"argocd:{name}"
    for path in ("app.status.operationState.syncResult.revision", "app.status.sync.revision"):
        if sha := word_at(payload, path):
            yield f"argocd:@{sha}"


PROVIDER = Provider(
    name="argocd",
    title="Argo CD",
    verify=verify_shared_secret,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed(shared_secret_headers),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="the token of the service's Authorization header, or its basicAuth user:password",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=_correlation,
    options=frozenset({"header"}),
    notes=Notes(
        setup=(
            "`service.webhook.hookstream` with `headers` (Authorization, `Bearer $token`) or "
            "`basicAuth`; each trigger's template sends the body "
            '`{"trigger": "on-sync-failed", "url": "{{.context.argocdUrl}}/applications/'
            '{{.app.metadata.name}}", "app": {{toJson .app}}}`'
        ),
        verified_by=VERIFIED_BY,
        type_from="`trigger`, else the operation's phase: `on-sync-failed`, `sync.failed`",
        delivery_from="none is sent",
        why="no id is sent; the application has its `resourceVersion`, which each change moves",
        source=(
            "https://argo-cd.readthedocs.io/en/stable/operator-manual/notifications/services/"
            "webhook/"
        ),
    ),
)
