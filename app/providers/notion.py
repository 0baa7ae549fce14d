"""Notion."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.first_contact import handed_over
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import (
    answered_200,
    delivery_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Answer, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Notion-Signature", prefix="sha256=")
MAX_BODY_BYTES = 4096


def _learn(request: WebhookRequest, options: SignatureOptions) -> tuple[str, Answer] | None:
    if request.header(SCHEME.header) or len(request.decoded) > MAX_BODY_BYTES:
        return None
    payload = request.json()
    if text_at(payload, "type"):
        return None
    return handed_over(text_at(payload, "verification_token"))


def _correlation(payload: Any) -> Iterator[str]:
    # a comment is about its page
    for path in ("data.page_id", "entity.id"):
        if found := word_at(payload, path):
            yield f"notion:{found}"
    if word_at(payload, "data.parent.type") not in ("", "space") and (
        parent := word_at(payload, "data.parent.id")
    ):
        yield f"notion:{parent}"


PROVIDER = Provider(
    name="notion",
    title="Notion",
    verify=verified_by(SCHEME),
    event_type=type_at("type"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME),
    # the body has the number of the attempt, so a repetition's differs
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the verification_token that Notion sends when the subscription is made",
    check_secret=any_secret,
    learn=_learn,
    answer=answered_200,
    correlation=_correlation,
    hosts=("www.notion.so", "notion.so"),
    notes=Notes(
        setup=(
            "Webhooks of the connection, Create a subscription; the token that arrives here is to "
            "be pasted there"
        ),
        verified_by="`X-Notion-Signature`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from="`type`: `page.content_updated`",
        delivery_from="`id`",
        why="`attempt_number` in the body counts the attempts, so a retry's body differs",
        retries="up to 8 attempts (`attempt_number` in the body is 1 to 8)",
        source="https://developers.notion.com/reference/webhooks",
        answers=(
            (
                "the first one, of a `verification_token`",
                "200, empty",
                "it is not signed: it hands over the secret, and becomes no event",
            ),
            ("all", "200, the same JSON", "Notion asks for 200"),
        ),
    ),
)
