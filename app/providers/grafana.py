"""Grafana: webhooks of alerting's contact points."""

from collections.abc import Sequence

from hookstream.app.providers.alert_groups import alert_keys, alert_type
from hookstream.app.providers.parts import no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Notes,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.shared_secret import password_of, verify_shared_secret
from hookstream.app.providers.signatures.option_checks import check_scheme_options
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Grafana-Alerting-Signature"
#: The time is signed where its header is named at Grafana, and then here.
READ = frozenset({"header", "signed", "timestamp_header", "tolerance_seconds"})


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    header = options.header or HEADER
    # a contact point signs, or has an Authorization header; a signature is not made good by one
    if "authorization" in request.headers and header.lower() not in request.headers:
        verify_shared_secret(request, secrets, SignatureOptions(), now)
    else:
        scheme = options.scheme(HEADER)
        scheme.verify(request, secrets, now=now, tolerance_seconds=options.tolerance())


def _sign(hook: Delivery) -> dict[str, str]:
    headers = {"Content-Type": JSON, "User-Agent": "Grafana"}
    return headers | hook.options.scheme(HEADER).sign(hook.request({}), hook.secret, now=hook.now)


PROVIDER = Provider(
    name="grafana",
    title="Grafana",
    verify=_verify,
    event_type=alert_type,
    delivery_id=no_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    # what still fires is told again after four hours, word for word: that is no duplicate
    dedup_window_seconds=HOUR,
    browsers_can_send=True,
    credential="the contact point's HMAC secret, or what its Authorization header has",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=alert_keys("grafana"),
    options=READ,
    check_options=lambda options: check_scheme_options(options, HEADER),
    hosts=("*.grafana.net",),
    notes=Notes(
        setup=(
            "Contact point, Webhook: HMAC Signature, Secret (Grafana 12 and later), or the "
            "Authorization header or Basic Authentication"
        ),
        verified_by=(
            "`X-Grafana-Alerting-Signature`: hex HMAC-SHA256 of the body; where its timestamp "
            "header is set, `options.timestamp_header` names it and `options.signed` is "
            "`{timestamp}:{body}`. Else `Authorization`: Basic (`user:password`) or Bearer"
        ),
        type_from="`status`: `alert.firing`, `alert.resolved`",
        delivery_from="none is sent",
        batch="`alerts[]` is one event: a group is one notification, as its rules say",
        why=(
            "no id is sent; what still fires is told again after four hours, the same, and is "
            "no duplicate"
        ),
        source=(
            "https://grafana.com/docs/grafana/latest/alerting/configure-notifications/"
            "manage-contact-points/integrations/webhook-notifier/"
        ),
    ),
)
