"""Jenkins, by its Notification plugin."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
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
    phase = text_at(request.json(), "build.phase")
    return event_name("build", phase.lower()) if phase else UNKNOWN


def _correlation(payload: Any) -> Iterator[str]:
    name, number = word_at(payload, "name"), word_at(payload, "build.number")
    if name and number:
        yield f"jenkins:{name}#{number}"
    if sha := word_at(payload, "build.scm.commit"):
        yield f"jenkins:@{sha}"
    yield from tickets(word_at(payload, "build.scm.branch"), word_at(payload, "build.notes"))


PROVIDER = Provider(
    name="jenkins",
    title="Jenkins",
    verify=verify_shared_secret,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed(shared_secret_headers),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="user:password as in the endpoint's URL, https://user:password@…",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=_correlation,
    options=frozenset({"header"}),
    notes=Notes(
        setup=(
            "the Notification plugin: Job Notifications, format JSON, protocol HTTP, the URL with "
            "`user:password@` before its host"
        ),
        verified_by=VERIFIED_BY,
        type_from="`build.phase`: `build.started`, `build.completed`, `build.finalized`",
        delivery_from="none is sent",
        why="no id is sent; the body has the build, its phase and a time",
        retries="as often as the endpoint's Retries says",
        source="https://plugins.jenkins.io/notification/",
    ),
)
