"""SonarQube Server and Cloud."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import no_delivery, signed_by, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Sonar-Webhook-HMAC-SHA256")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if status := text_at(payload, "qualityGate.status"):
        return event_name("quality_gate", status.lower())
    # an analysis that failed has no gate
    status = text_at(payload, "status")
    return event_name("analysis", status.lower()) if status else UNKNOWN


def _correlation(payload: Any) -> Iterator[str]:
    key, branch = word_at(payload, "project.key"), word_at(payload, "branch.name")
    if key and branch:
        mark = "#" if word_at(payload, "branch.type") == "PULL_REQUEST" else "/"
        yield f"sonarqube:{key}{mark}{branch}"
        yield from tickets(branch)
    elif key:
        yield f"sonarqube:{key}"
    if sha := word_at(payload, "revision"):
        yield f"sonarqube:@{sha}"


PROVIDER = Provider(
    name="sonarqube",
    title="SonarQube",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the webhook's Secret",
    check_secret=any_secret,
    correlation=_correlation,
    hosts=("sonarcloud.io",),
    notes=Notes(
        setup="Administration, Configuration, Webhooks; a Secret",
        verified_by="`X-Sonar-Webhook-HMAC-SHA256`: hex HMAC-SHA256 of the body",
        type_from=(
            "`qualityGate.status`: `quality_gate.ok`, `quality_gate.error`; `analysis.failed` "
            "where there is none"
        ),
        delivery_from="none is sent",
        why="no id is sent; the body has the task, its time and each condition",
        source="https://docs.sonarsource.com/sonarqube-server/project-administration/webhooks/",
    ),
)
