"""Buildkite: webhooks of pipelines, agents and package registries."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import no_delivery, ping_at, signed_by, type_at
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import (
    DEFAULT_TOLERANCE_SECONDS,
    SignatureOptions,
)
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="X-Buildkite-Signature",
    signed="{timestamp}.{body}",
    signature_name="signature",
    timestamp_name="timestamp",
)
TOKEN = "X-Buildkite-Token"  # noqa: S105 the name of a header


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # a setting at Buildkite: one of the two is sent; a signature is not made good by a token
    if TOKEN.lower() in request.headers and SCHEME.header.lower() not in request.headers:
        verify_token(request, secrets, TOKEN)
    else:
        SCHEME.verify(request, secrets, now=now, tolerance_seconds=options.tolerance())


def _correlation(payload: Any) -> Iterator[str]:
    pipeline = word_at(payload, "pipeline.slug")
    if pipeline and (number := word_at(payload, "build.number")):
        yield f"buildkite:{pipeline}#{number}"
    for path in ("build.id", "job.id", "agent.id", "package.id", "cluster_token.id"):
        if found := word_at(payload, path):
            yield f"buildkite:{found}"
    yield from tickets(word_at(payload, "build.branch"), word_at(payload, "build.message"))


PROVIDER = Provider(
    name="buildkite",
    title="Buildkite",
    verify=_verify,
    event_type=type_at("event"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME, type_header="X-Buildkite-Event"),
    # a build that is rebuilt has another id, and each state of it another body
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    keep_headers=("x-buildkite-event",),
    credential="the notification service's Token",
    check_secret=any_secret,
    handshake=ping_at("event", "ping"),
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("buildkite.com",),
    notes=Notes(
        setup="Notification Services, Webhook; Token, best sent as X-Buildkite-Signature",
        verified_by=(
            "`X-Buildkite-Signature`: `timestamp=` and `signature=`, hex HMAC-SHA256 of "
            "`time.body`; or `X-Buildkite-Token`, which is the token itself"
        ),
        type_from="`event`: `build.finished`",
        delivery_from="none is sent",
        why="no id is sent; the body names the build and its state",
        source="https://buildkite.com/docs/apis/webhooks/pipelines",
        answers=(("`ping`", "200", "the webhook's settings have changed; it becomes no event"),),
    ),
)
