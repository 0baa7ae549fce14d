"""Mailchimp audiences."""

from collections.abc import Sequence

from hookstream.app.providers.parts import answered_empty, keys_at, no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.url_token import url_with_token, verify_url_token

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_url_token(request, secrets)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(request.form().get("type", ""))


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """Mailchimp looks whether the URL is there, with GET, when it is set."""
    return Answer(200, b"", "text/plain") if request.method == "GET" else None


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": body_type(hook.body), "User-Agent": "MailChimp"}


PROVIDER = Provider(
    name="mailchimp",
    title="Mailchimp",
    verify=_verify,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed(_sign),
    address=url_with_token,
    # fired_at is part of the form
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="a random text that stands in the webhook's URL at Mailchimp, as ?secret=…",
    check_secret=any_secret,
    challenge=_challenge,
    answer=answered_empty,
    correlation=keys_at("mailchimp", "data[id]", "data[new_id]", "data[web_id]", "data[list_id]"),
    notes=Notes(
        setup="the tool's URL with `?secret=` and the secret, URL-encoded, as the webhook's URL",
        verified_by="`secret` in the URL's query; Mailchimp signs nothing",
        type_from="`type`: `unsubscribe`",
        delivery_from="none is sent",
        why="`fired_at` is part of the form, to the second",
        source="https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/",
        answers=(
            ("all", "200, empty", "no other status is known to count"),
            ("GET", "200, empty", "Mailchimp looks whether the URL is there when it is set"),
        ),
    ),
)
